//! What the roster knows of one connection, and what is due on it.

use std::cell::Cell;
use std::fmt;
use std::task::Waker;

use tokio::time::{Duration, Instant};

use crate::config::Limits;
use crate::connection::peer::Peer;
use crate::drain::watch::View;
use crate::drain::{Phase, notice};

/// An HTTP connection without a request for this long is parked; in a drain, one that has been told to go is
/// closed then. A client that is about to send its next request has done so by now.
pub(in crate::connection) const IDLE: Duration = Duration::from_secs(1);

/// After the app has ended its side of a tunnel, a drain waits this long for the client to end its own.
pub(super) const HALF_TUNNEL: Duration = Duration::from_secs(1);

/// Once new connections are refused, a head that has begun must be complete within this: one peer that sends half
/// of one should not hold up the whole drain.
pub(super) const HEAD_IN_DRAIN: Duration = Duration::from_secs(5);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Stage {
    /// The PROXY protocol header has not come, or only part of it.
    ProxyHeader,
    /// Only the socket is kept: no byte of a request is here.
    Parked,
    /// hyper waits for a request.
    Waiting,
    /// TLS is not spoken yet.
    Handshake,
    /// Part of a request's head is here.
    Head,
    /// A request is under way.
    Exchange,
    /// The response is over, but the client still sends the request's body.
    Upload,
    /// After a 101.
    Tunnel,
    /// A tunnel for a WebSocket.
    WebSocket,
    /// The same, after its instant.
    Goodbye,
    /// A tunnel whose app has ended its side.
    HalfTunnel,
    /// HTTP/2, without a stream.
    Quiet,
    /// HTTP/2, with streams.
    Streams,
    /// HTTP/2, told to go.
    Leaving,
    /// Our last byte is sent; what the client still sends is discarded.
    Lingering,
}

/// What the roster wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Order {
    /// Keep the socket only.
    Park,
    /// The head takes too long: 408, or an end without a word where HTTP has not begun.
    HeadTimeout,
    /// It takes too long for a drain: the same, but the client might have come to its end.
    HeadCutShort,
    /// Tell the client to go (HTTP/2; over HTTP/1.1 that takes a response).
    Tell,
    /// Nothing has come for a while: ask for a sign of life.
    Ping,
    /// Look whether the client is still there, and what it does.
    Probe,
    /// The WebSocket's instant has come: say goodbye, and see how far that is.
    Goodbye,
    /// End now, saying what the protocol has for it.
    Close,
    /// End now.
    Cut,
}

/// What the roster knows of one connection.
pub(in crate::connection) struct Seat {
    pub(in crate::connection) accepted: Instant,
    pub(in crate::connection) stage: Cell<Stage>,
    /// Since when it has been in this stage.
    pub(in crate::connection) since: Cell<Instant>,
    /// When bytes came last, over HTTP/2.
    pub(in crate::connection) heard: Cell<Instant>,
    /// The request's body is held back until the app asks for it, or the client sends it unasked.
    pub(in crate::connection) held: Cell<bool>,
    /// A tunnel has something under way whose fate nobody would hear of by reading.
    pub(in crate::connection) watched: Cell<bool>,
    /// The client, as far as TCP knows.
    pub(in crate::connection) peer: Peer,
    /// The response is an event stream, which is ended some time before the deadline.
    pub(in crate::connection) events: Cell<bool>,
    /// Among others that something is spread over (see [`notice::place`]).
    pub(in crate::connection) place: f64,
    pub(super) order: Cell<Option<Order>>,
    pub(super) notice: Cell<Option<Instant>>,
    pub(super) waker: Cell<Option<Waker>>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("stage", &self.stage).field("since", &self.since).finish_non_exhaustive()
    }
}

impl Seat {
    pub(in crate::connection) fn enter(&self, stage: Stage, since: Instant) {
        self.stage.set(stage);
        self.since.set(since);
        self.order.set(None);
    }

