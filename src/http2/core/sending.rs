//! What is sent on streams, and how much: flow control as the sender sees it (RFC 9113, section 5.2).

use std::task::{Context, Poll};

use super::{Core, Key, register};
use crate::http2::frame::{self, PAYLOAD_MAX, WINDOW_MAX, flag, kind};
use crate::http2::reason::Error;

impl Core {
    /// How many bytes may be sent on a stream now; pending when none.
    pub(in crate::http2) fn poll_room(&mut self, key: Key, cx: &Context<'_>) -> Poll<Result<usize, Error>> {
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
            let served = std::mem::take(&mut slot.served);
            if served { self.served.push(key) } else { self.waiting.push(key) }
        }
        Poll::Pending
    }

    /// Sends a part of a body for which there is room.
    pub(in crate::http2) fn send_data(&mut self, key: Key, data: &[u8], end: bool) {
        let slot = &mut self.slots[key];
        if slot.error.is_some() || slot.sent || slot.number == 0 {
            return;
        }
        let len = i64::try_from(data.len()).unwrap_or(i64::MAX);
        slot.window -= len;
        slot.served = true;
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
    pub(in crate::http2) fn send_head(
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

    pub(in crate::http2) fn has_sent(&mut self, key: Key, end: bool) {
        self.wake_driver();
        if end {
            self.slots[key].sent = true;
            self.settle(key);
        }
    }

    /// The other side allows more, on a stream or on all of them; false when that is more than there can be.
    pub(in crate::http2) fn widen(&mut self, key: Option<Key>, by: u32) -> bool {
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
}
