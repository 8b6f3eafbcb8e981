//! `--forward [http://|https://|tcp://][ADDR:]PORT=UPSTREAM`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// One port that ebb fronts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// What clients speak there.
    pub scheme: Scheme,
    /// Where clients connect.
    pub listen: Listen,
    /// Where the app is.
    pub upstream: Upstream,
}

/// What is spoken on a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 and HTTP/2 in the clear.
    Http,
    /// The same over TLS.
    Https,
    /// Anything: bytes.
    Tcp,
}

/// Where a forward listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// One address, or every one (IPv6 and IPv4) when absent.
    pub ip: Option<IpAddr>,
    /// 0 lets the kernel choose.
    pub port: u16,
}

impl Listen {
    /// The address to bind.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), self.port)
    }
}

/// Where the app listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A TCP port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A forward that can't be understood; the text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// There is no `=`.
    #[error("there is no '=': write [ADDR:]PORT=UPSTREAM, like 8080=3000")]
    NoUpstream,
    /// The scheme is none of ours.
    #[error(
        "'{0}://' is not something ebb can forward: write https://, tcp:// for any bytes, or http://, which may be \
         left out"
    )]
    Scheme(String),
    /// What is left of `=` is no address.
    #[error(
        "'{0}' is no place to listen: write a port (8080), or an address with one (127.0.0.1:8080, [::1]:8080)"
    )]
    Listen(String),
    /// What is right of `=` is no upstream.
    #[error("'{0}' is no upstream: write PORT, HOST:PORT or unix:/path")]
    Upstream(String),
}

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (listen, upstream) = text.split_once('=').ok_or(ForwardError::NoUpstream)?;
        let (scheme, listen) = match listen.split_once("://") {
            None => (Scheme::Http, listen),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("tcp", rest)) => (Scheme::Tcp, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((other, _)) => return Err(ForwardError::Scheme(other.to_owned())),
        };
        Ok(Self { scheme, listen: parse_listen(listen)?, upstream: parse_upstream(upstream)? })
    }
}

fn parse_listen(text: &str) -> Result<Listen, ForwardError> {
    if let Ok(port) = text.parse() {
        return Ok(Listen { ip: None, port });
    }
    if let Some(Ok(port)) = text.strip_prefix("*:").map(str::parse) {
        return Ok(Listen { ip: None, port });
    }
    let addr: SocketAddr = text.parse().map_err(|_| ForwardError::Listen(text.to_owned()))?;
    Ok(Listen { ip: Some(addr.ip()), port: addr.port() })
}

fn parse_upstream(text: &str) -> Result<Upstream, ForwardError> {
    let wrong = || ForwardError::Upstream(text.to_owned());
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') { Ok(Upstream::Unix(path.into())) } else { Err(wrong()) };
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (Ipv4Addr::LOCALHOST.to_string(), text),
        Some((host, port)) => (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port),
    };
    let bare_v6 = host.contains(':') && host.parse::<Ipv6Addr>().is_err();
    let odd = host.is_empty() || bare_v6 || host.contains(['/', ' ', '@']);
    match port.parse() {
        Ok(port) if port > 0 && !odd => Ok(Upstream::Tcp { host, port }),
        _ => Err(wrong()),
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Forward {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_understood() {
        let plain = forward("8080=3000");
        assert_eq!(plain.listen.addr().to_string(), "[::]:8080");
        assert_eq!(plain.upstream.to_string(), "127.0.0.1:3000");
        assert_eq!(forward("http://127.0.0.1:80=app:3000").listen.addr().to_string(), "127.0.0.1:80");
        assert_eq!(forward("https://443=3000").scheme, Scheme::Https);
        assert_eq!(forward("[::1]:80=[::1]:3000").upstream.to_string(), "[::1]:3000");
        assert_eq!(forward("tcp://5432=db:5432").scheme, Scheme::Tcp);
        assert_eq!(forward("0=unix:/run/app.sock").upstream.to_string(), "unix:/run/app.sock");
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, needle) in [
            ("8080", "there is no '='"),
            ("ftp://80=3000", "'ftp://' is not something"),
            ("localhost:80=3000", "'localhost:80' is no place to listen"),
            ("99999=3000", "'99999' is no place"),
            ("80=", "'' is no upstream"),
            ("80=0", "'0' is no upstream"),
            ("80=:3000", "':3000' is no upstream"),
            ("80=unix:app.sock", "'unix:app.sock' is no upstream"),
            ("80=http://app:3000", "is no upstream"),
        ] {
            let error = text.parse::<Forward>().unwrap_err().to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
