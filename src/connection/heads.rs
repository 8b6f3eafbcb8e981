//! Counts the requests that have been read but not answered (pipelining), by the ends of their heads.
//!
//! hyper keeps what it has read to itself. But a response that says "close" leaves the requests behind it
//! unanswered, and a body that came together with its head is there without having been asked for.

use std::cell::Cell;

use memchr::memmem;

/// Ends a head.
const END: &[u8] = b"\r\n\r\n";

/// What is known of the bytes that hyper has read since its last request.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Complete heads that the service has not seen.
    waiting: Cell<usize>,
    /// The last bytes of an incomplete head, where its end may have begun; newest last.
    tail: Cell<([u8; END.len() - 1], usize)>,
    /// Whether more than the head itself came with the last head.
    more: Cell<More>,
}

/// Whether something came together with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum More {
    #[default]
    No,
    Yes,
    /// The head came behind a body, in bytes that nobody has looked at.
    Unknown,
}

impl Heads {
    /// Bytes that came while no request was under way.
    pub(super) fn read(&self, bytes: &[u8]) {
        let (tail, len) = self.tail.take();
        // Empty lines before a request are nothing (RFC 9112, section 2.2).
        let begin = if len == 0 { blank(bytes) } else { 0 };
        let mut end = split_end(&tail[..len], bytes);
        let mut heads = usize::from(end.is_some());
        let from = end.unwrap_or(begin);
        for at in memmem::find_iter(&bytes[from..], END) {
            // An empty line after a head is none of a head.
            let at = from + at;
            if at >= end.map_or(0, |end| end + blank(&bytes[end..])) {
                end = Some(at + END.len());
                heads += 1;
            }
        }
        self.waiting.set(self.waiting.get() + heads);
        let more = heads > 1 || end.is_some_and(|end| end < bytes.len());
        self.more.set(if more { More::Yes } else { More::No });
        let rest = &bytes[end.map_or(begin, |end| end + blank(&bytes[end..]))..];
        self.keep_tail(if end.is_some() { &[] } else { &tail[..len] }, rest);
    }

    /// Bytes of a body: what may follow it in the same read is not looked at.
    pub(super) fn body(&self) {
        self.more.set(More::Unknown);
    }

    /// The service has got a request. What looks like more heads may be part of its body; then nothing is known
    /// of what follows.
    pub(super) fn request(&self, has_body: bool) {
        self.waiting.set(if has_body { 0 } else { self.waiting.get().saturating_sub(1) });
        if has_body {
            self.tail.take();
        }
    }

    /// Whether whole requests are waiting.
    pub(super) fn waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Whether something came with the last head: part of its body, if it has one.
    pub(super) fn more(&self) -> More {
        self.more.get()
    }

    fn keep_tail(&self, before: &[u8], rest: &[u8]) {
        let mut kept = [0; END.len() - 1];
        let mut len = 0;
        let all = before.iter().chain(rest);
        let total = before.len() + rest.len();
        for &byte in all.skip(total.saturating_sub(kept.len())) {
            kept[len] = byte;
            len += 1;
        }
        self.tail.set((kept, len));
    }
}

/// How many bytes of empty lines there are at the beginning.
fn blank(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Where in `bytes` an end is over that began in `tail`.
fn split_end(tail: &[u8], bytes: &[u8]) -> Option<usize> {
    (1..=tail.len()).rev().find_map(|n| {
        let (first, second) = END.split_at(n);
        (tail.ends_with(first) && bytes.starts_with(second)).then_some(second.len())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(reads: &[&str]) -> (usize, More) {
        let heads = Heads::default();
        for read in reads {
            heads.read(read.as_bytes());
        }
        (heads.waiting.get(), heads.more())
    }

    #[test]
    fn heads_are_counted_and_what_follows_is_noticed() {
        assert_eq!(after(&["GET / HTTP/1.1\r\n\r\n"]), (1, More::No));
        assert_eq!(after(&["GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"]), (2, More::Yes));
        assert_eq!(after(&["POST / HTTP/1.1\r\n\r\nbody"]), (1, More::Yes));
        assert_eq!(after(&["GET / HTTP/1.1\r\nA: b\r"]), (0, More::No));
        assert_eq!(after(&["\r\n\r\nGET / HTTP/1.1\r\n\r\n"]), (1, More::No));
        assert_eq!(after(&["GET / HTTP/1.1\r\n\r\n\r\n\r\n"]), (1, More::Yes));
    }

    #[test]
    fn a_body_makes_what_is_known_void() {
        let heads = Heads::default();
        heads.read(b"POST / HTTP/1.1\r\n\r\na\r\n\r\nb\r\n\r\n");
        heads.request(true);
        assert!(!heads.waiting());
        assert_eq!(heads.more(), More::Yes);
        heads.body();
        assert_eq!(heads.more(), More::Unknown);
    }

    proptest! {
        /// However the bytes are cut into reads, every head is counted once.
        #[test]
        fn cuts_do_not_matter(count in 1usize..5, cuts in proptest::collection::vec(1usize..40, 0..30)) {
            let all = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count);
            let heads = Heads::default();
            let mut rest = all.as_bytes();
            for cut in cuts {
                let (read, after) = rest.split_at(cut.min(rest.len()));
                if !read.is_empty() {
                    heads.read(read);
                }
                rest = after;
            }
            if !rest.is_empty() {
                heads.read(rest);
            }
            prop_assert_eq!(heads.waiting.get(), count);
        }
    }
}
