//! What has come on streams, and how much more may come: flow control as the receiver sees it (RFC 9113, section 5.2).

use bytes::{Bytes, BytesMut};

use super::{Core, Key, Role};
use crate::http2::fields::Fields;
use crate::http2::frame::{self, kind};

/// As much of a body is taken at a time: only what has been passed on lets the sender go on.
const PIECE: usize = 16 << 10;

impl Core {
    /// Counts what has come on the connection; false when that is more than allowed.
    pub(in crate::http2) fn receives(&mut self, len: usize) -> bool {
        self.receive_window -= i64::try_from(len).unwrap_or(i64::MAX);
        if self.receive_window < 0 {
            return false;
        }
        self.announce();
        true
    }

    /// Counts what has come on a stream.
    pub(in crate::http2) fn hold(&mut self, key: Key, len: u32) {
        self.slots[key].held += len;
    }

    /// So much of what has come on a stream has been passed on: it may go on with as much.
    pub(in crate::http2) fn release(&mut self, key: Key, len: u32) {
        let slot = &mut self.slots[key];
        let len = len.min(slot.held);
        slot.held -= len;
        slot.owed += len;
        if !slot.received && slot.error.is_none() && slot.owed >= self.limits.stream_window / 4 {
            let owed = std::mem::take(&mut slot.owed);
            slot.receive_window += i64::from(owed);
            let number = slot.number;
            frame::put_number(self.out.data(), kind::WINDOW_UPDATE, number, owed);
            self.wake_driver();
        }
        self.release_connection(len);
    }

    pub(in crate::http2) fn release_connection(&mut self, len: u32) {
        self.owed += len;
        self.announce();
    }

    /// Makes what has been released part of the connection's window again, when it is half of all, or half of what is left
    /// beside what streams hold.
    fn announce(&mut self) {
        let much =
            self.owed >= self.limits.connection_window / 2 || i64::from(self.owed) > self.receive_window;
        if much && self.owed > 0 && self.gone.is_none() {
            let owed = std::mem::take(&mut self.owed);
            self.receive_window += i64::from(owed);
            frame::put_number(self.out.data(), kind::WINDOW_UPDATE, 0, owed);
            self.wake_driver();
        }
    }

    /// Nobody reads a stream any more: what comes on it still has to be counted.
    pub(in crate::http2) fn forget(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        slot.unread = true;
        slot.inbox = BytesMut::new();
        slot.reader = None;
        let held = std::mem::take(&mut slot.held);
        self.release_connection(held);
    }

    /// Takes out what has come of a body.
    pub(in crate::http2) fn take_data(&mut self, key: Key) -> Option<Bytes> {
        let inbox = &mut self.slots[key].inbox;
        let taken = if inbox.len() <= PIECE { std::mem::take(inbox) } else { inbox.split_to(PIECE) };
        (!taken.is_empty()).then(|| taken.freeze())
    }

    /// The other side has cost more than it should.
    pub(in crate::http2) fn offend(&mut self) {
        // An app is trusted, and nobody counts.
        if self.role == Role::Server {
            self.offences += 1;
        }
    }

    /// A new list for the fields of a head.
    pub(in crate::http2) fn fields(&self) -> Fields {
        Fields::new(self.limits.head)
    }
}
