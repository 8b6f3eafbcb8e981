//! Pages over HTTP/1.1. The one thing that is not a failure is a kept connection that turns out to be closed before
//! anything of the next request was sent: every client opens a new one then.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::page;
use super::{ANSWER_TIMEOUT, Caller, Failure};

/// Why there is no answer.
#[derive(Debug)]
enum Lost {
    /// It counts as failed.
    Failed(Failure),
    /// The server had closed the connection before anything was sent on it.
    NotSent,
}

/// A client and the connection that it keeps.
#[derive(Debug)]
pub(in super::super) struct Client {
    caller: Caller,
    /// A connection serves until the server ends it, instead of one request.
    keep_alive: bool,
    kept: Option<Connection>,
}

impl Client {
    pub(super) fn new(caller: Caller, keep_alive: bool) -> Self {
        Self { caller, keep_alive, kept: None }
    }

    /// The time between two requests: 10 to 60 ms, with a kept connection up to 100 ms.
    pub(super) fn think_ms(&mut self) -> u64 {
        self.caller.rng.u64(10..=if self.keep_alive { 100 } else { 60 })
    }

    /// Gets one page and checks it.
    pub(super) async fn request(&mut self) -> io::Result<Result<(), Failure>> {
        let page = self.caller.rng.u16(0..page::PAGES);
        if let Some(kept) = self.kept.take() {
            match self.get(kept, page).await {
                Err(Lost::NotSent) => {}
                Err(Lost::Failed(failure)) => return Ok(Err(failure)),
                Ok(()) => return Ok(Ok(())),
            }
        }
        let fresh = match self.caller.connect().await? {
            Ok((endpoint, stream)) => Connection::on(endpoint, stream).await?,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(match self.get(fresh, page).await {
            Ok(()) => Ok(()),
            // Accepted, and closed at once: no client takes that for a reason to try again.
            Err(Lost::NotSent) => Err(Failure::Reset),
            Err(Lost::Failed(failure)) => Err(failure),
        })
    }

    /// Gets a page over a connection, and keeps it if client and server both want to.
    async fn get(&mut self, mut connection: Connection, page: u16) -> Result<(), Lost> {
        let answer = timeout(ANSWER_TIMEOUT, connection.get(page, self.keep_alive)).await;
        let keep = answer.unwrap_or(Err(Lost::Failed(Failure::Error)))?;
        self.kept = keep.then_some(connection);
        Ok(())
    }
}

/// An HTTP/1.1 connection to an endpoint.
#[derive(Debug)]
struct Connection {
    endpoint: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
}

impl Connection {
    async fn on(endpoint: SocketAddr, stream: TcpStream) -> io::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with its sender; what goes wrong on it is told to the request that it goes wrong for.
        tokio::spawn(connection);
        Ok(Self { endpoint, sender })
    }

    /// Gets a page; says whether the connection may be kept.
    async fn get(&mut self, page: u16, keep_alive: bool) -> Result<bool, Lost> {
        self.sender.ready().await.map_err(|_| Lost::NotSent)?;
        let request = self.request(page, keep_alive);
        let response =
            self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => Lost::NotSent,
                None if error.error().is_parse() => Lost::Failed(Failure::Error),
                None => Lost::Failed(Failure::Reset),
            })?;
        let keep = keep_alive && !says_close(&response);
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Lost::Failed(Failure::Cut))?.to_bytes();
        if head.status == StatusCode::OK && body == page::content(page) {
            Ok(keep)
        } else {
            Err(Lost::Failed(Failure::Error))
        }
    }

    fn request(&self, page: u16, keep_alive: bool) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = format!("/{page}").parse().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.endpoint.to_string()) {
            headers.insert(HOST, host);
        }
        if !keep_alive {
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
