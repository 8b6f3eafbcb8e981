//! One direction of a WebSocket: what goes on, where our Close goes in, and what goes nowhere after it.

use super::frames::{Frames, Violation};
use super::{Close, Side};

/// What becomes of a chunk: its first bytes go on, then our Close goes out; the rest of it goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// So many bytes of the chunk go on.
    pub pass: usize,
    /// To be sent after them.
    pub inject: Option<Close>,
}

/// Where our Close may go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Between two messages.
    Messages,
    /// Between two frames, be they of one message.
    Frames,
}

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything goes on.
    Open,
    /// Everything goes on until there is a gap for our Close.
    Wanted(Gap),
    /// The source's Close has gone on, and so does whatever may follow it.
    Theirs,
    /// Ours has gone out: nothing goes on any more.
    Ours,
    /// The source has ended without a Close.
    Ended,
    /// The source does not send frames as it should. That is not ours to judge: everything goes on, for ever.
    Lost,
}

#[derive(Debug)]
pub(super) struct Direction {
    from: Side,
    frames: Frames,
    state: State,
    /// The source's own Close has come after ours.
    answered: bool,
    /// After ours, the source has sent what is no frame.
    unreadable: bool,
}

impl Direction {
    pub(super) fn new(from: Side) -> Self {
        Self { from, frames: Frames::new(from), state: State::Open, answered: false, unreadable: false }
    }

    /// Decides on the next bytes from the source.
    pub(super) fn pass(&mut self, chunk: &[u8]) -> Step {
        let mut used = 0;
        while matches!(self.state, State::Open | State::Wanted(_)) {
            if let Some(close) = self.close_if_gap() {
                self.swallow(&chunk[used..]);
                return Step { pass: used, inject: Some(close) };
            }
            if used == chunk.len() {
                return Step { pass: used, inject: None };
            }
            match self.frames.follow(&chunk[used..]) {
                Ok((n, close)) => {
                    used += n;
                    if close {
                        self.state = State::Theirs;
                    }
                }
                Err(Violation) => self.state = State::Lost,
            }
        }
        if self.state == State::Ours {
            self.swallow(chunk);
            return Step { pass: 0, inject: None };
        }
        Step { pass: chunk.len(), inject: None }
    }

    /// From now on our Close is to go out at the next gap of this kind. Returns it when that is here already.
    pub(super) fn want(&mut self, gap: Gap) -> Option<Close> {
        if !matches!(self.state, State::Open | State::Wanted(_)) {
            return None;
        }
        self.state = State::Wanted(gap);
        self.close_if_gap()
    }

    /// Our Close is not to go out for now.
    pub(super) fn want_no_more(&mut self) {
        if matches!(self.state, State::Wanted(_)) {
            self.state = State::Open;
        }
    }

    /// The source says nothing more, nor do we in its place.
    pub(super) fn end(&mut self) {
        if matches!(self.state, State::Open | State::Wanted(_)) {
            self.state = State::Ended;
        }
    }

    fn close_if_gap(&mut self) -> Option<Close> {
        let here = match self.state {
            State::Wanted(Gap::Messages) => self.frames.between_messages(),
            State::Wanted(Gap::Frames) => self.frames.between_frames(),
            _ => false,
        };
        here.then(|| {
            self.state = State::Ours;
            Close::going_away(self.from)
        })
    }

    /// Looks for the source's own Close in what goes nowhere.
    fn swallow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.answered && !self.unreadable {
            match self.frames.follow(bytes) {
                Ok((n, close)) => {
                    bytes = &bytes[n..];
                    self.answered = close;
                }
                Err(Violation) => self.unreadable = true,
            }
        }
    }

    /// Frames can be followed, so that our Close can go in.
    pub(super) fn is_followed(&self) -> bool {
        self.state != State::Lost
    }

    /// The target has got a Close (or it is on its way), the source's or ours.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Theirs | State::Ours)
    }

    /// It is ours that the target has got.
    pub(super) fn is_closed_by_us(&self) -> bool {
        self.state == State::Ours
    }

    /// The source has sent its Close.
    pub(super) fn source_has_closed(&self) -> bool {
        self.state == State::Theirs || self.answered
    }
}
