//! The clients on a node: each sends one request after the other, or connects again and again, and takes every
//! failure at face value.
//!
//! Nothing is retried but what every client retries by itself, because it knows that the server has not seen it.
//! Each protocol has a module: what a well-written client of it does, and what it calls a failure.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cluster::Node;

mod events;
mod grpc;
mod http1;
mod websocket;

/// A connection must stand within this: the kernel repeats a lost handshake after one second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The whole answer must be there within this: the app takes 20 ms or so, and a second for a stream of gRPC.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How a request failed; or a connection, when that is what a protocol is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection: refused, or no answer to the handshake.
    Refused,
    /// The connection ended before the response began.
    Reset,
    /// The connection ended in the middle of the response.
    Cut,
    /// There was an answer, but not the right one: a 5xx, a wrong page, or none in time.
    Error,
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Requests, each on a connection of its own or on a kept one.
    Http1,
    /// Calls, unary and server-streaming.
    Grpc,
    /// Connections, from the handshake to the end.
    WebSocket,
    /// Streams of server-sent events.
    Events,
}

/// A client's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new connection for every request.
    OneShot,
    /// A connection serves until the server ends it.
    KeepAlive,
    /// Two users of one gRPC channel: one makes unary calls, one reads streams.
    Grpc,
    /// A connection for seconds.
    WebSocket,
    /// A response for seconds.
    Events,
}

/// A client with what it keeps between two requests.
#[derive(Debug)]
pub(super) enum Client {
    Http1(http1::Client),
    Grpc(grpc::Client),
    WebSocket(websocket::Client),
    Events(events::Client),
}

/// What all clients have: the endpoints that their node knows, and habits of their own.
#[derive(Debug)]
struct Caller {
    node: Node,
    rng: Rng,
}

/// Says when the clients are to come to an end.
pub(super) type Stop = watch::Receiver<bool>;

impl Protocol {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Self; 4] = [Self::Http1, Self::Grpc, Self::WebSocket, Self::Events];

    /// The column's name.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Grpc => "gRPC",
            Self::WebSocket => "WebSocket",
            Self::Events => "events",
        }
    }
}

impl Client {
    /// Clients of that kind, which balance over the endpoints that their node knows.
    pub(super) fn of_kind(kind: Kind, node: &Node, rng: &mut Rng) -> Vec<Self> {
        let mut caller = || Caller { node: node.clone(), rng: rng.fork() };
        match kind {
            Kind::OneShot => vec![Self::Http1(http1::Client::new(caller(), false))],
            Kind::KeepAlive => vec![Self::Http1(http1::Client::new(caller(), true))],
            Kind::Grpc => grpc::Client::pair(caller(), caller()).map(Self::Grpc).into(),
            Kind::WebSocket => vec![Self::WebSocket(websocket::Client::new(caller()))],
            Kind::Events => vec![Self::Events(events::Client::new(caller()))],
        }
    }

    /// Where it is counted.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Http1(_) => Protocol::Http1,
            Self::Grpc(_) => Protocol::Grpc,
            Self::WebSocket(_) => Protocol::WebSocket,
            Self::Events(_) => Protocol::Events,
        }
    }

    /// The time until the next one.
    pub(super) fn think(&mut self) -> Duration {
        Duration::from_millis(match self {
            Self::Http1(client) => client.think_ms(),
            Self::Grpc(client) => client.think_ms(),
            Self::WebSocket(websocket::Client { caller, .. })
            | Self::Events(events::Client { caller, .. }) => caller.rng.u64(100..=500),
        })
    }

    /// One request, call, connection or stream, to its end; the last two come to one when they are told to.
    ///
    /// # Errors
    /// What this machine itself can't do, such as open another socket; failed requests are in the value.
    pub(super) async fn run(&mut self, stop: &mut Stop) -> io::Result<Result<(), Failure>> {
        match self {
            Self::Http1(client) => client.request().await,
            Self::Grpc(client) => client.call().await,
            Self::WebSocket(client) => client.talk(stop).await,
            Self::Events(client) => client.listen(stop).await,
        }
    }
}

impl Caller {
    /// What kube-proxy does with a new connection: any endpoint is as good as the other.
    fn endpoint(&mut self) -> SocketAddr {
        let endpoints = self.node.borrow();
        endpoints[self.rng.usize(0..endpoints.len())]
    }

    /// A new connection, and to whom.
    async fn connect(&mut self) -> io::Result<Result<(SocketAddr, TcpStream), Failure>> {
        let endpoint = self.endpoint();
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint)).await;
        match connecting.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                Ok(Ok((endpoint, stream)))
            }
            Err(error) => refused(error).map(Err),
        }
    }

    /// How long a user stays on a page with a WebSocket or a stream: some never leave.
    fn stay(&mut self) -> Duration {
        let never = self.rng.u8(..4) == 0;
        Duration::from_millis(if never { 60_000 } else { self.rng.u64(500..=5000) })
    }
}

/// Tells a server that refuses from a machine that has run out of something.
fn refused(error: io::Error) -> io::Result<Failure> {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        ConnectionRefused | ConnectionReset | ConnectionAborted | TimedOut | HostUnreachable
        | NetworkUnreachable => Ok(Failure::Refused),
        _ => Err(error),
    }
}

/// Ready when the clients are to come to an end.
async fn told(stop: &mut Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