    /// Leaves the waker of the connection's task. The task is the same through the connection's life.
    pub(in crate::connection) fn register(&self, waker: &Waker) {
        let mine = self.waker.take().filter(|mine| mine.will_wake(waker));
        self.waker.set(Some(mine.unwrap_or_else(|| waker.clone())));
    }

    pub(in crate::connection) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }

    /// Whether the client is to be told to go.
    pub(super) fn told(&self, view: &View, now: Instant) -> bool {
        match view.phase() {
            Phase::Serving => false,
            Phase::LameDuck => self.notice.get().is_some_and(|notice| now >= notice),
            Phase::Draining | Phase::Drained => true,
        }
    }

    /// Whether nothing has come for so long that the client may be gone.
    pub(super) fn is_silent(&self, limits: &Limits, now: Instant) -> bool {
        !limits.http2_keepalive.is_zero()
            && now.saturating_duration_since(self.heard.get()) >= limits.http2_keepalive
    }

    /// What is due at `now`.
    pub(super) fn due(&self, view: &View, limits: &Limits, probe: bool, now: Instant) -> Option<Order> {
        if view.cut() {
            return Some(Order::Cut);
        }
        let age = now.saturating_duration_since(self.since.get());
        match self.stage.get() {
            Stage::Parked if age >= limits.idle_timeout => Some(Order::Close),
            Stage::Parked if self.told(view, now) && age >= IDLE => Some(Order::Close),
            Stage::Waiting if age >= IDLE => Some(Order::Park),
            Stage::Handshake if age >= limits.handshake_timeout => Some(Order::HeadTimeout),
            Stage::Head | Stage::ProxyHeader if age >= limits.header_timeout => Some(Order::HeadTimeout),
            Stage::Head | Stage::ProxyHeader | Stage::Handshake
                if view.phase() >= Phase::Draining && !view.ended() && age >= HEAD_IN_DRAIN =>
            {
                Some(Order::HeadCutShort)
            }
            // For those who have not begun.
            Stage::Handshake if self.told(view, now) && age >= IDLE => Some(Order::Close),
            // The app may have died; its FIN is all that is to be seen of that.
            Stage::HalfTunnel if self.told(view, now) && age >= HALF_TUNNEL => Some(Order::Close),
            // While a response is awaited nobody reads from the client, so nobody hears of its RST.
            Stage::Exchange => {
                let events_end = || self.events.get() && notice::events_end(view, self.place, now);
                (probe || self.held.get() || events_end()).then_some(Order::Probe)
            }
            Stage::Upload if age >= limits.idle_timeout => Some(Order::Close),
            Stage::Upload if self.told(view, now) && age >= HEAD_IN_DRAIN => Some(Order::Close),
            Stage::Quiet | Stage::Streams if self.told(view, now) => Some(Order::Tell),
            Stage::Quiet if age >= limits.idle_timeout => Some(Order::Close),
            Stage::Quiet | Stage::Streams if self.is_silent(limits, now) => Some(Order::Ping),
            // One that has gone without a word should not hold a drain.
            Stage::Leaving if !view.ended() && self.is_silent(limits, now) => Some(Order::Ping),
            Stage::Leaving if !view.ended() => Some(Order::Probe),
            // What the client has taken is watched closely: a drain may wait for nothing else.
            Stage::Lingering => Some(Order::Probe),
            _ if view.ended() => Some(Order::Close),
            Stage::WebSocket
                if view.phase() >= Phase::Draining
                    && self.notice.get().is_none_or(|notice| now >= notice) =>
            {
                Some(Order::Goodbye)
            }
            // What has begun is brought to its end, whatever becomes of the drain.
            Stage::Goodbye => Some(Order::Goodbye),
            Stage::Tunnel | Stage::WebSocket | Stage::HalfTunnel if self.watched.get() && probe => {
                Some(Order::Probe)
            }
            _ => None,
        }
    }
}
