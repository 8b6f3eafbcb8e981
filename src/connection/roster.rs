//! Every client connection of a worker, and the one clock that watches over them.
//!
//! A connection has no timers of its own. It keeps its [`Seat`] up to date with plain stores; a few times a
//! second the roster looks at every seat, and where something is due it leaves an [`Order`] there and wakes
//! the connection. A worker without connections has no timer at all.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

use super::peer::Peer;
use super::tunnel::Tools;
use crate::config::Limits;
use crate::drain::watch::{Orders, Subscriber, View};
use crate::drain::{Phase, notice};
use crate::metrics::{End, Gauge, Protocol, Shard};
use crate::sys;

/// An HTTP connection without a request for this long is parked; in a drain, one that has been told to go is
/// closed then. A client that is about to send its next request has done so by now.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// After the app has ended its side of a tunnel, a drain waits this long for the client to end its own.
const HALF_TUNNEL: Duration = Duration::from_secs(1);

/// Once new connections are refused, a head that has begun must be complete within this: one peer that sends half
/// of one should not hold up the whole drain.
const HEAD_IN_DRAIN: Duration = Duration::from_secs(5);

/// After so many connections have been parked or have ended, memory is given back.
const BURST: usize = 128;

/// How often the roster has the connections with a request under way see whether the client is still there.
const PROBE: Duration = Duration::from_secs(1);

