//! The connections to the app that no request is using.

use std::collections::{HashMap, VecDeque};

use tokio::time::{Duration, Instant};

use super::conn::Conn;
use crate::proxy_protocol::Preamble;

/// Idle connections, each list with the newest at the back: reuse takes from there, so that those not needed grow
/// old in front.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Good for every client.
    any: VecDeque<Box<Conn>>,
    /// Begun with a PROXY protocol header, so good only for the client that it names.
    own: HashMap<Preamble, VecDeque<Box<Conn>>>,
}

impl Idle {
    pub(super) fn is_empty(&self) -> bool {
        self.any.is_empty() && self.own.is_empty()
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

    /// Drops what has not been needed for `max`; says how many.
    pub(super) fn expire(&mut self, now: Instant, max: Duration) -> usize {
        let expire = |conns: &mut VecDeque<Box<Conn>>| {
            let fresh = conns.iter().position(|conn| now.duration_since(conn.idle_since) < max);
            conns.drain(..fresh.unwrap_or(conns.len())).count()
        };
        let mut expired = expire(&mut self.any);
        self.own.retain(|_, own| {
            expired += expire(own);
            !own.is_empty()
        });
        expired
    }

    /// Drops a client's own; says how many.
    pub(super) fn forget(&mut self, preamble: &Preamble) -> usize {
        self.own.remove(preamble).map_or(0, |own| own.len())
    }
}
