//! Bytes that wait: none, most of the time, and then no memory either.

use tokio::io::ReadBuf;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// How much of them has gone on.
    gone: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == self.gone
    }

    /// What waits.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// The first `n` have gone on.
    pub(super) fn consume(&mut self, n: usize) {
        self.gone += n;
        if self.is_empty() {
            self.bytes.clear();
            self.gone = 0;
        }
    }

    /// Nothing waits: then no memory is held for it.
    pub(super) fn free_if_empty(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            *self = Self::default();
        }
    }

    /// Takes memory for a while, when nothing waits.
    pub(super) fn lend(&mut self, room: &mut Vec<u8>) {
        if self.is_empty() {
            self.gone = 0;
            std::mem::swap(&mut self.bytes, room);
            self.bytes.clear();
        }
    }

    /// Gives the memory back; what still waits is copied.
    pub(super) fn give_back(&mut self, room: &mut Vec<u8>) {
        let rest = self.bytes().to_vec();
        *room = std::mem::replace(&mut self.bytes, rest);
        self.gone = 0;
    }

    /// Moves what fits into `out`.
    pub(super) fn read(&mut self, out: &mut ReadBuf<'_>) {
        if self.is_empty() {
            return;
        }
        let n = out.remaining().min(self.bytes().len());
        out.put_slice(&self.bytes()[..n]);
        self.consume(n);
        self.free_if_empty();
    }

    /// Adds bytes: straight to `out` as long as none wait here, and it has room.
    pub(super) fn deliver(&mut self, bytes: &[u8], out: Option<&mut ReadBuf<'_>>) {
        let mut rest = bytes;
        if let Some(out) = out
            && self.is_empty()
        {
            let (now, later) = bytes.split_at(bytes.len().min(out.remaining()));
            out.put_slice(now);
            rest = later;
        }
        self.bytes.extend_from_slice(rest);
    }

    /// Adds what `fill` writes into room for at most `most`; it returns how much that was.
    pub(super) fn append(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let end = self.bytes.len();
        self.bytes.resize(end + most, 0);
        let filled = fill(&mut self.bytes[end..]);
        self.bytes.truncate(end + filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever goes in comes out once and in order, and an empty queue holds no memory.
    #[test]
    fn first_in_first_out() {
        let (mut queue, mut room) = (Queue::default(), Vec::with_capacity(100));
        queue.lend(&mut room);
        queue.append(10, |room| {
            room[..4].copy_from_slice(b"abcd");
            4
        });
        queue.consume(1);
        queue.give_back(&mut room);
        assert_eq!((queue.bytes(), room.capacity()), (&b"bcd"[..], 100));
        // What is lent is of no use while something waits.
        queue.lend(&mut room);
        assert_eq!(queue.bytes(), b"bcd");
        let mut out = [0; 2];
        let mut out = ReadBuf::new(&mut out);
        queue.deliver(b"ef", Some(&mut out));
        assert!(out.filled().is_empty(), "it would come before its turn");
        queue.read(&mut out);
        assert_eq!((out.filled(), queue.bytes()), (&b"bc"[..], &b"def"[..]));
        let mut out = [0; 9];
        let mut out = ReadBuf::new(&mut out);
        queue.read(&mut out);
        queue.deliver(b"gh", Some(&mut out));
        assert_eq!(out.filled(), b"defgh");
        assert_eq!(queue.bytes.capacity(), 0);
        queue.deliver(b"123456", Some(&mut out));
        assert_eq!((out.filled(), queue.bytes()), (&b"defgh1234"[..], &b"56"[..]));
    }
}
