//! One HTTP/1.1 connection to the app, driven by whoever waits for its response.
//!
//! hyper's connection future is not a task of its own: the request's own future polls it, and so does the
//! body of the response. That saves two wake-ups and two queue operations for each request, and it lets an idle
//! connection be nothing but a struct in the pool.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Duration, Instant};

use super::body::RequestBody;
use super::idle::Bare;
use super::link::{Lane, Link};
use super::stream::Stream;

pub(super) struct Conn {
    pub(super) sender: SendRequest<RequestBody>,
    driver: Connection<TokioIo<Link>, RequestBody>,
    pub(super) lane: Rc<Lane>,
    pub(super) idle_since: Instant,
    /// The driver has ended and must not be polled again.
    over: bool,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("lane", &self.lane).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Conn {
    pub(super) fn new(
        sender: SendRequest<RequestBody>,
        driver: Connection<TokioIo<Link>, RequestBody>,
        lane: Rc<Lane>,
    ) -> Self {
        Self { sender, driver, lane, idle_since: Instant::now(), over: false }
    }

    /// Moves the connection on; ready when it has ended (its errors reach whoever waits for the response).
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.over && self.driver.poll_without_shutdown(cx).is_ready() {
            self.over = true;
        }
        if self.over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the pool may hand it out again.
    pub(super) fn is_usable(&self, max_idle: Duration) -> bool {
        !self.over && self.sender.is_ready() && self.idle_since.elapsed() < max_idle && self.lane.is_quiet()
    }

    /// Drives the connection until it could carry another request; none when it ends before.
    pub(super) async fn settle(mut self: Box<Self>) -> Option<Box<Self>> {
        poll_fn(|cx| {
            if self.drive(cx).is_ready() || self.sender.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        (!self.over).then_some(self)
    }

    /// An idle connection without hyper's state.
    pub(super) fn strip(self: Box<Self>) -> Option<Bare> {
        if self.over || !self.sender.is_ready() || !self.lane.is_open() {
            return None;
        }
        let since = self.idle_since;
        let unread = self.driver.into_parts().read_buf;
        let stream = self.lane.take_stream().filter(|_| unread.is_empty())?;
        Some(Bare { stream, since })
    }

    /// The bare connection and what has been read from it, after a 101.
    pub(super) fn into_stream(self: Box<Self>) -> Option<(Stream, Bytes)> {
        if !self.over {
            return None;
        }
        let unread = self.driver.into_parts().read_buf;
        self.lane.take_stream().map(|stream| (stream, unread))
    }
}
