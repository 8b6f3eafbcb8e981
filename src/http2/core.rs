//! What the two sides of a connection have in common: its streams, its windows, and what is to be written.
//!
//! The connection's [driver](super::driver) and the [handles](super::stream) of its streams share a [`Core`]. The driver
//! feeds it with what has come, which wakes whoever waits for that on a stream; and writes what the handles have put
//! into it, for which they wake the driver.

use std::io;
use std::task::{Context, Waker};

use slab::Slab;

use super::frame::{self, kind};
use super::hpack::{Decoder, Encoder};
use super::outbox::Outbox;
use super::reason::{Error, Reason};
use super::recent::Recent;

#[cfg(test)]
mod check;
mod receiving;
mod sending;
mod slot;

pub(super) use slot::{Slot, TooLarge, register};

/// A stream's place among the connection's.
pub(super) type Key = usize;

/// Who we are on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// What we allow the other side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The window of a stream, in bytes.
    pub(super) stream_window: u32,
    /// The window of all streams together.
    pub(super) connection_window: u32,
    /// Streams that it may have open at a time.
    pub(super) streams: u32,
    /// The largest head, as RFC 9113 counts it.
    pub(super) head: usize,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) out: Outbox,
    /// How many bytes of bodies may be sent, on all streams together.
    pub(super) window: i64,
    /// The window of a stream that is new to the other side.
    pub(super) stream_window: i64,
    /// How many streams we may have open.
    pub(super) peer_streams: u32,
    /// What the other side may still send.
    pub(super) receive_window: i64,
    /// What has been read and is not yet announced as part of the window again.
    owed: u32,
    pub(super) slots: Slab<Slot>,
    /// The places of the streams by their numbers, in order.
    numbers: Vec<(u32, Key)>,
    /// Streams that are not over as far as the protocol is concerned.
    pub(super) open: u32,
    /// Streams that wait for room, or for the connection's window.
    waiting: Vec<Key>,
    /// Those of them that have sent something since they waited last: it is the others' turn.
    served: Vec<Key>,
    /// The next stream that we open.
    pub(super) next: u32,
    /// The last stream that the other side has opened.
    pub(super) last: u32,
    /// Streams of a client that we have ended before it did: trailers may still be under way on them.
    pub(super) ended: Recent,
    /// The head that has come in part.
    pub(super) block: Option<super::incoming::Partial>,
    /// The other side has said its settings.
    pub(super) greeted: bool,
    /// The reason of the other side's GOAWAY.
    pub(super) leaving: Option<Reason>,
    /// We have said the last GOAWAY, and end with what is to be written.
    pub(super) closing: Option<Reason>,
    /// It is over.
    pub(super) gone: Option<Error>,
    /// What the other side has done that costs more than it should.
    pub(super) offences: u32,
    /// Frames without anything in them, one after the other.
    pub(super) empty: u32,
    /// The first GOAWAY has been said, and the ping behind it.
    pub(super) told: bool,
    /// A ping of ours has not been answered yet.
    pub(super) pinged: bool,
    driver: Option<Waker>,
    /// The driver is at work, and will see what is put into `out`.
    pub(super) driving: bool,
    /// For [`super::server`] and [`super::client`]: streams whose heads have come, or have to wait.
    pub(super) queue: std::collections::VecDeque<Key>,
}

