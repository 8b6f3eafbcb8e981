//! HTTP/2 on one connection, of a client or to the app (RFC 9113), and the bodies that go over it.
//!
//! ```text
//!  socket ─▶ driver ─▶ incoming ─▶ core: streams, windows ◀─ stream: handles ◀─ body
//!         ◀─ driver ◀──────────── core: outbox
//! ```
//!
//! A connection belongs to one thread, and so do the handles of its streams: nothing is locked. What comes is taken apart as soon as it
//! is read, and waits on its stream, in one piece of memory however many frames it came in; what goes out is written into
//! the connection's outbox as frames, and from there to the socket, many frames with one system call. A connection on which nothing happens keeps
//! no buffer.
//!
//! Flow control is end to end, see [`body`].

pub mod body;
pub mod client;
mod core;
mod driver;
mod fields;
mod frame;
mod head;
mod hpack;
mod incoming;
mod outbox;
mod plain;
mod reason;
mod recent;
pub mod server;
mod stream;

pub use body::{Broken, Receiving, Sending};
pub use fields::{Field, Fields};
pub use head::{ConnectProtocol, Head};
pub use plain::Plain;
pub use reason::{Error, Reason};
pub use stream::{RecvStream, SendStream};

/// The largest window of a stream, in bytes: what may be under way on it. Larger ones help only where the round trip
/// takes long; each stream may hold this much memory.
pub const STREAM_WINDOW: u32 = 128 << 10;

/// The window of all streams of a client's connection together: so many uploads may be stuck in the app before others
/// on the same connection are held up, and so much memory one client can take up.
pub const CONNECTION_WINDOW: u32 = 32 * STREAM_WINDOW;

#[cfg(test)]
mod tests;
