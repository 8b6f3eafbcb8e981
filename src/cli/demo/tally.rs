//! What became of the requests.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::client::{Failure, Protocol};

/// Counters that all clients of a strategy share.
#[derive(Debug, Default)]
pub(super) struct Tally([Counters; Protocol::ALL.len()]);

/// The counters of one protocol.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    cut: AtomicU64,
    errors: AtomicU64,
}

/// The counters of one protocol, or their sums, at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) reset: u64,
    pub(super) cut: u64,
    pub(super) errors: u64,
    pub(super) failed: u64,
}

/// All counters at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct ByProtocol {
    /// Requests.
    pub(super) http1: Counts,
    /// Calls.
    pub(super) grpc: Counts,
    /// Connections.
    pub(super) websocket: Counts,
    /// Streams.
    pub(super) events: Counts,
}

impl Tally {
    /// Counts one that is finished.
    pub(super) fn count(&self, protocol: Protocol, outcome: Result<(), Failure>) {
        let counters = &self.0[protocol as usize];
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let failed = match outcome {
            Ok(()) => return,
            Err(Failure::Refused) => &counters.refused,
            Err(Failure::Reset) => &counters.reset,
            Err(Failure::Cut) => &counters.cut,
            Err(Failure::Error) => &counters.errors,
        };
        failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub(super) fn counts(&self) -> ByProtocol {
        let [http1, grpc, websocket, events] =
            Protocol::ALL.map(|protocol| self.0[protocol as usize].counts());
        ByProtocol { http1, grpc, websocket, events }
    }
}

impl Counters {
    fn counts(&self) -> Counts {
        let [requests, refused, reset, cut, errors] =
            [&self.requests, &self.refused, &self.reset, &self.cut, &self.errors]
                .map(|counter| counter.load(Ordering::Relaxed));
        Counts { requests, refused, reset, cut, errors, failed: refused + reset + cut + errors }
    }
}

impl ByProtocol {
    /// Those of each protocol, in the order of the table.
    pub(super) fn each(&self) -> [Counts; Protocol::ALL.len()] {
        [self.http1, self.grpc, self.websocket, self.events]
    }

    /// The sums.
    pub(super) fn total(&self) -> Counts {
        self.each().iter().fold(Counts::default(), |sum, counts| Counts {
            requests: sum.requests + counts.requests,
            refused: sum.refused + counts.refused,
            reset: sum.reset + counts.reset,
            cut: sum.cut + counts.cut,
            errors: sum.errors + counts.errors,
            failed: sum.failed + counts.failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_own_counter_and_counts_once() {
        let tally = Tally::default();
        tally.count(Protocol::Grpc, Ok(()));
        for (failure, times) in
            [(Failure::Refused, 1), (Failure::Reset, 2), (Failure::Cut, 3), (Failure::Error, 4)]
        {
            (0..times).for_each(|_| tally.count(Protocol::Grpc, Err(failure)));
        }
        let grpc = Counts { requests: 11, refused: 1, reset: 2, cut: 3, errors: 4, failed: 10 };
        assert_eq!(tally.counts(), ByProtocol { grpc, ..ByProtocol::default() });
        assert_eq!(tally.counts().total(), grpc);
    }

    #[test]
    fn every_protocol_has_counters_of_its_own() {
        let tally = Tally::default();
        for (protocol, times) in Protocol::ALL.into_iter().zip(1..) {
            (0..times).for_each(|_| tally.count(protocol, Ok(())));
        }
        assert_eq!(tally.counts().each().map(|counts| counts.requests), [1, 2, 3, 4]);
        assert_eq!(tally.counts().total().requests, 10);
    }
}
