//! HTTP/2: many streams on one connection, told to go by GOAWAY.
//!
//! The connection and its streams are one task: a stream that has something to say and the connection that writes it
//! are polled together. Told to go, the client first hears GOAWAY with the highest stream number and a ping: its
//! answer shows which streams it had opened before it knew, and those are finished (RFC 9113, section 6.8). A client that
//! never answers the ping gets no new streams after a while, and the second GOAWAY when there are none left.

use std::future::poll_fn;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::HeaderValue;
use http::header::EXPECT;
use tokio::time::{Duration, Instant};
use tower::Service as _;

use super::http1;
use super::roster::{Order, Stage};
use super::stream::ClientStream;
use super::{Client, Next};
use crate::drain::notice;
use crate::http2::server::{Accepted, Connection};
use crate::http2::{Error, Reason, Receiving};
use crate::metrics::{End, Protocol};
use crate::origin::Origin;
use crate::proxy;
use crate::sys;
use crate::upstream::Incoming;

mod budget;
mod conversation;
mod direct;
mod websocket;
mod wire;

use budget::Budget;
use conversation::{Conversation, Offer, Outcome};
use wire::{Io, Wire};

/// Streams that a client may have open at a time.
const STREAMS: u32 = 250;

/// How long the ping behind the first GOAWAY may take. Then no new streams are accepted: clients may always repeat
/// what was refused (RFC 9113, section 8.7).
const ACK: Duration = Duration::from_secs(2);

/// A keep-alive ping is answered within this, or the client is taken to be gone; where pings are frequent, within
/// [`PONG_INTERVALS`] of them.
const PONG: Duration = Duration::from_secs(20);
const PONG_INTERVALS: u32 = 4;

/// What a client hears for which there is no room: empty settings, and a GOAWAY with `ENHANCE_YOUR_CALM` that says that
/// none of its streams has been processed.
pub(super) const OVERLOADED: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
      \0\0\x08\x07\0\0\0\0\0\
      \0\0\0\0\0\0\0\x0b";

/// Why the connection is not driven any further.
enum Ended {
    Over,
    Broke(Error),
    /// It does not answer.
    Dead,
    Cut,
}

/// Serves streams until the connection is over.
pub(super) async fn serve(client: &Client, stream: ClientStream, first: Bytes) -> Next {
    let seat = &client.member.seat;
    client.member.speaks(Protocol::Http2);
    client.idle_since.set(Instant::now());
    seat.enter(Stage::Quiet, client.idle_since());
    let wire = Wire::new(stream, first, seat);
    let connection = Connection::new(Io(Rc::clone(&wire)), STREAMS, client.site.max_header_bytes);
    let mut session = Session {
        client,
        connection,
        streams: FuturesUnordered::new(),
        ip: client.caller.ip(),
        origin: client.origin(),
        told: None,
        pinged: None,
        budget: Budget::new(Instant::now()),
        events_end: false,
        last_words: false,
        hurried: false,
        closing: false,
    };
    let ended = poll_fn(|cx| session.poll(cx)).await;
    drop(session);
    let Some(stream) = wire.take_stream() else { return Next::Closed };
    match ended {
        Ended::Over if wire.eof() && !stream.owes_goodbye() && sys::unacknowledged(stream.as_fd()) == 0 => {
            Next::Closed
        }
        Ended::Over => Next::Linger(stream),
        Ended::Broke(error @ Error::Gone(_)) => {
            tracing::debug!(client = %client.caller.addr(), %error, "a connection broke");
            Next::Closed
        }
        // Our GOAWAY says why; it should arrive.
        Ended::Broke(error) => {
            tracing::debug!(client = %client.caller.addr(), %error, "an HTTP/2 connection was given up");
            Next::Linger(stream)
        }
        Ended::Dead | Ended::Cut => Next::Closed,
    }
}

/// A connection being served.
struct Session<'a> {
    client: &'a Client,
    connection: Connection<Io>,
    streams: FuturesUnordered<Conversation>,
    ip: HeaderValue,
    origin: Origin,
    /// Since when it has been told to go.
    told: Option<Instant>,
    /// Since when a keep-alive ping has been unanswered.
    pinged: Option<Instant>,
    budget: Budget,
    /// The time of event streams has come.
    events_end: bool,
    /// The drain's deadline has come, and every stream has been asked for its last words.
    last_words: bool,
    /// They have been asked not to wait for anything more.
    hurried: bool,
    /// The last GOAWAY is on its way.
    closing: bool,
}

