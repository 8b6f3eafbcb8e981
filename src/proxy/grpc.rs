//! The messages in a gRPC body, told apart without looking at them.

/// Before each message: a flag, and its length in four bytes.
const PREFIX: u8 = 5;

/// Where in a body of messages we are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Messages {
    /// Bytes of the present message's prefix that have come.
    prefix: u8,
    /// Bytes of its content that have not; while the prefix comes, what is known of the length.
    left: u32,
}

impl Messages {
    /// Whether no message has begun that is not over.
    pub(super) fn is_between(self) -> bool {
        self.prefix == 0
    }

    /// Goes on over `data`, all of it or to the first end of a message; returns how far.
    pub(super) fn follow(&mut self, data: &[u8], to_first_end: bool) -> usize {
        let mut at = 0;
        while at < data.len() {
            at += self.step(&data[at..]);
            if to_first_end && self.is_between() {
                break;
            }
        }
        at
    }

    /// Goes on to the end of the present message at most.
    fn step(&mut self, data: &[u8]) -> usize {
        let mut rest = data.iter();
        while self.prefix < PREFIX {
            let Some(&byte) = rest.next() else { return data.len() };
            if self.prefix > 0 {
                self.left = self.left << 8 | u32::from(byte);
            }
            self.prefix += 1;
        }
        let content = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
        self.left = self.left.saturating_sub(u32::try_from(content).unwrap_or(u32::MAX));
        if self.left == 0 {
            self.prefix = 0;
        }
        data.len() - rest.len() + content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\x01\x02d";

    #[test]
    fn ends_are_found_however_the_body_is_cut_into_pieces() {
        for size in 1..=BODY.len() {
            let mut messages = Messages::default();
            let (mut at, mut ends) = (0, Vec::new());
            while at < BODY.len() {
                at += messages.follow(&BODY[at..BODY.len().min(at + size)], true);
                if messages.is_between() {
                    ends.push(at);
                }
            }
            assert_eq!(ends, [8, 13], "in pieces of {size}");
            assert!(!messages.is_between());
        }
    }

    #[test]
    fn all_of_a_chunk_is_followed() {
        let mut messages = Messages::default();
        assert_eq!(messages.follow(BODY, false), BODY.len());
        assert!(!messages.is_between());
        assert_eq!(messages.follow(&[0; 256], false), 256);
        assert!(!messages.is_between());
        assert_eq!(messages.follow(&[0; 256], true), 1);
        assert!(messages.is_between());
    }
}
