//! Where a connection's requests come from, as the app is told in `X-Forwarded-*`.

use crate::config::Forwarded;

/// What the app is told.
#[derive(Debug)]
pub struct Origin {
    /// What becomes of what earlier proxies have said.
    pub forwarded: Forwarded,
    /// The client's address.
    pub client: Vec<u8>,
    /// The scheme that the client speaks.
    pub proto: &'static str,
}
