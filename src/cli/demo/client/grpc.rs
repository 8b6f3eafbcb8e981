//! gRPC: calls over one HTTP/2 connection, for as long as the server wants it.
//!
//! After a GOAWAY new calls use a new connection, and those under way finish on the old one. A call is sent
//! again only when it is certain that no server has looked at it: its stream was refused, or is above the last one
//! of the GOAWAY. That is what gRPC calls a transparent retry, and all that it retries without being told to.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Version};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::messages::{self, ECHO, Messages, REPEAT, framed};
use super::super::page;
use super::{ANSWER_TIMEOUT, Caller, Failure};

/// A call that no server wants to look at has failed after so many.
const TRANSPARENT_RETRIES: usize = 3;

/// Why a call did not succeed.
#[derive(Debug)]
enum Lost {
    /// It counts as failed.
    Failed(Failure),
    /// No server has looked at it.
    NotSeen,
}

/// The connection that calls use at the moment; there is none in the beginning.
type Channel = Arc<Mutex<Option<SendRequest<Bytes>>>>;

/// Makes calls, one after the other.
#[derive(Debug)]
pub(in super::super) struct Client {
    caller: Caller,
    channel: Channel,
    streaming: bool,
}

impl Client {
    /// Two that share a channel: one makes unary calls, the other reads streams.
    pub(super) fn pair(unary: Caller, streaming: Caller) -> [Self; 2] {
        let channel = Channel::default();
        [(unary, false), (streaming, true)].map(|(caller, streaming)| {
            let channel = Arc::clone(&channel);
            Self { caller, channel, streaming }
        })
    }

    /// The time between two calls.
    pub(super) fn think_ms(&mut self) -> u64 {
        self.caller.rng.u64(10..=100)
    }

    /// Makes a call and checks what comes back.
    pub(super) async fn call(&mut self) -> io::Result<Result<(), Failure>> {
        let page = self.caller.rng.u16(0..page::PAGES);
        let repeat = self.streaming.then(|| self.caller.rng.u8(5..=15));
        let (path, times) = repeat.map_or((ECHO, 1), |times| (REPEAT, times));
        let message: Bytes = [times].into_iter().chain(page::content(page)).collect();
        for _ in 0..TRANSPARENT_RETRIES {
            let sender = match self.ready().await? {
                Ok(sender) => sender,
                Err(failure) => return Ok(Err(failure)),
            };
            let call = call(sender, path, &message, times);
            match timeout(ANSWER_TIMEOUT, call).await.unwrap_or(Err(Lost::Failed(Failure::Error))) {
                Ok(()) => return Ok(Ok(())),
                Err(Lost::Failed(failure)) => return Ok(Err(failure)),
                Err(Lost::NotSeen) => {}
            }
        }
        Ok(Err(Failure::Reset))
    }

    /// The channel's connection, or a new one when the server has taken leave of it.
    async fn ready(&mut self) -> io::Result<Result<SendRequest<Bytes>, Failure>> {
        let mut channel = self.channel.lock().await;
        if let Some(sender) = channel.take()
            && let Ok(sender) = sender.ready().await
        {
            *channel = Some(sender.clone());
            return Ok(Ok(sender));
        }
        let stream = match self.caller.connect().await? {
            Ok((_, stream)) => stream,
            Err(failure) => return Ok(Err(failure)),
        };
        let Ok((sender, connection)) = h2::client::handshake(stream).await else {
            return Ok(Err(Failure::Reset));
        };
        // It ends with its last sender and stream; what goes wrong on it is told to the calls.
        tokio::spawn(connection);
        let Ok(sender) = sender.ready().await else { return Ok(Err(Failure::Reset)) };
        *channel = Some(sender.clone());
        Ok(Ok(sender))
    }
}

/// Makes a call whose answer is its own message, that many times.
async fn call(mut sender: SendRequest<Bytes>, path: &str, message: &[u8], times: u8) -> Result<(), Lost> {
    let reset = |error| lost(&error, Failure::Reset);
    let cut = |error| lost(&error, Failure::Cut);
    let (response, mut request_body) = sender.send_request(request(path), false).map_err(reset)?;
    // What is wrong with the stream, the response says as well.
    let _ = request_body.send_data(framed(message), true);
    let mut messages = Messages::new(response.await.map_err(reset)?.into_body());
    let mut seen = 0;
    while let Some(received) = messages.next().await.map_err(cut)? {
        if received != message {
            return Err(Lost::Failed(Failure::Error));
        }
        seen += 1;
    }
    let trailers = messages.trailers().await.map_err(cut)?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    if seen == times && status.is_some_and(|status| status == "0") {
        Ok(())
    } else {
        Err(Lost::Failed(Failure::Error))
    }
}

fn request(path: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("http://demo{path}").parse().unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(CONTENT_TYPE, messages::CONTENT_TYPE);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request
}

/// Tells a call that was refused from one that broke.
fn lost(error: &h2::Error, failure: Failure) -> Lost {
    let above_the_last = error.is_go_away() && error.is_remote();
    if above_the_last || error.reason() == Some(Reason::REFUSED_STREAM) {
        Lost::NotSeen
    } else {
        Lost::Failed(failure)
    }
}

#[cfg(test)]
mod tests;
