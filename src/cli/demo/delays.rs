//! How long each node takes to learn of an endpoint change.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;

use super::{NODES, PODS};

/// No node is faster than this: the watch, the batching of kube-proxy, the writing of its rules.
const FLOOR: f64 = 0.35;
/// What comes on top is exponential with this mean.
const MEAN: f64 = 0.8;
/// The tail is cut here, so that the demo ends in time.
const CAP: f64 = 4.5;

/// The distribution, in words.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Distribution {
    floor_seconds: f64,
    exponential_mean_seconds: f64,
    cap_seconds: f64,
}

/// The one that the demo draws from.
pub(super) const DISTRIBUTION: Distribution =
    Distribution { floor_seconds: FLOOR, exponential_mean_seconds: MEAN, cap_seconds: CAP };

impl Distribution {
    /// The delay that the given share of nodes does not exceed.
    fn quantile(self, share: f64) -> Duration {
        let tail = -self.exponential_mean_seconds * (1.0 - share).ln();
        Duration::from_secs_f64((self.floor_seconds + tail).min(self.cap_seconds))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s + exponential with mean {} s, at most {} s",
            self.floor_seconds, self.exponential_mean_seconds, self.cap_seconds
        )
    }
}

/// Seconds to the millisecond: what is finer is noise.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// One delay a node, for one endpoint change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delays([Duration; NODES]);

impl Delays {
    /// Draws the delays for a whole rolling update.
    ///
    /// The distribution is cut into as many equal parts as there are draws, and each part is drawn from once:
    /// so a handful of draws has the shape of the distribution, its slow end included, in every run.
    pub(super) fn draw(rng: &mut Rng) -> [Self; PODS] {
        const DRAWS: u16 = (PODS * NODES) as u16;
        let part = |i| DISTRIBUTION.quantile((f64::from(i) + rng.f64()) / f64::from(DRAWS));
        let mut delays: Vec<_> = (0..DRAWS).map(part).collect();
        rng.shuffle(&mut delays);
        let mut delays = delays.into_iter();
        std::array::from_fn(|_| Self(std::array::from_fn(|_| delays.next().unwrap_or_default())))
    }

    /// The delay of each node, in the order of the nodes.
    pub(super) fn by_node(&self) -> &[Duration; NODES] {
        &self.0
    }

    /// The delay of the node that learns last.
    pub(super) fn slowest(&self) -> Duration {
        self.0.iter().copied().max().unwrap_or_default()
    }

    /// Half of the nodes know after this.
    pub(super) fn median(&self) -> Duration {
        let mut sorted = self.0;
        sorted.sort_unstable();
        sorted[NODES / 2 - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_delays() {
        let draw = |seed| Delays::draw(&mut Rng::with_seed(seed));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_part_of_the_distribution_is_drawn_from() {
        for seed in 0..100 {
            let mut delays: Vec<_> =
                Delays::draw(&mut Rng::with_seed(seed)).into_iter().flat_map(|delays| delays.0).collect();
            delays.sort_unstable();
            let share = |i| i as f64 / (PODS * NODES) as f64;
            for (i, delay) in delays.iter().enumerate() {
                let part = DISTRIBUTION.quantile(share(i))..=DISTRIBUTION.quantile(share(i + 1));
                assert!(part.contains(delay));
            }
        }
    }

    #[test]
    fn the_distribution_is_what_its_words_say() {
        let seconds = |share| DISTRIBUTION.quantile(share).as_secs_f64();
        assert!((seconds(0.0) - 0.35).abs() < 1e-9);
        assert!((seconds(0.5) - 0.905).abs() < 1e-3);
        assert!((seconds(0.99) - 4.034).abs() < 1e-3);
        assert!((seconds(0.9999) - 4.5).abs() < 1e-9);
        assert_eq!(DISTRIBUTION.to_string(), "0.35 s + exponential with mean 0.8 s, at most 4.5 s");
    }

    #[test]
    fn the_median_and_the_slowest() {
        let delays = Delays(std::array::from_fn(|i| Duration::from_secs(NODES as u64 - i as u64)));
        assert_eq!(delays.median(), Duration::from_secs(10));
        assert_eq!(delays.slowest(), Duration::from_secs(20));
    }
}
