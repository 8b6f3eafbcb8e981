//! What became of the requests.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::client::Failure;

/// Counters that all clients of a strategy share.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    cut: AtomicU64,
    errors: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) reset: u64,
    pub(super) cut: u64,
    pub(super) errors: u64,
    pub(super) failed: u64,
}

impl Tally {
    /// Counts one finished request.
    pub(super) fn count(&self, outcome: Result<(), Failure>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let failed = match outcome {
            Ok(()) => return,
            Err(Failure::Refused) => &self.refused,
            Err(Failure::Reset) => &self.reset,
            Err(Failure::Cut) => &self.cut,
            Err(Failure::Error) => &self.errors,
        };
        failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub(super) fn counts(&self) -> Counts {
        let [requests, refused, reset, cut, errors] =
            [&self.requests, &self.refused, &self.reset, &self.cut, &self.errors]
                .map(|counter| counter.load(Ordering::Relaxed));
        Counts { requests, refused, reset, cut, errors, failed: refused + reset + cut + errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_own_counter_and_counts_once() {
        let tally = Tally::default();
        tally.count(Ok(()));
        for (failure, times) in
            [(Failure::Refused, 1), (Failure::Reset, 2), (Failure::Cut, 3), (Failure::Error, 4)]
        {
            (0..times).for_each(|_| tally.count(Err(failure)));
        }
        let expected = Counts { requests: 11, refused: 1, reset: 2, cut: 3, errors: 4, failed: 10 };
        assert_eq!(tally.counts(), expected);
    }
}
