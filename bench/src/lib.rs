//! The load client that ebb is tested and measured with.
//!
//! A request's path through it: [`load`] runs many clients, each asks over a [`client`] connection, reads with
//! [`response`], and counts how it ended in a [`tally`]. [`origin`] is the app at the other end. Both sides know
//! every byte of every body, so nothing that is missing, doubled or mixed up goes unnoticed.
//!
//! For the measurements, [`peer`] runs ebb and the proxies it is compared with, [`ask`] has clients that cost little
//! themselves, [`paced`] lets them ask at a fixed rate; [`usage`] reads what the proxies cost, and [`table`] prints it.

pub mod ask;
pub mod bulk;
pub mod client;
pub mod http2;
pub mod load;
pub mod mix;
pub mod origin;
pub mod paced;
pub mod peer;
pub mod relay;
pub mod response;
mod session;
pub mod table;
pub mod tally;
pub mod tls;
pub mod usage;

/// WebSocket frames: the demo's, so that there is one of them.
#[path = "../../src/cli/demo/frames.rs"]
mod frames;
/// gRPC messages: the demo's as well.
#[path = "../../src/cli/demo/messages.rs"]
mod messages;

pub use client::{Connection, Failure};
pub use load::Load;
pub use origin::{App, Origin};
pub use response::Response;
pub use session::Running;
pub use tally::Tally;
