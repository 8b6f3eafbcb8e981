//! The two sides of HTTP/2: with the h2 crate's, with each other, and with somebody who does as he pleases.

mod chaos;
mod client;
mod flow;
mod pair;
mod script;
mod server;
mod support;
