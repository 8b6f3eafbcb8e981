//! What the tests drive ebb with: the real binary, real sockets, real signals.
//!
//! - [`Ebb`]: the process, its log, its admin port, its end.
//! - [`App`]: the origin behind it; a test holds each [`Exchange`] and decides what happens next.
//! - [`tls`]: certificates, and ebb and clients that use them.
//! - [`UnixApp`]: one that reads only when it is told to.
//! - [`RawApp`], [`RawUnixApp`]: plain connections, for `tcp://`; [`Pattern`]: bytes that show any damage.
//! - [`Frame`]: a WebSocket's, for either end.
//! - [`Client`]: one raw connection to ebb.
//! - [`http2`]: clients and apps that speak HTTP/2; [`frames`]: those that misspeak it.
//! - [`Kubelet`]: deletes the pod as the real one does.
//! - [`Traffic`]: clients that never stop, and what became of their requests.
//!
//! Nothing here sleeps to let something happen: every step waits for an event, and none for longer than
//! [`LIMIT`], so that a hang is a failure with a name.

use std::time::Duration;

mod app;
mod client;
mod ebb;
pub(crate) mod frames;
pub(crate) mod http2;
mod kubelet;
mod log;
mod message;
mod process;
mod raw;
pub(crate) mod tls;
mod traffic;
mod unix;
mod websocket;
mod wire;

pub(crate) use app::{App, Exchange, unix_door};
pub(crate) use client::Client;
pub(crate) use ebb::{Ebb, Hook, own_address};
pub(crate) use kubelet::{Kubelet, Order};
pub(crate) use message::{Head, Response};
pub(crate) use raw::{Pattern, RawApp, RawUnixApp};
pub(crate) use traffic::Traffic;
pub(crate) use unix::UnixApp;
pub(crate) use websocket::{
    BINARY, CLOSE, CONTINUATION, Frame, PING, SWITCHING, TEXT, WEBSOCKET, open_websocket,
};
pub(crate) use wire::End;

/// No single step of a test takes longer, on however slow a machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits for a step and fails the test by the step's name when it takes longer than [`LIMIT`].
pub(crate) async fn within<T>(step: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting after {LIMIT:?}: {step}"),
    }
}

/// Lets the clock go on, where the passing of time itself is what the test is about (a connection that has
/// been idle for long, a time-out that must not strike). Never for something else to get ready.
pub(crate) async fn let_time_pass(time: Duration) {
    tokio::time::sleep(time).await;
}
