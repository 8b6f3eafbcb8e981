//! The load client that ebb is tested and measured with.
//!
//! A request's path through it: [`load`] runs many clients, each asks over a [`client`] connection, reads with
//! [`response`], and counts how it ended in a [`tally`]. [`origin`] is the app at the other end. Both sides know
//! every byte of every body, so nothing that is missing, doubled or mixed up goes unnoticed.
//!
//! For the measurements, [`peer`] runs ebb and the proxies it is compared with, [`usage`] reads what they cost,
//! and [`table`] prints it.

pub mod client;
pub mod load;
pub mod origin;
pub mod peer;
pub mod response;
pub mod table;
pub mod tally;
pub mod usage;

pub use client::{Connection, Failure};
pub use load::{Load, Running};
pub use origin::{App, Origin};
pub use response::Response;
pub use tally::Tally;