impl Session<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let member = &self.client.member;
        member.seat.register(cx.waker());
        match member.seat.take_order() {
            Some(Order::Cut) => {
                // What the client has not taken yet goes with the socket.
                if self.is_busy() || self.closing {
                    member.ends(End::Cut);
                }
                return Poll::Ready(Ended::Cut);
            }
            Some(Order::Tell) => self.tell(End::Told),
            Some(Order::Close) if !member.view().ended() => self.tell(End::ClosedIdle),
            Some(Order::Ping) if self.ping(Instant::now()) => return Poll::Ready(Ended::Dead),
            _ => {}
        }
        if member.view().ended() && !self.last_words {
            self.say_last_words();
        } else if member.view().hurries() && !std::mem::replace(&mut self.hurried, true) {
            self.poll_all_streams();
        }
        // Told to go, a connection is looked at again and again.
        if !self.events_end
            && self.told.is_some()
            && notice::events_end(member.view(), member.seat.place, Instant::now())
        {
            self.events_end = true;
            self.poll_all_streams();
        }
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => {
                    self.accept(accepted);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Ended::Broke(error)),
                Poll::Ready(None) => return Poll::Ready(Ended::Over),
                Poll::Pending => {}
            }
            if !self.poll_streams(cx) {
                break;
            }
        }
        if !self.connection.is_pinged() {
            self.pinged = None;
        }
        self.settle_down();
        self.connection.poll_end(cx).map(|ended| ended.map_or_else(Ended::Broke, |()| Ended::Over))
    }

    /// Whether a stream has ended.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ended = false;
        for _ in 0..self.connection.take_offences() {
            self.spend();
        }
        while let Poll::Ready(Some(outcome)) = self.streams.poll_next_unpin(cx) {
            ended = true;
            if outcome == Outcome::Unwanted {
                self.spend();
            }
        }
        ended
    }

    /// The client opens streams and resets them, or makes us do so: not as fast as it can (CVE-2023-44487, CVE-2025-8671).
    fn spend(&mut self) {
        if !self.budget.spend(Instant::now()) {
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Takes a request, or refuses it in a way that lets the client repeat it.
    fn accept(&mut self, mut accepted: Accepted) {
        if self.told.is_some_and(|told| told.elapsed() >= ACK) || self.last_words {
            accepted.respond.reset(Reason::REFUSED_STREAM);
            return;
        }
        let Some(accepted) = self.pass_on(accepted) else { return };
        let Accepted { head, body, mut respond } = accepted;
        let client = self.client;
        let Some(head) = head else {
            let error = proxy::Error::HeaderTooLarge;
            client.member.shard.refused(Protocol::Http2, error.status().as_u16());
            let exchange = client.exchange().beside();
            self.streams.extend(Conversation::refused(error, respond, exchange));
            return;
        };
        let Ok(mut request) = head.into_request() else {
            respond.reset(Reason::PROTOCOL_ERROR);
            return self.spend();
        };
        if !client.asked.replace(true) {
            http1::note_arrival(client, http1::user_agent(request.headers()));
        }
        if request.headers_mut().remove(EXPECT).is_some() {
            // What keeps the body back is the stream's window, so nothing is gained by letting the client wait.
            let _ = respond.send_continue();
        }
        let exchange = client.exchange().beside();
        let mut stack = proxy::stack(&exchange, self.ip.clone(), None);
        let (request, offer) = if websocket::into_upgrade(&mut request) {
            let offer = Box::new(Offer { incoming: body, site: Rc::clone(&client.site) });
            (request.map(|()| Incoming::Empty), Some(offer))
        } else {
            (request.map(|()| Incoming::Http2(Receiving::new(body))), None)
        };
        let answering = stack.call(request);
        self.streams.push(Conversation::new(answering, respond, exchange, client.member.seat.place, offer));
    }

    /// Tells the client to go, once.
    fn tell(&mut self, end: End) {
        if self.told.is_none() {
            self.told = Some(Instant::now());
            self.connection.graceful_shutdown();
            self.client.member.ends(end);
        }
    }

    /// Pings a client that has been silent; true when it has neither answered an earlier one nor said anything else.
    fn ping(&mut self, now: Instant) -> bool {
        let member = &self.client.member;
        match self.pinged {
            // Its answer may be here already.
            Some(_) if self.connection.is_held_back() => false,
            Some(pinged) => {
                let since = pinged.max(member.seat.heard.get());
                now.duration_since(since) >= PONG.min(member.http2_keepalive() * PONG_INTERVALS)
            }
            None => {
                self.connection.ping();
                self.pinged = Some(now);
                false
            }
        }
    }

    /// The drain's deadline: everybody gets a 503, trailers or a reset.
    fn say_last_words(&mut self) {
        self.last_words = true;
        self.tell(End::Told);
        if !self.streams.is_empty() {
            self.client.member.ends(End::Cut);
        }
        self.poll_all_streams();
    }

    /// Has every stream polled, not only those for which something has come.
    fn poll_all_streams(&mut self) {
        self.streams = std::mem::take(&mut self.streams).into_iter().collect();
    }

    /// Whether a stream is under way, or all that is left of it has not been written.
    fn is_busy(&self) -> bool {
        !self.streams.is_empty() || self.connection.has_streams()
    }

    /// Notes where the connection stands, and ends it when nothing is left to wait for.
    fn settle_down(&mut self) {
        let seat = &self.client.member.seat;
        let busy = self.is_busy();
        let stage = match (self.told, busy) {
            (Some(_), _) => Stage::Leaving,
            (None, true) => Stage::Streams,
            (None, false) => Stage::Quiet,
        };
        if seat.stage.get() != stage {
            seat.enter(stage, if busy { Instant::now() } else { self.client.idle_since() });
        }
        let unanswered = self.told.is_some_and(|told| told.elapsed() >= ACK);
        if !busy && (unanswered || self.last_words) && !std::mem::replace(&mut self.closing, true) {
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
        }
    }
}
