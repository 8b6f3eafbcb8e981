//! Where the frames of one direction begin and end (RFC 6455, section 5.2). Payloads are only counted.

use super::Side;

/// The longest head without its masking key: two bytes and a 64-bit length.
const HEAD_MAX: usize = 10;

/// The payload of a control frame has at most this many bytes.
const CONTROL_MAX: u64 = 125;

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const KEY_LEN: u64 = 4;

/// What a frame is to those who only follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Begins a message (text or binary).
    First,
    Continuation,
    Close,
    /// Ping or pong.
    Control,
}

/// These bytes are not WebSocket frames as this side has to send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation;

/// Follows the frames of one direction, however they are cut into chunks.
#[derive(Debug)]
pub(super) struct Frames {
    /// Clients mask, servers don't.
    masked: bool,
    /// The head that is being read; kept until its frame ends.
    head: [u8; HEAD_MAX],
    head_len: u8,
    /// Left of the frame whose head is complete (with the masking key).
    left: u64,
    /// The first frame of a message has been sent, but not its last.
    message_open: bool,
}

impl Frames {
    pub(super) fn new(from: Side) -> Self {
        Self { masked: from == Side::Client, head: [0; HEAD_MAX], head_len: 0, left: 0, message_open: false }
    }

    /// Between two frames.
    pub(super) fn between_frames(&self) -> bool {
        self.head_len == 0
    }

    /// Between two messages.
    pub(super) fn between_messages(&self) -> bool {
        self.between_frames() && !self.message_open
    }

    /// Goes on to the end of the present frame, or of the bytes. Returns how many bytes that is, and whether it was
    /// the end of a Close.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(usize, bool), Violation> {
        let mut used = 0;
        while self.left == 0 {
            let Some(&byte) = bytes.get(used) else { return Ok((used, false)) };
            used += 1;
            self.head[usize::from(self.head_len)] = byte;
            self.head_len += 1;
            if usize::from(self.head_len) == self.head_wanted() {
                self.left = self.payload()?;
                if self.left == 0 {
                    return Ok((used, self.frame_ends()));
                }
            }
        }
        let here = (bytes.len() - used) as u64;
        let part = here.min(self.left);
        self.left -= part;
        // At most the length of `bytes`.
        used += usize::try_from(part).unwrap_or(usize::MAX);
        Ok((used, self.left == 0 && self.frame_ends()))
    }

    /// How long the head is, as far as can be told.
    fn head_wanted(&self) -> usize {
        match self.head[1] & LENGTH {
            _ if self.head_len < 2 => 2,
            126 => 4,
            127 => HEAD_MAX,
            _ => 2,
        }
    }

    /// The head is complete: how much follows, if it may.
    fn payload(&self) -> Result<u64, Violation> {
        let length = match self.head[1] & LENGTH {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..]);
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        };
        let whole = self.head[0] & FIN != 0;
        let in_order = match self.kind()? {
            Kind::First => !self.message_open,
            Kind::Continuation => self.message_open,
            Kind::Close | Kind::Control => whole && length <= CONTROL_MAX,
        };
        let masked = self.head[1] & MASKED != 0;
        if !in_order || masked != self.masked || length >> 63 != 0 {
            return Err(Violation);
        }
        Ok(length + if masked { KEY_LEN } else { 0 })
    }

    fn kind(&self) -> Result<Kind, Violation> {
        Ok(match self.head[0] & OPCODE {
            0x0 => Kind::Continuation,
            0x1 | 0x2 => Kind::First,
            0x8 => Kind::Close,
            0x9 | 0xa => Kind::Control,
            _ => return Err(Violation),
        })
    }

    /// Says whether the frame that ends here is a Close.
    fn frame_ends(&mut self) -> bool {
        self.head_len = 0;
        let whole = self.head[0] & FIN != 0;
        match self.kind() {
            Ok(Kind::First | Kind::Continuation) => self.message_open = !whole,
            Ok(Kind::Close) => return true,
            Ok(Kind::Control) | Err(Violation) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far an app's bytes can be followed.
    fn follow_all(from: Side, bytes: &[u8]) -> Result<Frames, Violation> {
        let mut frames = Frames::new(from);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, _) = frames.follow(rest)?;
            assert!(used > 0);
            rest = &rest[used..];
        }
        Ok(frames)
    }

    fn violates(from: Side, bytes: &[u8]) -> bool {
        follow_all(from, bytes).is_err()
    }

    #[test]
    fn every_form_of_a_length_is_followed() {
        for length in [0usize, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let mut frame = vec![0x82];
            match length {
                0..126 => frame.push(length as u8),
                126..65_536 => {
                    frame.push(126);
                    frame.extend((length as u16).to_be_bytes());
                }
                _ => {
                    frame.push(127);
                    frame.extend((length as u64).to_be_bytes());
                }
            }
            frame.resize(frame.len() + length, 0x88);
            for cut in 1..frame.len().min(12) {
                let mut frames = Frames::new(Side::App);
                let (used, close) = frames.follow(&frame[..cut]).unwrap();
                assert!(!close && used == cut && !frames.between_frames(), "{length}, {cut}");
                let (used, close) = frames.follow(&frame[cut..]).unwrap();
                assert!(!close && used == frame.len() - cut && frames.between_messages(), "{length}, {cut}");
            }
        }
    }

    #[test]
    fn a_longer_form_than_needed_is_still_a_length() {
        assert!(follow_all(Side::App, &[0x82, 126, 0, 1, 7]).is_ok_and(|frames| frames.between_messages()));
    }

    #[test]
    fn control_frames_may_come_between_fragments() {
        let frames = follow_all(Side::App, &[0x01, 1, b'a', 0x89, 0]).unwrap();
        assert!(frames.between_frames() && !frames.between_messages());
        let frames = follow_all(Side::App, &[0x01, 1, b'a', 0x89, 0, 0x00, 0, 0x80, 0]).unwrap();
        assert!(frames.between_messages());
    }

    #[test]
    fn extension_bits_are_none_of_our_business() {
        assert!(!violates(Side::App, &[0xc1, 1, b'a', 0xf2, 0]));
    }

    #[test]
    fn what_is_no_frame_is_noticed() {
        let key = [1, 2, 3, 4];
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert!(violates(Side::App, &[0x80 | opcode, 0]), "opcode {opcode}");
        }
        assert!(violates(Side::App, &[0x09, 0]), "a fragmented ping");
        assert!(violates(Side::App, &[0x89, 126, 0, 126]), "a long ping");
        assert!(violates(Side::App, &[0x80, 0]), "a continuation of nothing");
        assert!(violates(Side::App, &[0x01, 0, 0x81, 0]), "a message within a message");
        assert!(violates(Side::App, &[&[0x81, 0x80], &key[..]].concat()), "masked by the app");
        assert!(violates(Side::Client, &[0x81, 0]), "not masked by the client");
        assert!(violates(Side::App, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), "2^63 bytes");
        let longest = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(!violates(Side::App, &longest));
        let mut longest = longest;
        longest[1] |= MASKED;
        assert!(!violates(Side::Client, &longest), "no overflow with the key");
    }
}