/// How often the roster looks, normally and in a drain.
const TICK: Duration = Duration::from_millis(250);
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
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
pub(super) enum Order {
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
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) accepted: Instant,
    pub(super) stage: Cell<Stage>,
    /// Since when it has been in this stage.
    pub(super) since: Cell<Instant>,
    /// When bytes came last, over HTTP/2.
    pub(super) heard: Cell<Instant>,
    /// The request's body is held back until the app asks for it, or the client sends it unasked.
    pub(super) held: Cell<bool>,
    /// A tunnel has something under way whose fate nobody would hear of by reading.
    pub(super) watched: Cell<bool>,
    /// The client, as far as TCP knows.
    pub(super) peer: Peer,
    /// The response is an event stream, which is ended some time before the deadline.
    pub(super) events: Cell<bool>,
    /// Among others that something is spread over (see [`notice::place`]).
    pub(super) place: f64,
    order: Cell<Option<Order>>,
    notice: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Seat {
    pub(super) fn enter(&self, stage: Stage, since: Instant) {
        self.stage.set(stage);
        self.since.set(since);
        self.order.set(None);
    }

    /// Leaves the waker of the connection's task. The task is the same through the connection's life.
    pub(super) fn register(&self, waker: &Waker) {
        let mut mine = self.waker.borrow_mut();
        if !mine.as_ref().is_some_and(|mine| mine.will_wake(waker)) {
            *mine = Some(waker.clone());
        }
    }

    pub(super) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whether the client is to be told to go.
    fn told(&self, view: &View, now: Instant) -> bool {
        match view.phase() {
            Phase::Serving => false,
            Phase::LameDuck => self.notice.get().is_some_and(|notice| now >= notice),
            Phase::Draining | Phase::Drained => true,
        }
    }

    /// Whether nothing has come for so long that the client may be gone.
    fn is_silent(&self, limits: &Limits, now: Instant) -> bool {
        !limits.http2_keepalive.is_zero()
            && now.saturating_duration_since(self.heard.get()) >= limits.http2_keepalive
    }

    /// What is due at `now`.
    fn due(&self, view: &View, limits: &Limits, probe: bool, now: Instant) -> Option<Order> {
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

/// A worker's connections.
#[derive(Debug)]
pub struct Roster {
    seats: RefCell<Slab<Rc<Seat>>>,
    view: Rc<View>,
    limits: Limits,
    tools: Tools,
    /// Connections of all workers, against `--max-connections`.
    total: Arc<AtomicUsize>,
    populated: Notify,
    emptied: Notify,
    /// Connections that were torn down or parked since memory was last given back.
    shed: Cell<usize>,
    /// When exchanges are probed next.
    probe_due: Cell<Instant>,
}

impl Roster {
    /// A roster without connections; `total` counts those of all workers.
    #[must_use]
    pub fn new(limits: Limits, total: Arc<AtomicUsize>) -> Rc<Self> {
        Rc::new(Self {
            seats: RefCell::default(),
            view: Rc::default(),
            limits,
            tools: Tools::new(limits.max_pipes),
            total,
            populated: Notify::new(),
            emptied: Notify::new(),
            shed: Cell::new(0),
            probe_due: Cell::new(Instant::now()),
        })
    }

    /// What the connections see of the drain.
    #[must_use]
    pub fn view(&self) -> &Rc<View> {
        &self.view
    }

    /// Gives a new connection its seat; none when there are `--max-connections` already. `rescued`: out of the accept
    /// queue of a listener that is about to close.
    pub(super) fn admit(self: &Rc<Self>, shard: &Arc<Shard>, rescued: bool) -> Option<Member> {
        if self.total.fetch_add(1, Relaxed) >= self.limits.max_connections {
            self.total.fetch_sub(1, Relaxed);
            return None;
        }
        let now = Instant::now();
        let mut seats = self.seats.borrow_mut();
        if seats.is_empty() {
            self.populated.notify_one();
        }
        let entry = seats.vacant_entry();
        let key = entry.key();
        let seat = Rc::new(Seat {
            accepted: now,
            stage: Cell::new(Stage::Parked),
            since: Cell::new(now),
            heard: Cell::new(now),
            held: Cell::new(false),
            watched: Cell::new(false),
            peer: Peer::default(),
            events: Cell::new(false),
            place: notice::place(key),
            order: Cell::new(None),
            notice: Cell::new((self.view.phase() == Phase::LameDuck).then(|| notice::newcomer(now))),
            waker: RefCell::new(None),
        });
        entry.insert(Rc::clone(&seat));
        let member = Member {
            seat,
            key,
            roster: Rc::clone(self),
            shard: Arc::clone(shard),
            protocol: Cell::new(Protocol::Http1),
            known: Cell::new(false),
            rescued,
            end: Cell::new(End::Finished),
        };
        member.gauge().add(1);
        Some(member)
    }

    /// Waits until there are no connections.
    pub async fn emptied(&self) {
        while !self.seats.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Watches over the connections, and passes the drain's orders on to them. Never returns.
    pub async fn watch(self: Rc<Self>, mut drain: Subscriber) {
        loop {
            let empty = self.seats.borrow().is_empty() && self.shed.get() < BURST;
            let tick = if self.view.phase() == Phase::Serving { TICK } else { DRAIN_TICK };
            let step = self.view.next_step();
            let next = step.map_or(Instant::now() + tick, |step| step.min(Instant::now() + tick));
            tokio::select! {
                orders = drain.changed() => self.obey(orders),
                () = sleep_until(next), if !empty || step.is_some() => self.look(Instant::now()),
                () = self.populated.notified(), if empty => {}
            }
        }
    }

    fn obey(&self, orders: Orders) {
        let before = self.view.phase();
        let new = self.view.set(orders);
        let seats = self.seats.borrow();
        match (orders.phase, orders.plan) {
            (Phase::Serving, _) => seats.iter().for_each(|(_, seat)| seat.notice.set(None)),
            (Phase::LameDuck, Some(plan)) if new => {
                let notices = notice::spread(plan.trigger, plan.lame_duck_min, seats.len());
                for ((_, seat), notice) in seats.iter().zip(notices) {
                    seat.notice.set(Some(notice));
                }
            }
            (Phase::Draining, Some(plan)) if new || before != Phase::Draining => {
                let is_websocket = |seat: &Seat| seat.stage.get() == Stage::WebSocket;
                let count = seats.iter().filter(|(_, seat)| is_websocket(seat)).count();
                let mut goodbyes = notice::goodbyes(Instant::now(), plan.deadline, count);
                for (_, seat) in seats.iter() {
                    // All the others have been told, or are now; so are those that become one later.
                    seat.notice.set(if is_websocket(seat) { goodbyes.next() } else { None });
                }
            }
            _ => {}
        }
        drop(seats);
        self.look(Instant::now());
    }

    fn look(&self, now: Instant) {
        let shed = self.shed.get();
        // Everybody has last words to say, also those for whom no order is due.
        let wake_all = self.view.advance(now);
        let probe = now >= self.probe_due.get();
        if probe {
            self.probe_due.set(now + PROBE);
        }
        for (_, seat) in self.seats.borrow().iter() {
            let due = seat.due(&self.view, &self.limits, probe, now);
            if due.is_some() {
                seat.order.set(due);
            }
            if due == Some(Order::Park) {
                self.shed.set(self.shed.get() + 1);
            }
            if due.is_some() || wake_all {
                seat.wake();
            }
        }
        // The burst is over when a look finds nothing more to shed.
        if shed == self.shed.get() && shed >= BURST {
            self.shed.set(0);
            sys::give_memory_back();
        }
    }
}

/// A connection's membership: leaves the roster when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) seat: Rc<Seat>,
    key: usize,
    roster: Rc<Roster>,
    pub(super) shard: Arc<Shard>,
    protocol: Cell<Protocol>,
    /// It has said what it speaks, and is counted.
    known: Cell<bool>,
    /// Out of the accept queue.
    rescued: bool,
    end: Cell<End>,
}

impl Member {
    /// Whether the client is to be told to go.
    pub(super) fn told(&self) -> bool {
        match self.roster.view.phase() {
            Phase::Serving => false,
            _ => self.seat.told(&self.roster.view, Instant::now()),
        }
    }

    pub(super) fn view(&self) -> &Rc<View> {
        &self.roster.view
    }

    /// What the worker's tunnels share.
    pub(super) fn tools(&self) -> &Tools {
        &self.roster.tools
    }

    /// What the connection is.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol.get()
    }

    /// How long an HTTP/2 client may be silent before it is pinged.
    pub(super) fn http2_keepalive(&self) -> Duration {
        self.roster.limits.http2_keepalive
    }

    /// How the connection ends; the first word counts, but for a cut.
    pub(super) fn ends(&self, end: End) {
        if self.end.get() == End::Finished || end == End::Cut {
            self.end.set(end);
        }
    }

    /// From here on the connection is something else.
    pub(super) fn speaks(&self, protocol: Protocol) {
        self.gauge().add(-1);
        self.protocol.set(protocol);
        self.gauge().add(1);
        self.shard.accepted[protocol as usize].inc();
        self.known.set(true);
    }

    /// Where the connection is counted while no exchange is under way.
    fn gauge(&self) -> &Gauge {
        let protocol = self.protocol.get();
        let of_state = match protocol {
            Protocol::Http1 | Protocol::Http2 => &self.shard.idle,
            Protocol::WebSocket | Protocol::Upgrade | Protocol::Tcp => &self.shard.active,
        };
        &of_state[protocol as usize]
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.roster.total.fetch_sub(1, Relaxed);
        let protocol = self.protocol.get();
        self.gauge().add(-1);
        if !self.known.get() {
            self.shard.accepted[protocol as usize].inc();
        }
        if self.roster.view.phase() != Phase::Serving {
            let ends = &self.shard.ends[protocol as usize];
            ends[self.end.get() as usize].inc();
            if self.rescued {
                ends[End::Rescued as usize].inc();
            }
        }
        let mut seats = self.roster.seats.borrow_mut();
        seats.remove(self.key);
        self.roster.shed.set(self.roster.shed.get() + 1);
        if seats.is_empty() {
            self.roster.emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
