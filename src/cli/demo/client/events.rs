//! A stream of server-sent events, read as a browser's `EventSource` reads it.
//!
//! The server may end the stream whenever it likes: the client asks for the events behind the last one that it has seen.
//! A stream that is cut is a failure, although a browser would hide it, and so is an event that is damaged or missing.

use std::io;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::events::{self, LAST_EVENT_ID, event};
use super::{ANSWER_TIMEOUT, Caller, Failure, Stop, told};

/// Reads one stream after the other.
#[derive(Debug)]
pub(in super::super) struct Client {
    pub(super) caller: Caller,
    /// The event seen last.
    last: u64,
}

impl Client {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, last: 0 }
    }

    /// Connects and reads until the user leaves, or the server ends the stream.
    pub(super) async fn listen(&mut self, stop: &mut Stop) -> io::Result<Result<(), Failure>> {
        let leave = Instant::now() + self.caller.stay();
        let (endpoint, stream) = match self.caller.connect().await? {
            Ok(connected) => connected,
            Err(failure) => return Ok(Err(failure)),
        };
        let host = HeaderValue::try_from(endpoint.to_string()).map_err(io::Error::other)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(tokio::select! {
            ended = self.read(sender, host) => ended,
            () = sleep_until(leave) => Ok(()),
            () = told(stop) => Ok(()),
        })
    }

    /// Reads until the server ends the stream.
    async fn read(
        &mut self,
        mut sender: SendRequest<Empty<Bytes>>,
        host: HeaderValue,
    ) -> Result<(), Failure> {
        let request = self.request(host);
        let response =
            timeout(ANSWER_TIMEOUT, sender.send_request(request)).await.map_err(|_| Failure::Error)?;
        let response =
            response.map_err(|error| if error.is_parse() { Failure::Error } else { Failure::Reset })?;
        if !is_event_stream(&response) {
            return Err(Failure::Error);
        }
        let mut body = response.into_body();
        let mut unread = BytesMut::new();
        while let Some(frame) = timeout(ANSWER_TIMEOUT, body.frame()).await.map_err(|_| Failure::Error)? {
            if let Ok(data) = frame.map_err(|_| Failure::Cut)?.into_data() {
                unread.extend_from_slice(&data);
                self.take_events(&mut unread)?;
            }
        }
        Ok(())
    }

    /// Takes whole events, which must be the next ones; half an event at the end of a stream is none.
    fn take_events(&mut self, unread: &mut BytesMut) -> Result<(), Failure> {
        while let Some(end) = unread.windows(2).position(|window| window == b"\n\n") {
            if unread.split_to(end + 2) != event(self.last + 1) {
                return Err(Failure::Error);
            }
            self.last += 1;
        }
        Ok(())
    }

    fn request(&self, host: HeaderValue) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = http::Uri::from_static(events::PATH);
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(LAST_EVENT_ID, self.last.into());
        request
    }
}

fn is_event_stream(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::OK && response.headers().get(CONTENT_TYPE) == Some(&events::CONTENT_TYPE)
}

#[cfg(test)]
mod tests;
