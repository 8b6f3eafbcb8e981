//! What the two sides of a connection have in common: its streams, its windows, and what is to be written.
//!
//! The connection's [driver](super::driver) and the [handles](super::stream) of its streams share a [`Core`]. The driver
//! feeds it with what has come, which wakes whoever waits for that on a stream; and writes what the handles have put
//! into it, for which they wake the driver.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::fields::Fields;
use super::frame::{self, PAYLOAD_MAX, WINDOW_MAX, flag, kind};
use super::head::Head;
use super::hpack::{Decoder, Encoder};
use super::outbox::Outbox;
use super::reason::{Error, Reason};
use super::recent::Recent;

#[cfg(test)]
mod check;

/// A stream's place among the connection's.
pub(super) type Key = usize;

/// As much of a body is taken at a time: only what has been passed on lets the sender go on.
const PIECE: usize = 16 << 10;

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
    /// A ping of ours has not been answered yet.
    pub(super) pinged: bool,
    driver: Option<Waker>,
    /// The driver is at work, and will see what is put into `out`.
    pub(super) driving: bool,
    /// For [`super::server`] and [`super::client`]: streams whose heads have come, or have to wait.
    pub(super) queue: std::collections::VecDeque<Key>,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Slot {
    /// None yet: 0.
    pub(super) number: u32,
    /// Handles to it.
    pub(super) handles: u32,
    /// The other side has ended it.
    pub(super) received: bool,
    /// We have ended it.
    pub(super) sent: bool,
    /// Counts among those that are open.
    pub(super) counted: bool,
    /// Nobody reads it.
    pub(super) unread: bool,
    /// It waits for room or the connection's window.
    waiting: bool,
    /// A 100 (Continue) has come.
    pub(super) continued: bool,
    /// The response to a HEAD has a length, but no body.
    pub(super) is_head: bool,
    /// Why it is over before its end.
    pub(super) error: Option<Error>,
    pub(super) window: i64,
    pub(super) receive_window: i64,
    /// Has come, and is not released.
    held: u32,
    /// Released, and not announced.
    owed: u32,
    /// What has to come still, by the head.
    pub(super) left: Option<u64>,
    pub(super) inbox: BytesMut,
    pub(super) head: Option<Result<Head, TooLarge>>,
    /// The head of the response has come.
    pub(super) has_head: bool,
    pub(super) trailers: Option<Head>,
    /// A request that has to wait for others to end, and whether it has no body.
    pub(super) unsent: Option<Box<(Vec<u8>, bool)>>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// The head is larger than allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooLarge;

impl Slot {
    fn new(number: u32, window: i64, limits: &Limits) -> Self {
        Self {
            number,
            handles: 0,
            received: false,
            sent: false,
            counted: false,
            unread: false,
            waiting: false,
            continued: false,
            is_head: false,
            error: None,
            window,
            receive_window: i64::from(limits.stream_window),
            held: 0,
            owed: 0,
            left: None,
            inbox: BytesMut::new(),
            head: None,
            has_head: false,
            trailers: None,
            unsent: None,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        self.wake_reader();
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// The head of the response has come.
    pub(super) fn answered(&self) -> bool {
        self.has_head
    }

    fn is_over(&self) -> bool {
        self.error.is_some() || (self.received && self.sent)
    }
}

/// Keeps who is to be woken.
pub(super) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
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
            pinged: false,
            driver: None,
            driving: false,
            queue: std::collections::VecDeque::new(),
        }
    }

    /// Says what we allow. The window of the connection begins at its default (RFC 9113, section 6.9.2).
    pub(super) fn greet(&mut self, settings: &[(u16, u32)]) {
        let out = self.out.control();
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
        for key in std::mem::take(&mut self.waiting) {
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
                slot.error = Some(error);
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

    /// Says the last GOAWAY.
    pub(super) fn close(&mut self, reason: Reason) {
        if self.closing.is_none() {
            self.closing = Some(reason);
            // A server's client needs to know what it may repeat; a client's server has opened nothing.
            frame::put_goaway(self.out.control(), self.last, reason);
            self.wake_driver();
        }
    }

    pub(super) fn lose(&mut self, error: &io::Error) -> Error {
        let error = Error::Gone(error.kind());
        self.fail(error);
        error
    }

    // Receiving.

    /// Counts what has come on the connection; false when that is more than allowed.
    pub(super) fn receives(&mut self, len: usize) -> bool {
        self.receive_window -= i64::try_from(len).unwrap_or(i64::MAX);
        self.receive_window >= 0
    }

    /// Counts what has come on a stream.
    pub(super) fn hold(&mut self, key: Key, len: u32) {
        self.slots[key].held += len;
    }

    /// So much of what has come on a stream has been passed on: it may go on with as much.
    pub(super) fn release(&mut self, key: Key, len: u32) {
        let slot = &mut self.slots[key];
        let len = len.min(slot.held);
        slot.held -= len;
        slot.owed += len;
        if !slot.received && slot.error.is_none() && slot.owed >= self.limits.stream_window / 4 {
            let owed = std::mem::take(&mut slot.owed);
            slot.receive_window += i64::from(owed);
            let number = slot.number;
            frame::put_number(self.out.control(), kind::WINDOW_UPDATE, number, owed);
            self.wake_driver();
        }
        self.release_connection(len);
    }

    pub(super) fn release_connection(&mut self, len: u32) {
        self.owed += len;
        if self.owed >= self.limits.connection_window / 2 && self.gone.is_none() {
            let owed = std::mem::take(&mut self.owed);
            self.receive_window += i64::from(owed);
            frame::put_number(self.out.control(), kind::WINDOW_UPDATE, 0, owed);
            self.wake_driver();
        }
    }

    /// Nobody reads a stream any more: what comes on it still has to be counted.
    pub(super) fn forget(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        slot.unread = true;
        slot.inbox = BytesMut::new();
        slot.reader = None;
        let held = std::mem::take(&mut slot.held);
        self.release_connection(held);
    }

    // Sending.

    /// How many bytes may be sent on a stream now; pending when none.
    pub(super) fn poll_room(&mut self, key: Key, cx: &Context<'_>) -> Poll<Result<usize, Error>> {
        let slot = &mut self.slots[key];
        if let Some(error) = slot.error {
            return Poll::Ready(Err(error));
        }
        let room = self.window.min(slot.window);
        if room > 0 && self.out.has_room() && slot.number > 0 {
            let room = usize::try_from(room).unwrap_or(0).min(self.out.room());
            return Poll::Ready(Ok(room));
        }
        register(&mut slot.writer, cx);
        if slot.window > 0 && slot.number > 0 && !std::mem::replace(&mut slot.waiting, true) {
            self.waiting.push(key);
        }
        Poll::Pending
    }

    /// Sends a part of a body for which there is room.
    pub(super) fn send_data(&mut self, key: Key, data: &[u8], end: bool) {
        let slot = &mut self.slots[key];
        if slot.error.is_some() || slot.sent || slot.number == 0 {
            return;
        }
        let len = i64::try_from(data.len()).unwrap_or(i64::MAX);
        slot.window -= len;
        self.window -= len;
        let (number, out) = (slot.number, self.out.data());
        let (whole, last) = data.split_at(data.len().saturating_sub(1) / PAYLOAD_MAX * PAYLOAD_MAX);
        for piece in whole.chunks(PAYLOAD_MAX) {
            frame::put(out, kind::DATA, 0, number, piece);
        }
        if end || !last.is_empty() {
            frame::put(out, kind::DATA, if end { flag::END_STREAM } else { 0 }, number, last);
        }
        self.has_sent(key, end);
    }

    /// Sends a head, or trailers.
    pub(super) fn send_head(
        &mut self,
        key: Key,
        end: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let slot = &self.slots[key];
        if let Some(error) = slot.error {
            return Err(error);
        }
        // As for data: there is nothing behind an end, and nothing before a request.
        if slot.sent || slot.number == 0 {
            return Ok(());
        }
        let number = slot.number;
        let out = self.out.data();
        let start = out.len();
        frame::put_head(out, 0, kind::HEADERS, 0, 0);
        self.encoder.begin(out);
        write(out);
        frame::finish_headers(out, start, number, end);
        self.has_sent(key, end);
        Ok(())
    }

    pub(super) fn has_sent(&mut self, key: Key, end: bool) {
        self.wake_driver();
        if end {
            self.slots[key].sent = true;
            self.settle(key);
        }
    }

    /// The other side allows more, on a stream or on all of them; false when that is more than there can be.
    pub(super) fn widen(&mut self, key: Option<Key>, by: u32) -> bool {
        let window = match key {
            None => &mut self.window,
            Some(key) => &mut self.slots[key].window,
        };
        *window += i64::from(by);
        if *window > WINDOW_MAX {
            return false;
        }
        match key {
            None => self.wake_waiting(),
            Some(key) => {
                if let Some(writer) = self.slots[key].writer.take() {
                    writer.wake();
                }
            }
        }
        true
    }

    /// Takes out what has come of a body.
    pub(super) fn take_data(&mut self, key: Key) -> Option<Bytes> {
        let inbox = &mut self.slots[key].inbox;
        let taken = if inbox.len() <= PIECE { std::mem::take(inbox) } else { inbox.split_to(PIECE) };
        (!taken.is_empty()).then(|| taken.freeze())
    }

    /// A new list for the fields of a head.
    pub(super) fn fields(&self) -> Fields {
        Fields::new(self.limits.head)
    }
}
