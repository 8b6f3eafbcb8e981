//! The connections to the app that no request is using.

use std::collections::{HashMap, VecDeque};

use tokio::time::{Duration, Instant};

use super::conn::Conn;
use super::stream::Stream;
use crate::proxy_protocol::Preamble;

/// Idle connections, each list with the newest at the back: reuse takes from there, so that those not needed grow
/// old in front.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Good for every client.
    any: VecDeque<Box<Conn>>,
    /// Begun with a PROXY protocol header, so good only for the client that it names.
    own: HashMap<Preamble, VecDeque<Box<Conn>>>,
    /// Good for every client, and without hyper's state.
    bare: VecDeque<Bare>,
}

/// A connection that is nothing but a stream.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) stream: Stream,
    pub(super) since: Instant,
}

impl Idle {
    pub(super) fn is_empty(&self) -> bool {
        self.any.is_empty() && self.own.is_empty() && self.bare.is_empty()
    }

    /// How many are good for every client.
    pub(super) fn len(&self) -> usize {
        self.any.len() + self.bare.len()
    }

    pub(super) fn push(&mut self, conn: Box<Conn>) {
        match conn.lane.preamble() {
            None => self.any.push_back(conn),
            Some(preamble) => self.own.entry(preamble.clone()).or_default().push_back(conn),
        }
    }

    /// The newest that began with `preamble`.
    pub(super) fn pop(&mut self, preamble: Option<&Preamble>) -> Option<Box<Conn>> {
        let Some(preamble) = preamble else { return self.any.pop_back() };
        let own = self.own.get_mut(preamble)?;
        let conn = own.pop_back();
        if own.is_empty() {
            self.own.remove(preamble);
        }
        conn
    }

    pub(super) fn push_bare(&mut self, bare: Bare) {
        self.bare.push_back(bare);
    }

    /// The newest without hyper's state; or, if there is none, the newest that can be stripped of it.
    pub(super) fn pop_bare(&mut self) -> Option<Bare> {
        self.bare.pop_back().or_else(|| self.any.pop_back().and_then(|conn| conn.strip()))
    }

    /// Drops what has not been needed for `max`; says how many.
    pub(super) fn expire(&mut self, now: Instant, max: Duration) -> usize {
        let mut expired = expire(&mut self.bare, |bare| now.duration_since(bare.since) < max);
        expired += expire(&mut self.any, |conn| now.duration_since(conn.idle_since) < max);
        self.own.retain(|_, own| {
            expired += expire(own, |conn| now.duration_since(conn.idle_since) < max);
            !own.is_empty()
        });
        expired
    }

    /// Drops a client's own; says how many.
    pub(super) fn forget(&mut self, preamble: &Preamble) -> usize {
        self.own.remove(preamble).map_or(0, |own| own.len())
    }
}

/// Drops those in front of the first that is fresh; says how many.
fn expire<T>(conns: &mut VecDeque<T>, is_fresh: impl Fn(&T) -> bool) -> usize {
    let fresh = conns.iter().position(is_fresh);
    conns.drain(..fresh.unwrap_or(conns.len())).count()
}
