//! The two directions of a tunnel, and how one's end becomes the other's.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::direction::{Direction, Half};
use super::side::Side;
use super::tools::Tools;
use crate::connection::peer::{Peer, Presence};
use crate::metrics::{Counter, Toward};
use crate::sys;

/// How a tunnel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Ending {
    /// Everything has been said and passed on.
    Over,
    /// The client has broken off. The app has got what it said.
    ClientGone,
    /// The app has broken off. The client has got what it said.
    AppGone,
}

/// Two sides and what passes between them.
#[derive(Debug)]
pub(in crate::connection) struct Relay<C, A> {
    pub(in crate::connection) client: C,
    pub(in crate::connection) app: A,
    /// From the client to the app.
    pub(in crate::connection) up: Direction,
    /// From the app to the client.
    pub(in crate::connection) down: Direction,
    app_peer: Peer,
    /// What is on its way, or might be reset, without anybody hearing of it.
    watched: bool,
}

impl<C: Side, A: Side> Relay<C, A> {
    pub(in crate::connection) fn new(client: C, app: A, up: Direction, down: Direction) -> Self {
        Self { client, app, up, down, app_peer: Peer::default(), watched: false }
    }

    /// Moves what can be moved; ready when nothing is left to be done. `bytes` are counted by [`Toward`].
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        tools: &Tools,
        bytes: &[Counter; Toward::ALL.len()],
    ) -> Poll<Ending> {
        self.poll_both(cx, tools, bytes);
        use Half::{Done, SourceGone, TargetGone};
        match (self.up.half(), self.down.half()) {
            (Some(SourceGone), _) => Poll::Ready(Ending::ClientGone),
            (_, Some(SourceGone)) => Poll::Ready(Ending::AppGone),
            // A client that takes nothing more may still have something to say, and the app as well.
            (Some(_), Some(TargetGone)) => Poll::Ready(Ending::ClientGone),
            (Some(_), Some(Done)) => Poll::Ready(Ending::Over),
            (None, _) | (_, None) => Poll::Pending,
        }
    }

    /// After [`Relay::finish`]: ready when both sides have ended.
    pub(super) fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        tools: &Tools,
        bytes: &[Counter; Toward::ALL.len()],
    ) -> Poll<()> {
        self.poll_both(cx, tools, bytes);
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether both sides have ended, and nothing is to be passed on any more.
    pub(super) fn is_over(&self) -> bool {
        self.up.is_over() && self.down.is_over()
    }

    fn poll_both(&mut self, cx: &mut Context<'_>, tools: &Tools, bytes: &[Counter; Toward::ALL.len()]) {
        let (client, app) = (&mut self.client, &mut self.app);
        let reset = self.down.target_reset();
        let _ = self.up.poll(cx, (client, app), reset, tools, &bytes[Toward::App as usize]);
        let reset = self.up.target_reset();
        let _ = self.down.poll(cx, (app, client), reset, tools, &bytes[Toward::Client as usize]);
        self.watched |= self.up.take_wrote() | self.down.take_wrote() | self.up.eof() | self.down.eof();
    }

    /// Both sides get a FIN after what is held for them; what they say from now on goes nowhere.
    pub(super) fn finish(&mut self) {
        self.up.unfollow();
        self.down.unfollow();
        self.up.finish();
        self.down.finish();
    }

    /// Whether a look now and then is needed.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Looks whether the two sides are still there.
    ///
    /// A RST is heard of by reading, after all that was said before it. Nobody reads from a side that has ended its own
    /// half; and nobody hears anything of one that has vanished.
    pub(super) fn look(&mut self, client_peer: &Peer, now: Instant) -> Option<Ending> {
        let client = self.client.tcp().map(|socket| client_peer.look(socket, now));
        let app = self.app.tcp().map(|socket| self.app_peer.look(socket, now));
        if client == Some(Presence::Closed) && self.up.eof() {
            self.down.give_up();
        }
        if app == Some(Presence::Closed) && self.down.eof() {
            self.up.give_up();
        }
        let unacknowledged = |socket| sys::unacknowledged(socket) > 0;
        self.watched = self.up.eof()
            || self.down.eof()
            || self.client.tcp().is_some_and(unacknowledged)
            || self.app.tcp().is_some_and(unacknowledged);
        match (client, app) {
            (Some(Presence::Vanished), _) => Some(Ending::ClientGone),
            (_, Some(Presence::Vanished)) => Some(Ending::AppGone),
            _ => None,
        }
    }
}
