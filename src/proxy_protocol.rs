//! The PROXY protocol, versions 1 and 2: the header in which a proxy says whose connection it passes on
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>; "the specification" below).
//!
//! Nothing here knows of sockets. The [`Parser`] takes bytes in any portions and never one that is not the header's;
//! [`Preamble`] is a header that is ready to be written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Begins a header of version 1.
const V1: &[u8] = b"PROXY ";

/// The longest line of version 1, with its line end (the specification, section 2.1).
const V1_MAX: usize = 107;

/// Begins a header of version 2; no text protocol begins like this.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 up to its addresses.
const V2_FIXED: usize = 16;

/// What a header of version 2 may hold behind its fixed part. The addresses are 216 bytes at the most; the rest is
/// extensions, of which the largest in use (a certificate's subject) are some hundred bytes.
const V2_MAX: usize = 4 << 10;

/// Which of the two forms a header is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of a connection, as its client sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub server: SocketAddr,
}

/// A header that has been read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// None when the header names no TCP addresses (`UNKNOWN`, `LOCAL`, Unix sockets): those of the connection that it
    /// came on hold.
    pub ends: Option<Ends>,
}

/// Why these bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// They begin like neither version.
    #[error("it does not begin like a PROXY protocol header")]
    Signature,
    /// Version 1: a line longer than any header can be.
    #[error("the line is longer than 107 bytes")]
    LongLine,
    /// Version 1: not what the specification's grammar allows.
    #[error("the line is not PROXY TCP4|TCP6|UNKNOWN with two addresses and two ports")]
    Line,
    /// Version 2: a version or a command that there is not.
    #[error("the version is not 2 or the command neither LOCAL nor PROXY")]
    Command,
    /// Version 2: an address family or a transport that there is not.
    #[error("the address family or the transport is unknown")]
    Family,
    /// Version 2: too short for its addresses.
    #[error("it is too short for the addresses it should hold")]
    Short,
    /// Version 2: longer than anybody needs.
    #[error("it is longer than 4 KiB")]
    Long,
}

/// Reads one header, in whatever portions its bytes come.
#[derive(Debug)]
pub struct Parser {
    /// What may be needed again: a line of version 1, or the fixed part and the addresses of version 2.
    kept: [u8; V1_MAX],
    len: usize,
    /// Bytes of version 2 that are the header's but say nothing to us.
    skip: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self { kept: [0; V1_MAX], len: 0, skip: 0 }
    }
}

impl Parser {
    /// Whether the header has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.len > 0
    }

    /// Takes what belongs to the header from the front of `bytes`: says how many bytes that are, and what the header
    /// says if it is whole now. Without a header all of `bytes` was taken.
    ///
    /// # Errors
    /// The bytes so far can't be the beginning of a header. Nothing more should be fed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Header>), Invalid> {
        let mut taken = 0;
        while taken < bytes.len() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len() - taken);
                self.skip -= n;
                taken += n;
            } else {
                self.kept[self.len] = bytes[taken];
                self.len += 1;
                taken += 1;
                self.check()?;
            }
            if self.skip == 0
                && let Some(header) = self.header()?
            {
                return Ok((taken, Some(header)));
            }
        }
        Ok((taken, None))
    }

    fn kept(&self) -> &[u8] {
        &self.kept[..self.len]
    }

    /// Looks at the byte that was kept last. From here on there is room for one more.
    fn check(&mut self) -> Result<(), Invalid> {
        let kept = self.kept();
        if kept[0] == V2[0] { self.check_v2() } else { check_v1(kept) }
    }

    fn check_v2(&mut self) -> Result<(), Invalid> {
        let kept = self.kept();
        match kept.len() {
            len @ 1..=12 if kept[len - 1] != V2[len - 1] => Err(Invalid::Signature),
            13 if !matches!(kept[12], 0x20 | 0x21) => Err(Invalid::Command),
            14 if kept[13] >> 4 > 3 || kept[13] & 0xf > 2 => Err(Invalid::Family),
            V2_FIXED => {
                let (body, addresses) = (self.v2_body(), self.v2_addresses());
                if body > V2_MAX {
                    return Err(Invalid::Long);
                }
                if body < addresses.len() {
                    return Err(Invalid::Short);
                }
                if !addresses.are_kept() {
                    self.skip = body;
                }
                Ok(())
            }
            len if len == V2_FIXED + self.v2_addresses().len() => {
                self.skip = self.v2_body() - self.v2_addresses().len();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The length of what follows the fixed part.
    fn v2_body(&self) -> usize {
        usize::from(u16::from_be_bytes([self.kept[14], self.kept[15]]))
    }

    fn v2_addresses(&self) -> Addresses {
        match (self.kept[12], self.kept[13]) {
            // LOCAL: "the receiver must discard the protocol block including the family".
            (0x20, _) => Addresses::None,
            (_, 0x11) => Addresses::Tcp4,
            (_, 0x21) => Addresses::Tcp6,
            // Over something that is not a stream, or not known: nothing that could be a TCP client's address.
            (_, 0x10 | 0x12) => Addresses::Unused(12),
            (_, 0x20 | 0x22) => Addresses::Unused(36),
            (_, 0x30..=0x32) => Addresses::Unused(216),
            _ => Addresses::None,
        }
    }

    /// The header, if all of it is here.
    fn header(&self) -> Result<Option<Header>, Invalid> {
        let kept = self.kept();
        if kept[0] != V2[0] {
            return kept.strip_suffix(b"\r\n").map(v1).transpose();
        }
        if kept.len() < V2_FIXED {
            return Ok(None);
        }
        let (addresses, bytes) = (self.v2_addresses(), &kept[V2_FIXED..]);
        if addresses.are_kept() && bytes.len() < addresses.len() {
            return Ok(None);
        }
        Ok(Some(Header { ends: addresses.decode(bytes) }))
    }
}

/// What a header of version 2 holds for addresses.
#[derive(Debug, Clone, Copy)]
enum Addresses {
    None,
    Tcp4,
    Tcp6,
    /// So many bytes of no interest.
    Unused(usize),
}

impl Addresses {
    fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Tcp4 => 12,
            Self::Tcp6 => 36,
            Self::Unused(len) => len,
        }
    }

    fn are_kept(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }

    fn decode(self, bytes: &[u8]) -> Option<Ends> {
        match self {
            Self::Tcp4 => ends_of::<4, Ipv4Addr>(bytes),
            Self::Tcp6 => ends_of::<16, Ipv6Addr>(bytes),
            Self::None | Self::Unused(_) => None,
        }
    }
}

