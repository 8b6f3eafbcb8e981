//! When each connection is told to go.
//!
//! Telling all at once would send every client to the other pods in the same instant (a reconnect storm);
//! telling a new one at once would let it come back in a tight loop while the endpoint is still listed.

use tokio::time::{Duration, Instant};

/// A connection that is accepted during lame duck is told this long after.
const NEWCOMER: Duration = Duration::from_secs(1);

/// Notices are spread over this part of the shortest lame duck: the rest of it is for those told last, so
/// that they too hear of it on a response.
const SPREAD: f64 = 0.6;

/// The instants for `count` connections that were open at the trigger, evenly spread.
pub fn spread(trigger: Instant, lame_duck_min: Duration, count: usize) -> impl Iterator<Item = Instant> {
    let window = lame_duck_min.mul_f64(SPREAD);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    (0..count).map(move |i| trigger + window.mul_f64((f64::from(i) + 0.5) / f64::from(count)))
}

/// The instant for a connection accepted at `accepted`, during lame duck.
#[must_use]
pub fn newcomer(accepted: Instant) -> Instant {
    accepted + NEWCOMER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spread_is_even_ordered_and_within_the_window(count in 1usize..500, min in 0u64..60_000) {
            let trigger = Instant::now();
            let min = Duration::from_millis(min);
            let notices: Vec<_> = spread(trigger, min, count).collect();
            prop_assert_eq!(notices.len(), count);
            prop_assert!(notices.is_sorted());
            prop_assert!(notices[0] >= trigger);
            prop_assert!(notices[count - 1] <= trigger + min);
            let step = min.mul_f64(SPREAD) / u32::try_from(count).unwrap();
            for pair in notices.windows(2) {
                let gap = pair[1] - pair[0];
                prop_assert!(gap.abs_diff(step) < Duration::from_micros(2));
            }
        }
    }
}