impl Core {
    pub(super) fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            decoder: Decoder::new(),
            encoder: Encoder::default(),
            out: Outbox::default(),
            window: i64::from(frame::WINDOW),
            stream_window: i64::from(frame::WINDOW),
            peer_streams: u32::MAX,
            receive_window: i64::from(limits.connection_window),
            owed: 0,
            slots: Slab::new(),
            numbers: Vec::new(),
            open: 0,
            waiting: Vec::new(),
            served: Vec::new(),
            next: 1,
            last: 0,
            ended: Recent::default(),
            block: None,
            greeted: false,
            leaving: None,
            closing: None,
            gone: None,
            offences: 0,
            empty: 0,
            told: false,
            pinged: false,
            driver: None,
            driving: false,
            queue: std::collections::VecDeque::new(),
        }
    }

    /// Says what we allow. The window of the connection begins at its default (RFC 9113, section 6.9.2).
    pub(super) fn greet(&mut self, settings: &[(u16, u32)]) {
        let out = self.out.data();
        frame::put_settings(out, settings);
        let more = self.limits.connection_window.saturating_sub(frame::WINDOW);
        if more > 0 {
            frame::put_number(out, kind::WINDOW_UPDATE, 0, more);
        }
    }

    // Waking.

    /// The driver is at work, until [`Core::rest`].
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        self.driving = true;
        register(&mut self.driver, cx);
    }

    /// The driver has done what there is to do.
    pub(super) fn rest(&mut self) {
        self.driving = false;
    }

    /// What comes has to wait until something has been written. To the app that is only so for what it has asked for: it may
    /// not read before its responses are read, and what it gets is bounded elsewhere ([`SendRequest::is_congested`]).
    ///
    /// [`SendRequest::is_congested`]: super::client::SendRequest::is_congested
    pub(super) fn is_held_back(&self) -> bool {
        self.out.is_flooded() || (self.role == Role::Server && self.out.is_full())
    }

    /// Something has been put into `out`, or the connection may be over.
    pub(super) fn wake_driver(&mut self) {
        if !self.driving
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
    }

    /// There is room again, or the connection's window is open.
    pub(super) fn wake_waiting(&mut self) {
        if self.window <= 0 || !self.out.has_room() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for key in waiting.into_iter().chain(std::mem::take(&mut self.served)) {
            if let Some(slot) = self.slots.get_mut(key)
                && std::mem::take(&mut slot.waiting)
                && let Some(writer) = slot.writer.take()
            {
                writer.wake();
            }
        }
    }

    // Streams.

    pub(super) fn find(&self, number: u32) -> Option<Key> {
        let at = self.numbers.binary_search_by_key(&number, |&(number, _)| number).ok()?;
        Some(self.numbers[at].1)
    }

    /// A stream of the other side.
    pub(super) fn insert(&mut self, number: u32) -> Key {
        let slot = Slot { counted: true, ..Slot::new(number, self.stream_window, &self.limits) };
        self.open += 1;
        let key = self.slots.insert(slot);
        self.numbers.push((number, key));
        key
    }

    /// A stream of ours that is not open yet.
    pub(super) fn insert_unopened(&mut self) -> Key {
        self.slots.insert(Slot::new(0, self.stream_window, &self.limits))
    }

    /// Gives it a number. None are left: `None`.
    pub(super) fn open(&mut self, key: Key) -> Option<u32> {
        let number = self.next;
        if number > frame::WINDOW_MAX as u32 {
            return None;
        }
        self.next += 2;
        self.numbers.push((number, key));
        self.open += 1;
        let slot = &mut self.slots[key];
        (slot.number, slot.counted, slot.window) = (number, true, self.stream_window);
        Some(number)
    }

    /// Notes that a stream may be over, as far as the protocol is concerned, and forgets it when nobody has a handle.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.is_over() {
            return;
        }
        if std::mem::take(&mut slot.counted) {
            self.open -= 1;
        }
        if slot.handles == 0 {
            self.remove(key);
        }
        if self.role == Role::Client {
            self.open_queued();
            self.wake_driver();
        }
    }

    pub(super) fn remove(&mut self, key: Key) {
        let slot = self.slots.remove(key);
        if slot.waiting {
            self.waiting.retain(|&waiting| waiting != key);
            self.served.retain(|&waiting| waiting != key);
        }
        if let Ok(at) = self.numbers.binary_search_by_key(&slot.number, |&(number, _)| number) {
            self.numbers.remove(at);
        }
        self.release_connection(slot.held);
        if self.slots.is_empty() {
            self.shrink();
        }
    }

    /// An idle connection needs none of it.
    fn shrink(&mut self) {
        self.slots = Slab::new();
        self.numbers = Vec::new();
        self.waiting = Vec::new();
        self.served = Vec::new();
        self.wake_driver();
    }

    /// Ends a stream before its end.
    pub(super) fn reset(&mut self, key: Key, reason: Reason, error: Error) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.is_over() {
            return;
        }
        slot.error = Some(error);
        slot.unsent = None;
        slot.wake();
        let number = slot.number;
        if number > 0 {
            if self.role == Role::Server {
                self.ended.push(number);
            }
            frame::put_number(self.out.data(), kind::RST_STREAM, number, reason.0);
            self.wake_driver();
        }
        self.settle(key);
    }

    /// Its last handle is gone.
    pub(super) fn abandon(&mut self, key: Key) {
        let slot = &self.slots[key];
        if slot.is_over() || self.gone.is_some() {
            self.settle(key);
            if self.slots.contains(key) {
                self.remove(key);
            }
            return;
        }
        // The rest of a request whose response is complete is of no use (RFC 9113, section 8.1).
        let reason = if self.role == Role::Server && slot.sent { Reason::NO_ERROR } else { Reason::CANCEL };
        self.reset(key, reason, Error::Reset(reason));
    }

    // The end.

    /// The connection is over, and with it all streams.
    pub(super) fn fail(&mut self, error: Error) {
        self.gone.get_or_insert(error);
        for (_, slot) in &mut self.slots {
            if !slot.is_over() {
                // What has never been sent may be sent elsewhere.
                let unsent = slot.unsent.take().is_some();
                slot.error = Some(if unsent { Error::Unprocessed(Reason::NO_ERROR) } else { error });
            }
            slot.wake();
        }
        self.wake_driver();
    }

    /// The other side did what it may not do.
    pub(super) fn breach(&mut self, reason: Reason) -> Error {
        let error = Error::Breach(reason);
        self.close(reason);
        self.fail(error);
        error
    }

    /// Says the last GOAWAY; another one if something goes wrong after it.
    pub(super) fn close(&mut self, reason: Reason) {
        if self.closing.is_none_or(|said| said == Reason::NO_ERROR && reason != said) {
            self.closing = Some(reason);
            // A server's client needs to know what it may repeat; a client's server has opened nothing.
            frame::put_goaway(self.out.data(), self.last, reason);
            self.wake_driver();
        }
    }

    pub(super) fn lose(&mut self, error: &io::Error) -> Error {
        let error = Error::Gone(error.kind());
        self.fail(error);
        error
    }
}
