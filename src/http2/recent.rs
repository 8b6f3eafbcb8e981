//! The streams that were ended last.

use std::collections::VecDeque;

/// What comes for a stream that was ended longer ago than this many others is a breach of the protocol.
const KEPT: usize = 500;

/// The numbers of some streams.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<u32>);

impl Recent {
    pub(super) fn push(&mut self, number: u32) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(number);
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }
}
