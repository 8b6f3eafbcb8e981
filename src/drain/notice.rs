//! When each connection is told to go.
//!
//! Telling all at once would send every client to the other pods in the same instant (a reconnect storm);
//! telling a new one at once would let it come back in a tight loop while the endpoint is still listed.

use tokio::time::{Duration, Instant};

use super::Phase;
use super::watch::{Plan, View};

/// A connection that is accepted during lame duck is told this long after.
const NEWCOMER: Duration = Duration::from_secs(1);

/// Notices are spread over this part of the shortest lame duck: the rest of it is for those told last, so
/// that they too hear of it on a response.
const SPREAD: f64 = 0.6;

/// WebSockets get their Close within this part of what is left when draining begins, and within so many seconds.
const GOODBYES: f64 = 0.5;
const GOODBYES_MAX: Duration = Duration::from_secs(10);

/// Event streams end within this part of the whole drain, its last, and within so many seconds.
const EVENTS: f64 = 0.25;
const EVENTS_MAX: Duration = Duration::from_secs(5);

/// The instants for `count` connections that were open at the trigger, evenly spread.
pub fn spread(trigger: Instant, lame_duck_min: Duration, count: usize) -> impl Iterator<Item = Instant> {
    evenly(trigger, lame_duck_min.mul_f64(SPREAD), count)
}

/// The instants at which `count` WebSockets get their Close when draining begins at `now`, evenly spread.
pub fn goodbyes(now: Instant, deadline: Instant, count: usize) -> impl Iterator<Item = Instant> {
    let left = deadline.saturating_duration_since(now);
    evenly(now, left.mul_f64(GOODBYES).min(GOODBYES_MAX), count)
}

fn evenly(begin: Instant, window: Duration, count: usize) -> impl Iterator<Item = Instant> {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    (0..count).map(move |i| begin + window.mul_f64((f64::from(i) + 0.5) / f64::from(count)))
}

/// A connection's place in what is spread over time: between 0 and 1, and far from those of its neighbours. (Steps of
/// the golden ratio fill the range evenly, however many there are.)
#[must_use]
pub fn place(key: usize) -> f64 {
    const GOLDEN: u32 = 0x9e37_79b9; // 2^32 times the golden ratio
    // The low bits are all that counts.
    f64::from((key as u32).wrapping_mul(GOLDEN)) / (f64::from(u32::MAX) + 1.0)
}

/// Whether the event stream with this place is to end.
#[must_use]
pub fn events_end(view: &View, place: f64, now: Instant) -> bool {
    view.phase() >= Phase::Draining && view.plan().is_some_and(|plan| now >= end_of_events(&plan, place))
}

fn end_of_events(plan: &Plan, place: f64) -> Instant {
    let whole = plan.deadline.saturating_duration_since(plan.trigger);
    let window = whole.mul_f64(EVENTS).min(EVENTS_MAX);
    plan.deadline - window + window.mul_f64(place)
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

    #[test]
    fn goodbyes_leave_time_for_their_answers() {
        let now = Instant::now();
        let last = |left: u64| goodbyes(now, now + Duration::from_secs(left), 1000).last().unwrap() - now;
        assert!(last(4) <= Duration::from_secs(2) && last(4) > Duration::from_millis(1990));
        assert!(last(60) <= Duration::from_secs(10) && last(60) > Duration::from_millis(9980));
        assert_eq!(goodbyes(now, now - Duration::from_secs(1), 2).last(), Some(now));
        assert_eq!(goodbyes(now, now, 0).count(), 1, "nobody takes it");
    }

    #[test]
    fn event_streams_end_one_after_the_other_before_the_deadline() {
        let trigger = Instant::now();
        for (seconds, window) in [(8, 2), (100, 5)] {
            let deadline = trigger + Duration::from_secs(seconds);
            let plan = Plan { trigger, deadline, lame_duck_min: Duration::ZERO, steered: true };
            let mut ends: Vec<_> = (7..107).map(|key| end_of_events(&plan, place(key))).collect();
            ends.sort();
            let window = Duration::from_secs(window);
            assert!(ends[0] >= deadline - window && ends[99] < deadline);
            let widest = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(widest < window / 40, "a gap of {widest:?}");
        }
    }

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
