//! What became of the requests of a load.

use std::fmt;

use tokio::time::Instant;

use crate::client::Failure;

/// Counts of how requests ended. Every attempt is in exactly one of `ok` and the failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The whole response came, and it was the right one.
    pub ok: u64,
    /// [`Failure::Refused`]: no loss, any client may try again.
    pub refused: u64,
    /// [`Failure::NotConnected`].
    pub not_connected: u64,
    /// [`Failure::LostFresh`].
    pub lost_fresh: u64,
    /// [`Failure::LostReused`].
    pub lost_reused: u64,
    /// [`Failure::Cut`].
    pub cut: u64,
    /// [`Failure::Bad`].
    pub bad: u64,
    /// [`Failure::Stuck`].
    pub stuck: u64,

    /// Connections that were accepted.
    pub connections: u64,
    /// Keep-alive connections that the server ended with `Connection: close` on a response.
    pub told: u64,
    /// Keep-alive connections that the server closed between two requests, seen before the next was sent.
    pub closed_idle: u64,
    /// Connections accepted although their attempt began after another one had been refused.
    pub accepted_after_refusal: u64,
    /// When the first attempt was refused.
    pub first_refusal: Option<Instant>,
}

impl Tally {
    /// Counts one attempt.
    pub fn record(&mut self, end: Result<(), Failure>) {
        *match end {
            Ok(()) => &mut self.ok,
            Err(Failure::Refused) => &mut self.refused,
            Err(Failure::NotConnected) => &mut self.not_connected,
            Err(Failure::LostFresh) => &mut self.lost_fresh,
            Err(Failure::LostReused) => &mut self.lost_reused,
            Err(Failure::Cut) => &mut self.cut,
            Err(Failure::Bad) => &mut self.bad,
            Err(Failure::Stuck) => &mut self.stuck,
        } += 1;
    }

    /// Requests on connections that were accepted, however they ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.ok + self.lost()
    }

    /// Requests on accepted connections without their complete, right response.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_fresh + self.lost_reused + self.cut + self.bad + self.stuck
    }

    /// Adds another's counts to this.
    pub fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        self.refused += other.refused;
        self.not_connected += other.not_connected;
        self.lost_fresh += other.lost_fresh;
        self.lost_reused += other.lost_reused;
        self.cut += other.cut;
        self.bad += other.bad;
        self.stuck += other.stuck;
        self.connections += other.connections;
        self.told += other.told;
        self.closed_idle += other.closed_idle;
        self.accepted_after_refusal += other.accepted_after_refusal;
        self.first_refusal = match (self.first_refusal, other.first_refusal) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ok, {} lost ({} fresh, {} reused, {} cut, {} bad, {} stuck), {} refused, {} not connected",
            self.ok,
            self.lost(),
            self.lost_fresh,
            self.lost_reused,
            self.cut,
            self.bad,
            self.stuck,
            self.refused,
            self.not_connected
        )?;
        if self.accepted_after_refusal > 0 {
            write!(f, ", {} accepted after the first refusal", self.accepted_after_refusal)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_once_and_refusals_are_no_loss() {
        use Failure::{Bad, Cut, LostFresh, LostReused, NotConnected, Refused, Stuck};
        let mut tally = Tally::default();
        tally.record(Ok(()));
        for failure in [Refused, NotConnected, LostFresh, LostReused, Cut, Bad, Stuck] {
            tally.record(Err(failure));
        }
        assert_eq!((tally.requests(), tally.lost()), (6, 5));
        let mut twice = tally.clone();
        twice.merge(&tally);
        assert_eq!((twice.requests(), twice.lost(), twice.refused), (12, 10, 2));
    }

    #[tokio::test]
    async fn the_earliest_refusal_stays() {
        let early = Instant::now();
        let late = early + std::time::Duration::from_secs(1);
        let mut tally = Tally { first_refusal: Some(late), ..Tally::default() };
        tally.merge(&Tally { first_refusal: Some(early), ..Tally::default() });
        tally.merge(&Tally::default());
        assert_eq!(tally.first_refusal, Some(early));
    }
}
