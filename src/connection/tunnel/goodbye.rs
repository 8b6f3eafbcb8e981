//! A WebSocket in a tunnel: its frames are followed, and in a drain both ends are told to go.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::time::Instant;

use super::direction::{Filter, Step};
use super::relay::Relay;
use super::side;
use crate::websocket::{Close, Side, WebSocket, Written};

/// What the two directions of a tunnel and the tunnel itself know of the WebSocket.
#[derive(Debug, Clone)]
pub(super) struct Shared(Rc<RefCell<WebSocket>>);

/// How far a goodbye is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something is awaited still.
    UnderWay,
    Over,
    /// This is no WebSocket, whatever it was said to be: there is nothing that can be said.
    Impossible,
}

impl Shared {
    /// Follows both directions of a tunnel.
    pub(super) fn follow<C, A>(relay: &mut Relay<C, A>) -> Self {
        let shared = Self(Rc::default());
        relay.up.follow(Box::new(Follower { socket: shared.clone(), from: Side::Client }));
        relay.down.follow(Box::new(Follower { socket: shared.clone(), from: Side::App }));
        shared
    }

    pub(super) fn tell(&self) {
        self.0.borrow_mut().tell();
    }

    pub(super) fn is_told(&self) -> bool {
        self.0.borrow().is_told()
    }

    /// Whether a Close of ours has gone out.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.0.borrow().has_said_goodbye()
    }

    /// Has both directions say what is due now, once it has been told.
    pub(super) fn say<C: side::Side, A: side::Side>(&self, relay: &mut Relay<C, A>, now: Instant) {
        let mut socket = self.0.borrow_mut();
        let written = Written { to_client: !relay.down.holds(), to_app: !relay.up.holds() };
        let sends = socket.look(written, now);
        if let Some(close) = sends.to_client {
            relay.down.say(&bytes(&close));
        }
        if let Some(close) = sends.to_app {
            relay.up.say(&bytes(&close));
        }
        if socket.is_over_for_client() {
            relay.down.finish();
        }
    }

    pub(super) fn progress(&self, now: Instant) -> Progress {
        let socket = self.0.borrow();
        if socket.is_over(now) {
            Progress::Over
        } else if socket.is_followed() || socket.has_said_goodbye() {
            Progress::UnderWay
        } else {
            Progress::Impossible
        }
    }
}

/// Follows one direction.
#[derive(Debug)]
struct Follower {
    socket: Shared,
    from: Side,
}

impl Filter for Follower {
    fn pass(&mut self, chunk: &[u8]) -> Step {
        let step = self.socket.0.borrow_mut().pass(self.from, chunk);
        Step { pass: step.pass, inject: step.inject.as_ref().map(bytes) }
    }

    fn ended(&mut self) -> Option<Bytes> {
        self.socket.0.borrow_mut().ended(self.from).as_ref().map(bytes)
    }

    fn holds_end(&self) -> bool {
        self.socket.0.borrow().holds_end(self.from)
    }

    fn may_break_off(&self) -> bool {
        self.socket.0.borrow().may_break_off(self.from)
    }
}

fn bytes(close: &Close) -> Bytes {
    Bytes::copy_from_slice(close.as_ref())
}
