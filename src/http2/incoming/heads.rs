//! Heads: of requests, of responses, and trailers.

use super::{Taken, unpadded};
use crate::http2::core::{Core, Key, Role, TooLarge};
use crate::http2::fields::Fields;
use crate::http2::frame::{self, Head, PAYLOAD_MAX, flag, kind};
use crate::http2::head;
use crate::http2::reason::Reason;

/// A head whose end has not come yet.
#[derive(Debug)]
pub(in crate::http2) struct Partial {
    pub(super) stream: u32,
    end_stream: bool,
    block: Vec<u8>,
    frames: usize,
}

impl Core {
    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Taken {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let mut block = unpadded(head, payload)?;
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Reason::FRAME_SIZE_ERROR)?;
        }
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.whole_head(head.stream, end_stream, block);
        }
        self.block = Some(Partial { stream: head.stream, end_stream, block: block.to_vec(), frames: 0 });
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Taken {
        let Some(mut partial) = self.block.take() else { return Err(Reason::PROTOCOL_ERROR) };
        partial.frames += 1;
        partial.block.extend_from_slice(payload);
        // What is too large is answered so; what is by far too large, or comes in crumbs, is an attack (CVE-2024-27316).
        let max = 4 * self.limits.head + PAYLOAD_MAX;
        if partial.block.len() > max || partial.frames > 16 + max / PAYLOAD_MAX * 2 {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if head.has(flag::END_HEADERS) {
            return self.whole_head(partial.stream, partial.end_stream, &partial.block);
        }
        self.block = Some(partial);
        Ok(())
    }

    fn whole_head(&mut self, number: u32, end: bool, block: &[u8]) -> Taken {
        let mut fields = self.fields();
        // Whatever becomes of the stream, the state of the decoder is that of the connection.
        self.decoder.decode(block, &mut fields).map_err(|_| Reason::COMPRESSION_ERROR)?;
        self.empty = 0;
        if let Some(key) = self.find(number) {
            if self.slots[key].error.is_some() {
                return Ok(());
            }
            self.later_head(key, end, fields);
            return Ok(());
        }
        if self.role == Role::Server && number % 2 == 1 && number > self.last {
            self.new_stream(number, end, fields);
            return Ok(());
        }
        // The app may answer what has been given up long ago. A client that goes on with it has read our reset soon.
        let ignored = match self.role {
            Role::Client => number % 2 == 1 && number < self.next,
            Role::Server => self.ended.contains(number),
        };
        if ignored { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }
    }

    fn new_stream(&mut self, number: u32, end: bool, fields: Fields) {
        if self.closing.is_some() {
            return;
        }
        self.last = number;
        if self.open >= self.limits.streams {
            self.ended.push(number);
            frame::put_number(self.out.answer(), kind::RST_STREAM, number, Reason::REFUSED_STREAM.0);
            return;
        }
        let head = if fields.are_too_large() { Err(TooLarge) } else { Ok(fields) };
        let head = match head.map(head::Head::request) {
            Err(TooLarge) => Err(TooLarge),
            Ok(Ok(head)) if !end || head.length().is_none_or(|length| length == 0) => Ok(head),
            Ok(_) => {
                self.offend();
                self.ended.push(number);
                frame::put_number(self.out.answer(), kind::RST_STREAM, number, Reason::PROTOCOL_ERROR.0);
                return;
            }
        };
        let key = self.insert(number);
        let slot = &mut self.slots[key];
        slot.received = end;
        slot.left = head.as_ref().ok().and_then(head::Head::length);
        slot.head = Some(head);
        self.queue.push_back(key);
    }

    /// The head of a response, or trailers.
    fn later_head(&mut self, key: Key, end: bool, fields: Fields) {
        let slot = &self.slots[key];
        if slot.received {
            return self.stream_breach(key, Reason::STREAM_CLOSED);
        }
        if self.role == Role::Client && !slot.answered() {
            return self.response(key, end, fields);
        }
        // Some of them are not better than none: what is beyond the limit has not been kept.
        let whole = !fields.are_too_large();
        match head::Head::trailers(fields) {
            Ok(trailers) if end && whole => {
                self.slots[key].trailers = Some(trailers);
                self.end(key);
            }
            _ => self.stream_breach(key, Reason::PROTOCOL_ERROR),
        }
    }

    fn response(&mut self, key: Key, end: bool, fields: Fields) {
        if fields.are_too_large() {
            return self.stream_breach(key, Reason::PROTOCOL_ERROR);
        }
        let Ok(head) = head::Head::response(fields) else {
            return self.stream_breach(key, Reason::PROTOCOL_ERROR);
        };
        let slot = &mut self.slots[key];
        let status = head.status().unwrap_or(0);
        if (100..200).contains(&status) {
            if end || status == 101 {
                return self.stream_breach(key, Reason::PROTOCOL_ERROR);
            }
            slot.continued |= status == 100;
            return slot.wake_reader();
        }
        // Then the length is that of another response (section 8.1.1), whether this one ends here or with an empty frame.
        let bodyless = slot.is_head || status == 204 || status == 304;
        slot.left = head.length().map(|length| if bodyless { 0 } else { length });
        if end && slot.left.is_some_and(|left| left > 0) {
            return self.stream_breach(key, Reason::PROTOCOL_ERROR);
        }
        slot.head = Some(Ok(head));
        slot.has_head = true;
        slot.wake_reader();
        if end {
            self.end(key);
        }
    }
}
