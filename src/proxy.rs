//! What happens to a request, top to bottom.
//!
//! ```text
//!  connection ─▶ InFlight   counts it, ends it at the drain's deadline
//!                Headers    hop-by-hop fields, X-Forwarded-*, Host
//!                Forward    the app's pool, 100-continue, upgrades
//! ```
//!
//! Every layer answers with a response: errors become one in one place, [`Error`].

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use tower::Layer as _;

use crate::config::{Forwarded, Scheme};
use crate::metrics::Shard;
use crate::telemetry::AccessLog;
use crate::upstream::{Pool, Sent};

mod body;
mod caller;
mod error;
mod events;
mod forward;
mod grpc;
mod headers;
mod in_flight;

pub use body::{Body, BodyError};
pub use caller::Caller;
pub use error::{Error, Form};
use forward::Forward;
use headers::{Headers, HeadersLayer};
pub use in_flight::Exchange;
pub use in_flight::Guard;
use in_flight::InFlight;

/// What the requests of one worker on one forward share.
#[derive(Debug)]
pub struct Route {
    /// The `forward` label.
    pub forward: String,
    /// What clients speak there.
    pub scheme: Scheme,
    /// The way to the app.
    pub pool: Rc<Pool>,
    /// What becomes of `X-Forwarded-*`.
    pub forwarded: Forwarded,
    /// Where requests are counted.
    pub shard: Arc<Shard>,
    /// Where requests are logged.
    pub access_log: Option<AccessLog>,
}

/// The stack, one for each connection.
pub type Stack = InFlight<Headers<Forward>>;

/// An exchange that somebody else has begun, and which the stack takes over with the next request that it gets, which is
/// the same.
#[derive(Debug)]
pub struct Begun {
    /// Says that it is in flight.
    pub guard: Guard,
    /// How far it is, if it has been sent.
    pub sent: Option<Sent>,
}

/// Builds the stack for a connection whose client has the address `client`.
#[must_use]
pub fn stack(exchange: &Rc<Exchange>, client: HeaderValue, begun: Option<Begun>) -> Stack {
    let route = exchange.route();
    let (guard, sent) = begun.map_or((None, None), |begun| (Some(begun.guard), begun.sent));
    let headers = HeadersLayer::new(route.forwarded, client, route.scheme);
    InFlight::new(headers.layer(Forward::new(exchange, sent)), exchange, guard)
}
