//! Every client connection of a worker, and the one clock that watches over them.
//!
//! A connection has no timers of its own. It keeps its [`Seat`] up to date with plain stores; a few times a
//! second the roster looks at every seat, and where something is due it leaves an [`Order`] there and wakes
//! the connection. A worker without connections has no timer at all.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

mod seat;

pub(super) use seat::{Order, Seat, Stage};

/// After so many connections have been parked or have ended, memory is given back.
const BURST: usize = 128;

/// How often the roster has the connections with a request under way see whether the client is still there.
const PROBE: Duration = Duration::from_secs(1);

/// How often the roster looks, normally and in a drain.
const TICK: Duration = Duration::from_millis(250);
const DRAIN_TICK: Duration = Duration::from_millis(50);

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
            waker: Cell::new(None),
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
