//! How many of its requests a client may give up before they are answered.

use tokio::time::{Duration, Instant};

/// At a time: as many as may be open, so that a client that gives everything up is not punished.
const BURST: u32 = 500;

/// One more for each such interval.
const INTERVAL: Duration = Duration::from_millis(10);

/// A token bucket.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    filled: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now }
    }

    /// Takes one; false when there is none left.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let more = now.duration_since(self.filled).as_millis() / INTERVAL.as_millis();
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(BURST);
            self.filled = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_fine_and_a_flood_is_not() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert!((0..BURST).all(|_| budget.spend(start)));
        assert!(!budget.spend(start));
        let later = start + 10 * INTERVAL;
        assert!((0..10).all(|_| budget.spend(later)));
        assert!(!budget.spend(later));
    }
}
