//! What is to be written to a connection.

/// How much may wait for a socket that takes nothing before bodies have to wait elsewhere.
const ROOM: usize = 64 << 10;

/// As much as an empty one keeps.
const KEPT: usize = 16 << 10;

/// How many frames may wait that the other side has asked for. Somebody who asks, and does not read the answers, is not
/// read from any more.
const ANSWERS: u32 = 1000;

/// How much may wait in all before a client that reads nothing is not read from any more: responses without a body need no
/// window.
const FULL: usize = 16 * ROOM;

/// Frames in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// So many of them have been written.
    written: usize,
    /// Answers since `mark`.
    answers: u32,
    /// Where the first of them is.
    mark: usize,
}

impl Outbox {
    /// Where to append frames.
    pub(super) fn data(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Where to append what the other side has asked for by a frame of its own, as often as it likes.
    pub(super) fn answer(&mut self) -> &mut Vec<u8> {
        if self.answers == 0 {
            self.mark = self.bytes.len();
        }
        self.answers += 1;
        &mut self.bytes
    }

    pub(super) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// So many more have been written.
    pub(super) fn advance(&mut self, by: usize) {
        self.written += by;
        if self.written > self.mark {
            self.answers = 0;
        }
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        } else if self.written >= ROOM {
            self.bytes.drain(..self.written);
            self.mark = self.mark.saturating_sub(self.written);
            self.written = 0;
        }
    }

    /// Gives the memory back, if it is empty.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// How many bytes of bodies may be appended.
    pub(super) fn room(&self) -> usize {
        ROOM.saturating_sub(self.unwritten().len())
    }

    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Too many answers wait.
    pub(super) fn is_flooded(&self) -> bool {
        self.answers > ANSWERS
    }

    /// So much waits that it is time to wait for the other side.
    pub(super) fn is_full(&self) -> bool {
        self.unwritten().len() > FULL
    }
}
