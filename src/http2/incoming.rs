//! What has come, frame by frame.

use super::core::{Core, Key, Role};
use super::frame::{self, Head, PAYLOAD_MAX, WINDOW_MAX, flag, kind, setting};
use super::reason::{Error, Reason};

mod heads;

pub(super) use heads::Partial;

/// Frames that carry nothing and end nothing, one after the other, before that is an attack.
const EMPTY_MAX: u32 = 1000;

/// Offences that may come together, before anybody has a look at them.
const OFFENCES_MAX: u32 = 1000;

/// What is wrong with a frame ends the connection.
type Taken = Result<(), Reason>;

impl Core {
    /// Takes the whole frames that `bytes` begins with; returns their length.
    ///
    /// # Errors
    /// The other side has broken the protocol. It has been told.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk() {
            let head = Head::read(head);
            if head.len > PAYLOAD_MAX {
                return Err(self.breach(Reason::FRAME_SIZE_ERROR));
            }
            let start = at + frame::HEAD;
            let Some(payload) = bytes.get(start..start + head.len) else { break };
            if let Err(reason) = self.frame(head, payload) {
                return Err(self.breach(reason));
            }
            at = start + head.len;
            if self.offences > OFFENCES_MAX {
                return Err(self.breach(Reason::ENHANCE_YOUR_CALM));
            }
        }
        Ok(at)
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Taken {
        if !self.greeted {
            // RFC 9113, section 3.4.
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.greeted = true;
        }
        if let Some(partial) = &self.block
            && (head.kind, head.stream) != (kind::CONTINUATION, partial.stream)
        {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            kind::PRIORITY if head.stream == 0 => Err(Reason::PROTOCOL_ERROR),
            kind::PRIORITY if payload.len() != 5 => Err(Reason::FRAME_SIZE_ERROR),
            // Of no use (section 5.3.2), or unknown (section 5.5).
            _ => Ok(()),
        }
    }

    /// The stream with this number; none when it is over. One that never was is a breach.
    fn known(&self, number: u32) -> Result<Option<Key>, Reason> {
        let key = self.find(number);
        let ours = (number % 2 == 1) == (self.role == Role::Client);
        let opened = if ours { number < self.next } else { number <= self.last };
        // What the client opens after it has been told of the last one is not looked at.
        let late = !ours && self.closing.is_some();
        if key.is_some() || (number > 0 && (opened || late)) { Ok(key) } else { Err(Reason::PROTOCOL_ERROR) }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Taken {
        let data = unpadded(head, payload)?;
        let key = self.known(head.stream)?;
        if !self.receives(payload.len()) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let end = head.has(flag::END_STREAM);
        if data.is_empty() && !end {
            self.empty += 1;
            if self.empty > EMPTY_MAX {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
        } else {
            self.empty = 0;
        }
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let Some(key) = key.filter(|&key| self.slots[key].error.is_none()) else {
            self.release_connection(len);
            return Ok(());
        };
        let slot = &mut self.slots[key];
        slot.receive_window -= i64::from(len);
        let fits = slot.left.is_none_or(|left| data.len() as u64 <= left);
        let breach = if slot.received {
            Some(Reason::STREAM_CLOSED)
        } else if slot.receive_window < 0 {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if !fits || (self.role == Role::Client && !slot.answered()) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = breach {
            self.release_connection(len);
            self.stream_breach(key, reason);
            return Ok(());
        }
        slot.left = slot.left.map(|left| left - data.len() as u64);
        self.hold(key, len);
        if self.slots[key].unread {
            self.forget(key);
        } else {
            self.slots[key].inbox.extend_from_slice(data);
            // Nobody sees the padding, so nobody else releases it.
            self.release(key, len - u32::try_from(data.len()).unwrap_or(0));
            self.slots[key].wake_reader();
        }
        if end {
            self.end(key);
        }
        Ok(())
    }

    /// The other side has ended a stream.
    fn end(&mut self, key: Key) {
        if self.slots[key].left.is_some_and(|left| left > 0) {
            return self.stream_breach(key, Reason::PROTOCOL_ERROR);
        }
        let slot = &mut self.slots[key];
        slot.received = true;
        slot.wake_reader();
        self.settle(key);
    }

    /// The other side did on a stream what it may not do.
    fn stream_breach(&mut self, key: Key, reason: Reason) {
        self.offend();
        self.reset(key, reason, Error::Breach(reason));
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Taken {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let Some(key) = self.known(head.stream)? else { return Ok(()) };
        let slot = &mut self.slots[key];
        if slot.error.is_none() && !(slot.received && slot.sent) {
            slot.error = Some(Error::Reset(Reason(frame::number(payload))));
            slot.wake();
            if slot.handles == 0 {
                // Nobody has even looked at it (CVE-2023-44487).
                self.offend();
            }
            self.settle(key);
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Reason::FRAME_SIZE_ERROR) };
        }
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Reason::FRAME_SIZE_ERROR) };
        for &[a, b, value @ ..] in settings {
            self.setting(u16::from_be_bytes([a, b]), u32::from_be_bytes(value))?;
        }
        frame::put(self.out.answer(), kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) -> Taken {
        match name {
            setting::HEADER_TABLE_SIZE => self.encoder.set_table_max(value),
            setting::MAX_CONCURRENT_STREAMS => {
                self.peer_streams = value;
                if self.role == Role::Client {
                    self.open_queued();
                }
            }
            setting::INITIAL_WINDOW_SIZE => {
                let value = i64::from(value);
                if value > WINDOW_MAX {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
                let by = value - std::mem::replace(&mut self.stream_window, value);
                for (_, slot) in &mut self.slots {
                    slot.window += by;
                    if slot.window > WINDOW_MAX {
                        return Err(Reason::FLOW_CONTROL_ERROR);
                    }
                    if by > 0
                        && let Some(writer) = slot.writer.take()
                    {
                        writer.wake();
                    }
                }
            }
            setting::ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
            // Of the others we do not use what they allow, such as larger frames; or they are advice.
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if payload.len() != 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if !head.has(flag::ACK) {
            frame::put(self.out.answer(), kind::PING, flag::ACK, 0, payload);
        } else if self.told && payload == super::server::GOING {
            // The client opens no more streams, so the last one is known.
            self.close(Reason::NO_ERROR);
        } else {
            self.pinged = false;
        }
        Ok(())
    }

    fn goaway(&mut self, head: Head, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let Some((last, reason)) = payload.split_at_checked(4).filter(|(_, rest)| rest.len() >= 4) else {
            return Err(Reason::FRAME_SIZE_ERROR);
        };
        let (last, reason) = (frame::number(last) & 0x7fff_ffff, Reason(frame::number(reason)));
        self.leaving = Some(reason);
        if self.role == Role::Client {
            self.leave_out(last, reason);
        }
        self.wake_driver();
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Taken {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let by = frame::number(payload) & 0x7fff_ffff;
        if head.stream == 0 {
            if by == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            return if self.widen(None, by) { Ok(()) } else { Err(Reason::FLOW_CONTROL_ERROR) };
        }
        let Some(key) = self.known(head.stream)? else { return Ok(()) };
        if self.slots[key].error.is_some() {
            return Ok(());
        }
        if by == 0 {
            self.stream_breach(key, Reason::PROTOCOL_ERROR);
        } else if !self.widen(Some(key), by) {
            self.stream_breach(key, Reason::FLOW_CONTROL_ERROR);
        }
        Ok(())
    }
}

/// A payload without its padding (RFC 9113, section 6.1).
fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Reason> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
    let len = rest.len().checked_sub(usize::from(padding)).ok_or(Reason::PROTOCOL_ERROR)?;
    Ok(&rest[..len])
}
