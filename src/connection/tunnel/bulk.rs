//! When splicing pays.

use super::tools::BUFFER;

/// A direction is bulk after so many reads in a row that filled the buffer.
const FULL_READS: u8 = 2;

/// It is not any more after so many small fillings of a pipe in a row.
const SMALL_FILLS: u8 = 4;
const SMALL: usize = 8 << 10;

/// Tells whether a direction carries so much that splicing pays.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    full_reads: u8,
    small_fills: u8,
}

impl Bulk {
    pub(super) fn is_worth_a_pipe(&self) -> bool {
        self.full_reads >= FULL_READS
    }

    /// So much has come with a read.
    pub(super) fn read(&mut self, n: usize) {
        self.full_reads = if n == BUFFER { (self.full_reads + 1).min(FULL_READS) } else { 0 };
    }

    /// So much has come into a pipe.
    pub(super) fn filled(&mut self, n: usize) {
        self.small_fills = if n < SMALL { self.small_fills + 1 } else { 0 };
        if self.small_fills == SMALL_FILLS {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_reads_begin_it_and_small_fillings_end_it() {
        let mut bulk = Bulk::default();
        bulk.read(BUFFER);
        bulk.read(BUFFER - 1);
        bulk.read(BUFFER);
        assert!(!bulk.is_worth_a_pipe());
        bulk.read(BUFFER);
        assert!(bulk.is_worth_a_pipe());
        for _ in 0..10 {
            bulk.filled(SMALL - 1);
            bulk.filled(SMALL);
        }
        assert!(bulk.is_worth_a_pipe());
        for _ in 0..SMALL_FILLS {
            bulk.filled(1);
        }
        assert!(!bulk.is_worth_a_pipe());
    }
}
