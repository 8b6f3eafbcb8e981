//! What the flags mean: forwards, durations and the drain's one budget, checked before anything starts.
//!
//! Every part of the program takes its own struct from here; nobody sees the whole [`Config`] but the
//! composition root.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::proxy_protocol::Version;

mod budget;
mod forward;
pub mod tls;

pub use budget::{Budget, BudgetError, DRAINING_MIN, MARGIN};
pub use forward::{Forward, ForwardError, Listen, Scheme, Upstream};
pub use tls::{TlsConfig, TlsFiles};

/// Everything `ebb proxy` was told, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is listened on and where it goes; at least one, no port twice.
    pub forwards: Vec<Forward>,
    /// Event loops, each one thread.
    pub workers: usize,
    /// The drain's times.
    pub budget: Budget,
    /// `User-Agent` prefixes of probers, besides the built-in ones.
    pub probe_user_agents: Vec<String>,
    /// What a client may do, and for how long.
    pub limits: Limits,
    /// Every client connection begins with a PROXY protocol header.
    pub accept_proxy: bool,
    /// How TLS is spoken with clients.
    pub tls: TlsConfig,
    /// How the app is spoken to.
    pub upstream: UpstreamConfig,
    /// What becomes of `X-Forwarded-*`.
    pub forwarded: Forwarded,
    /// One line a request, or none.
    pub access_log: AccessLog,
    /// The side door.
    pub admin: AdminConfig,
}

/// Bounds on what clients may take up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A keep-alive connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// A request head must be complete this long after its first byte.
    pub header_timeout: Duration,
    /// A TLS handshake must be complete this long after the connection was accepted.
    pub handshake_timeout: Duration,
    /// Client connections at a time, over all workers.
    pub max_connections: usize,
    /// The largest request head, in bytes.
    pub max_header_bytes: usize,
    /// An HTTP/2 client that has been silent for this long is pinged; zero: never.
    pub http2_keepalive: Duration,
    /// Pipes that a worker may have to splice through, of two file descriptors each.
    pub max_pipes: usize,
}

/// How the app is spoken to.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamConfig {
    /// A pooled connection is dropped when it was not used for this long.
    pub idle: Duration,
    /// A connection to the app must stand within this.
    pub connect_timeout: Duration,
    /// What is spoken; none: what the client speaks.
    pub protocol: Option<UpstreamProtocol>,
    /// A connection to the app begins with a PROXY protocol header of this version.
    pub send_proxy: Option<Version>,
}

/// What the app is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in the clear, with prior knowledge (RFC 9113, section 3.3).
    H2c,
}

/// Who is listened to on the admin port.
#[derive(Clone)]
pub struct AdminConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The bearer token that lets callers from other addresses drain.
    pub token: Option<String>,
    /// Lets every address drain without a token.
    pub open: bool,
}

impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConfig")
            .field("addr", &self.addr)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("open", &self.open)
            .finish()
    }
}

/// What becomes of the `X-Forwarded-For`, `-Proto` and `-Host` that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Forwarded {
    /// Kept; the client's address is added to the end of `-For`, the other two are set when missing.
    #[default]
    Append,
    /// Replaced by what ebb itself sees.
    Replace,
    /// Passed on untouched.
    Off,
}

/// The format of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AccessLog {
    /// No access log.
    #[default]
    Off,
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

/// Reads a duration as the flags write it: `500ms`, `15s`, `2m`, `1m 30s`.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, like 500ms, 15s or 2m"))
}

/// As [`parse_duration`], for what can't be nothing: a time-out that would end everything at once, a pause between two looks.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_duration_above_zero(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() { Err("write a duration above zero".to_owned()) } else { Ok(duration) }
}

/// Reads a byte count: a plain number, or one with `KiB`, `MiB`, `K` or `M`.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" | "k" => 1024,
        "M" | "MiB" => 1024 * 1024,
        _ => 0,
    };
    match digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(bytes) if unit > 0 => Ok(bytes),
        _ => Err("write a number of bytes, like 65536 or 64KiB".to_owned()),
    }
}

/// Reads an address with a port; a port alone means every address, IPv6 and IPv4.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::from([0u16; 8]), port));
    }
    text.parse().map_err(|_| "write ADDRESS:PORT, like 127.0.0.1:9900 or [::]:9900".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert!(parse_duration("15").unwrap_err().contains("500ms, 15s or 2m"));
        assert_eq!(parse_bytes("64KiB"), Ok(65536));
        assert_eq!(parse_bytes("100"), Ok(100));
        assert!(parse_bytes("64QB").is_err());
        assert!(parse_bytes("99999999999999999999M").is_err());
        assert!(parse_bytes("").is_err());
    }

    #[test]
    fn addresses() {
        assert_eq!(parse_addr("9900").unwrap().to_string(), "[::]:9900");
        assert_eq!(parse_addr("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert!(parse_addr("localhost").is_err());
    }
}
