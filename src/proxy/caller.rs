//! Whose connection it is, as far as anybody may know.

use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use http::HeaderValue;

use crate::proxy_protocol::{Ends, Preamble};
use crate::upstream::Pool;

/// The client of one connection. Everything that shows, logs or passes on its address has it from here.
#[derive(Debug)]
pub struct Caller {
    pool: Rc<Pool>,
    client: Cell<SocketAddr>,
    /// Boxed: few have one.
    preamble: OnceCell<Box<Preamble>>,
}

impl Caller {
    /// The client of a connection that comes from `peer`.
    #[must_use]
    pub fn new(pool: &Rc<Pool>, peer: SocketAddr) -> Rc<Self> {
        Rc::new(Self { pool: Rc::clone(pool), client: Cell::new(peer), preamble: OnceCell::new() })
    }

    /// Says between whom the connection is: the socket's own ends, or those of the connection that a load balancer
    /// passes on. Before anything that is asked goes to the app.
    pub fn between(&self, ends: Ends) {
        self.client.set(ends.client);
        if let Some(version) = self.pool.send_proxy() {
            // Connections to the app may have begun with the first one, so a second changes nothing.
            let _ = self.preamble.set(Box::new(Preamble::new(version, ends)));
        }
    }

    /// The client's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.client.get()
    }

    /// The client's IP address as `X-Forwarded-For` has it.
    #[must_use]
    pub fn ip(&self) -> HeaderValue {
        HeaderValue::try_from(self.ip_text()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    /// The same as plain text.
    #[must_use]
    pub fn ip_text(&self) -> Vec<u8> {
        match self.addr().ip().to_canonical() {
            IpAddr::V4(ip) => v4_text(ip),
            IpAddr::V6(ip) => ip.to_string().into_bytes(),
        }
    }

    /// What connections to the app that serve this client begin with; none without `--send-proxy`.
    #[must_use]
    pub fn preamble(&self) -> Option<&Preamble> {
        self.preamble.get().map(AsRef::as_ref)
    }
}

/// An IPv4 address as text. Every connection has need of it, and the library's way, which can pad and align, was a tenth of
/// all that ebb itself does for a connection with one request.
fn v4_text(ip: Ipv4Addr) -> Vec<u8> {
    let mut text = Vec::with_capacity("255.255.255.255".len());
    for (n, octet) in ip.octets().into_iter().enumerate() {
        if n > 0 {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
    text
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(preamble) = self.preamble.get() {
            self.pool.forget(preamble);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_written_as_the_library_does() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::new(octet, 0, 255 - octet, octet);
            assert_eq!(String::from_utf8(v4_text(ip)).unwrap(), ip.to_string());
        }
    }
}
