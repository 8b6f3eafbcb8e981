//! A client on a node: sends one request after the other, and takes every failure at face value.
//!
//! Nothing is retried. The one thing that is not a failure is a kept connection that turns out to be closed
//! before anything of the next request was sent: every client opens a new one then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::cluster::Node;
use super::page;

/// A connection must stand within this: the kernel repeats a lost handshake after one second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The whole answer must be there within this: the app takes 20 ms or so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How a request failed.
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

/// Why there is no answer.
#[derive(Debug)]
enum Lost {
    /// It counts as failed.
    Failed(Failure),
    /// The server had closed the connection before anything was sent on it.
    NotSent,
}

/// Whether a client keeps its connection for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new connection for every request.
    OneShot,
    /// A connection serves until the server ends it.
    KeepAlive,
}

/// A client and the connection that it keeps.
#[derive(Debug)]
pub(super) struct Client {
    node: Node,
    kind: Kind,
    rng: Rng,
    kept: Option<Connection>,
}

impl Client {
    /// A client that balances over the endpoints that its node knows.
    pub(super) fn new(node: Node, kind: Kind, rng: Rng) -> Self {
        Self { node, kind, rng, kept: None }
    }

    /// The time between two requests: 10 to 60 ms, with a kept connection up to 100 ms.
    pub(super) fn think(&mut self) -> Duration {
        Duration::from_millis(match self.kind {
            Kind::OneShot => self.rng.u64(10..=60),
            Kind::KeepAlive => self.rng.u64(10..=100),
        })
    }

    /// Gets one page and checks it.
    ///
    /// # Errors
    /// What this machine itself can't do, such as open another socket; failed requests are in the value.
    pub(super) async fn request(&mut self) -> io::Result<Result<(), Failure>> {
        let page = self.rng.u16(0..page::PAGES);
        if let Some(kept) = self.kept.take() {
            match self.get(kept, page).await {
                Err(Lost::NotSent) => {}
                Err(Lost::Failed(failure)) => return Ok(Err(failure)),
                Ok(()) => return Ok(Ok(())),
            }
        }
        let fresh = match Connection::open(self.endpoint()).await {
            Ok(fresh) => fresh,
            Err(error) => return refused(error).map(Err),
        };
        Ok(match self.get(fresh, page).await {
            Ok(()) => Ok(()),
            // Accepted, and closed at once: no client takes that for a reason to try again.
            Err(Lost::NotSent) => Err(Failure::Reset),
            Err(Lost::Failed(failure)) => Err(failure),
        })
    }

    /// What kube-proxy does with a new connection: any endpoint is as good as the other.
    fn endpoint(&mut self) -> SocketAddr {
        let endpoints = self.node.borrow();
        endpoints[self.rng.usize(0..endpoints.len())]
    }

    /// Gets a page over a connection, and keeps it if client and server both want to.
    async fn get(&mut self, mut connection: Connection, page: u16) -> Result<(), Lost> {
        let answer = timeout(ANSWER_TIMEOUT, connection.get(page, self.kind)).await;
        let keep = answer.unwrap_or(Err(Lost::Failed(Failure::Error)))?;
        self.kept = keep.then_some(connection);
        Ok(())
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

/// An HTTP/1.1 connection to an endpoint.
#[derive(Debug)]
struct Connection {
    endpoint: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
}

impl Connection {
    async fn open(endpoint: SocketAddr) -> io::Result<Self> {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint));
        let stream = connecting.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with its sender; what goes wrong on it is told to the request that it goes wrong for.
        tokio::spawn(connection);
        Ok(Self { endpoint, sender })
    }

    /// Gets a page; says whether the connection may be kept.
    async fn get(&mut self, page: u16, kind: Kind) -> Result<bool, Lost> {
        self.sender.ready().await.map_err(|_| Lost::NotSent)?;
        let request = self.request(page, kind);
        let response =
            self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => Lost::NotSent,
                None if error.error().is_parse() => Lost::Failed(Failure::Error),
                None => Lost::Failed(Failure::Reset),
            })?;
        let keep = kind == Kind::KeepAlive && !says_close(&response);
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Lost::Failed(Failure::Cut))?.to_bytes();
        if head.status == StatusCode::OK && body == page::content(page) {
            Ok(keep)
        } else {
            Err(Lost::Failed(Failure::Error))
        }
    }

    fn request(&self, page: u16, kind: Kind) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = format!("/{page}").parse().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.endpoint.to_string()) {
            headers.insert(HOST, host);
        }
        if kind == Kind::OneShot {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }
}

fn says_close<B>(response: &Response<B>) -> bool {
    response.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests;
