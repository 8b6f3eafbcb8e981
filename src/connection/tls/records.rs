//! What goes into which record: small writes share one, as each costs both sides a call and some 22 bytes.

use std::io::IoSlice;

/// The most plaintext that fits into a record (RFC 8446, section 5.1).
pub(super) const RECORD: usize = 16 << 10;

/// Buffers cut into records.
pub(super) struct Records<'a, 'b> {
    bufs: &'a [IoSlice<'b>],
    /// How much of the first is in records already.
    at: usize,
}

impl<'a, 'b> Records<'a, 'b> {
    pub(super) fn new(bufs: &'a [IoSlice<'b>]) -> Self {
        Self { bufs, at: 0 }
    }

    /// The next record: part of a buffer if that fills one, else the next few joined in `room`.
    pub(super) fn next<'r>(&mut self, room: &'r mut Vec<u8>) -> Option<&'r [u8]>
    where
        'a: 'r,
    {
        while self.bufs.first().is_some_and(|buf| buf.len() == self.at) {
            self.advance();
        }
        let rest = &self.bufs.first()?[self.at..];
        if rest.len() >= RECORD || self.bufs.len() == 1 {
            let record = &rest[..rest.len().min(RECORD)];
            self.at += record.len();
            return Some(record);
        }
        room.clear();
        while room.len() < RECORD
            && let Some(buf) = self.bufs.first()
        {
            let part = &buf[self.at..];
            let part = &part[..part.len().min(RECORD - room.len())];
            room.extend_from_slice(part);
            self.at += part.len();
            if self.at == buf.len() {
                self.advance();
            }
        }
        Some(room)
    }

    fn advance(&mut self) {
        self.bufs = &self.bufs[1..];
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records are as large as may be, and nothing is lost, doubled or moved on the way into them.
    #[test]
    fn buffers_are_cut_into_records() {
        let data: Vec<u8> = (0..=250).cycle().take(5 * RECORD).collect();
        for (lens, expected) in [
            (&[100, 28][..], &[128][..]),
            (&[0, 100, 0, 28, 0], &[128]),
            (&[100, RECORD], &[RECORD, 100]),
            (&[RECORD + 1], &[RECORD, 1]),
            (&[2 * RECORD, 5, 6], &[RECORD, RECORD, 11]),
            (&[], &[]),
            (&[0], &[]),
        ] {
            let mut rest = &data[..];
            let mut bufs = Vec::new();
            for &len in lens {
                let (buf, after) = rest.split_at(len);
                bufs.push(IoSlice::new(buf));
                rest = after;
            }
            let (mut room, mut all, mut got) = (Vec::new(), Vec::new(), Vec::new());
            let mut records = Records::new(&bufs);
            while let Some(record) = records.next(&mut room) {
                got.push(record.len());
                all.extend_from_slice(record);
            }
            assert_eq!(got, expected, "{lens:?}");
            assert_eq!(all, data[..all.len()], "{lens:?}");
            assert_eq!(all.len(), lens.iter().sum::<usize>());
        }
    }
}
