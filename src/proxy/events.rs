//! Server-sent events: where one is over and the next has not begun, so that the stream may end there.

/// The last bytes of a stream that may tell of a blank line, CR LF CR LF being the longest: the first CR says
/// nothing.
const TAIL: usize = 3;

/// Follows a stream of events. A client that has got half of one drops it, and the next server may not send it again.
#[derive(Debug)]
pub(super) struct Events {
    /// Among the streams that are ended one after the other; not known at first.
    pub(super) place: Option<f64>,
    /// It is compressed, so that its lines can't be seen.
    opaque: bool,
    /// The last bytes, newest last.
    tail: [u8; TAIL],
}

impl Events {
    /// Of a response that is a stream of events, with these `Content-Encoding` fields.
    pub(super) fn of<'a>(mut encodings: impl Iterator<Item = &'a [u8]>) -> Self {
        let opaque = !encodings.all(|encoding| encoding.eq_ignore_ascii_case(b"identity"));
        // Before the first byte is as good a place to end as behind a blank line.
        Self { place: None, opaque, tail: [b'\n'; TAIL] }
    }

    /// More of the stream.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL)..];
        self.tail.rotate_left(new.len());
        self.tail[TAIL - new.len()..].copy_from_slice(new);
    }

    /// Behind a blank line, as far as can be seen.
    pub(super) fn is_between(&self) -> bool {
        let line_end = |byte| matches!(byte, b'\r' | b'\n');
        match self.tail {
            [before, b'\r', b'\n'] => self.opaque || line_end(before),
            [_, before, last] => self.opaque || (line_end(before) && line_end(last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(encoding: Option<&str>) -> Events {
        Events::of(encoding.iter().map(|encoding| encoding.as_bytes()))
    }

    fn is_between(text: &str) -> bool {
        let found: Vec<_> = (1..=text.len())
            .map(|cut| {
                let mut events = events(None);
                text.as_bytes().chunks(cut).for_each(|chunk| events.sent(chunk));
                events.is_between()
            })
            .collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "cuts matter to {text:?}: {found:?}");
        found[0]
    }

    #[test]
    fn a_blank_line_ends_an_event() {
        assert!(events(None).is_between(), "nothing has been sent");
        for whole in ["data: 1\n\n", "data: 1\r\n\r\n", "data: 1\r\r", "data: 1\n\r\n", ": hello\n\n"] {
            assert!(is_between(whole), "{whole:?}");
        }
        for half in ["data: 1", "data: 1\n", "data: 1\r\n", "data: 1\r", "data: 1\n\nid: 7\n", "\n\nx"] {
            assert!(!is_between(half), "{half:?}");
        }
    }

    #[test]
    fn a_compressed_stream_ends_anywhere() {
        for (encoding, opaque) in [(None, false), (Some("identity"), false), (Some("gzip"), true)] {
            let mut events = events(encoding);
            events.sent(b"half");
            assert_eq!(events.is_between(), opaque, "{encoding:?}");
        }
    }
}
