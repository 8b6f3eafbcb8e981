//! When the last new connection came: the propagation delay, measured.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::{Duration, Instant};

/// `User-Agent` prefixes of well-known probers. Their connections say nothing about whether clients still
/// find this pod. (HAProxy's checks carry no request, so they never become an arrival at all.)
const PROBERS: [&str; 4] = ["kube-probe/", "GoogleHC/", "ELB-HealthChecker/", "Envoy/HC"];

/// The instant of the newest arrival, shared between the workers and the controller.
#[derive(Debug)]
pub struct Arrivals {
    origin: Instant,
    /// Nanoseconds from `origin` to the newest arrival, plus one; 0 is none.
    newest: AtomicU64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { origin: Instant::now(), newest: AtomicU64::new(0) }
    }
}

impl Arrivals {
    /// Notes a real client's connection that was accepted at `at`.
    pub fn note(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        self.newest.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1, Relaxed);
    }

    /// The newest arrival at or after `since`.
    #[must_use]
    pub fn newest_since(&self, since: Instant) -> Option<Instant> {
        let nanos = self.newest.load(Relaxed).checked_sub(1)?;
        let at = self.origin + Duration::from_nanos(nanos);
        (at >= since).then_some(at)
    }
}

/// Tells probers from clients.
#[derive(Debug, Clone, Default)]
pub struct Probers {
    more: Vec<String>,
}

impl Probers {
    /// The well-known probers and those whose `User-Agent` begins with one of `more`.
    #[must_use]
    pub fn new(more: Vec<String>) -> Self {
        Self { more }
    }

    /// Whether this `User-Agent` is a prober's.
    #[must_use]
    pub fn matches(&self, user_agent: &[u8]) -> bool {
        PROBERS.iter().any(|prober| user_agent.starts_with(prober.as_bytes()))
            || self.more.iter().any(|prober| user_agent.starts_with(prober.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_arrival_counts_in_whatever_order_they_are_noted() {
        let arrivals = Arrivals::default();
        let trigger = Instant::now();
        assert_eq!(arrivals.newest_since(trigger), None);
        let (early, late) = (trigger + Duration::from_secs(1), trigger + Duration::from_secs(2));
        arrivals.note(late);
        arrivals.note(early);
        assert_eq!(arrivals.newest_since(trigger), Some(late));
        assert_eq!(arrivals.newest_since(late + Duration::from_nanos(1)), None);
    }

    #[test]
    fn probers_are_told_by_their_prefix() {
        let probers = Probers::new(vec!["acme-check".to_owned()]);
        assert!(probers.matches(b"kube-probe/1.33"));
        assert!(probers.matches(b"acme-check v2"));
        assert!(!probers.matches(b"curl/8.0 kube-probe/1.33"));
        assert!(!probers.matches(b""));
    }
}
