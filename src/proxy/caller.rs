//! Whose connection it is, as far as anybody may know.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
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
        let ip = self.addr().ip().to_canonical().to_string();
        HeaderValue::try_from(ip).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    /// What connections to the app that serve this client begin with; none without `--send-proxy`.
    #[must_use]
    pub fn preamble(&self) -> Option<&Preamble> {
        self.preamble.get().map(AsRef::as_ref)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(preamble) = self.preamble.get() {
            self.pool.forget(preamble);
        }
    }
}