/// Two addresses of `N` bytes, then two ports.
fn ends_of<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(bytes: &[u8]) -> Option<Ends> {
    let (client, rest) = bytes.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let (client_port, rest) = rest.split_first_chunk()?;
    let (server_port, _) = rest.split_first_chunk()?;
    let addr = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(A::from(*ip).into(), u16::from_be_bytes(*port));
    Some(Ends { client: addr(client, client_port), server: addr(server, server_port) })
}

fn check_v1(line: &[u8]) -> Result<(), Invalid> {
    let last = line.len() - 1;
    let after_cr = last > 0 && line[last - 1] == b'\r';
    match line[last] {
        byte if last < V1.len() => {
            if byte == V1[last] {
                Ok(())
            } else {
                Err(Invalid::Signature)
            }
        }
        // The line ends with both or goes on without either.
        b'\n' if after_cr => Ok(()),
        b'\n' => Err(Invalid::Line),
        _ if after_cr => Err(Invalid::Line),
        _ if line.len() == V1_MAX => Err(Invalid::LongLine),
        _ => Ok(()),
    }
}

/// A line without its end.
fn v1(line: &[u8]) -> Result<Header, Invalid> {
    let line = line.strip_prefix(V1).ok_or(Invalid::Signature)?;
    // "The receiver must ignore anything presented before the CRLF".
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Header { ends: None });
    }
    v1_ends(line).map(|ends| Header { ends: Some(ends) }).ok_or(Invalid::Line)
}

fn v1_ends(line: &[u8]) -> Option<Ends> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let ip: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (client, server) = (ip(words.next()?)?, ip(words.next()?)?);
    let (client_port, server_port) = (port(words.next()?)?, port(words.next()?)?);
    let ends =
        Ends { client: SocketAddr::new(client, client_port), server: SocketAddr::new(server, server_port) };
    words.next().is_none().then_some(ends)
}

/// Decimal without a sign or leading zeros, which some would take for octal.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
    if plain { word.parse().ok() } else { None }
}

/// A header to be written before anything else. Two are equal when they say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Preamble(Arc<[u8]>);

impl Preamble {
    /// Of a connection whose ends are these.
    #[must_use]
    pub fn new(version: Version, ends: Ends) -> Self {
        Self(match version {
            Version::V1 => to_v1(ends).into_bytes().into(),
            Version::V2 => to_v2(ends).into(),
        })
    }

    /// As it is written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Two addresses of one family; an IPv4 client of an IPv6 socket is an IPv4 client.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
    Mixed,
}

impl Pair {
    fn of(ends: Ends) -> Self {
        let (client, server) = (ends.client.ip(), ends.server.ip());
        match (client.to_canonical(), server.to_canonical()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => Self::V4(client, server),
            _ => match (client, server) {
                (IpAddr::V6(client), IpAddr::V6(server)) => Self::V6(client, server),
                _ => Self::Mixed,
            },
        }
    }
}

fn to_v1(ends: Ends) -> String {
    let ports = format!("{} {}", ends.client.port(), ends.server.port());
    match Pair::of(ends) {
        Pair::V4(client, server) => format!("PROXY TCP4 {client} {server} {ports}\r\n"),
        Pair::V6(client, server) => format!("PROXY TCP6 {client} {server} {ports}\r\n"),
        Pair::Mixed => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

fn to_v2(ends: Ends) -> Vec<u8> {
    let mut header = V2.to_vec();
    let mut put = |family: u8, client: &[u8], server: &[u8]| {
        let ports = [ends.client.port().to_be_bytes(), ends.server.port().to_be_bytes()];
        let len = u8::try_from(client.len() + server.len()).map_or(0, |len| len + 4);
        header.extend([0x21, family, 0, len]);
        header.extend(client);
        header.extend(server);
        header.extend(ports.as_flattened());
    };
    match Pair::of(ends) {
        Pair::V4(client, server) => put(0x11, &client.octets(), &server.octets()),
        Pair::V6(client, server) => put(0x21, &client.octets(), &server.octets()),
        Pair::Mixed => header.extend([0x21, 0x00, 0, 0]),
    }
    header
}

#[cfg(test)]
mod tests;
