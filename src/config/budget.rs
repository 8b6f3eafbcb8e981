//! The drain's one budget: everything derives from one deadline, `trigger + grace - app - margin`.

use std::fmt;
use std::time::Duration;

/// Kept back for the last words to connections at the deadline and for ebb's own exit.
pub const MARGIN: Duration = Duration::from_secs(1);

/// What draining needs at the least after the longest lame duck: emptying the accept queues takes up to
/// one second, and a response must still have time to end.
pub const DRAINING_MIN: Duration = Duration::from_secs(1);

/// The times of a drain, known to fit into the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    grace_period: Duration,
    app_shutdown: Duration,
    lame_duck_min: Duration,
    lame_duck_max: Duration,
    quiet: Duration,
}

impl Budget {
    /// Checks that the parts fit into the whole.
    ///
    /// # Errors
    /// [`BudgetError`], which names the flags and spells the sum out.
    pub fn new(
        grace_period: Duration,
        app_shutdown: Duration,
        lame_duck_min: Duration,
        lame_duck_max: Duration,
        quiet: Duration,
    ) -> Result<Self, BudgetError> {
        if lame_duck_min > lame_duck_max {
            return Err(BudgetError::LameDuck { min: lame_duck_min, max: lame_duck_max });
        }
        let needed = [app_shutdown, MARGIN, lame_duck_max, DRAINING_MIN]
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add);
        if needed > grace_period {
            return Err(BudgetError::Grace { grace_period, app_shutdown, lame_duck_max, needed });
        }
        Ok(Self { grace_period, app_shutdown, lame_duck_min, lame_duck_max, quiet })
    }

    /// From the trigger to the deadline, after which what is left is cut.
    #[must_use]
    pub fn until_deadline(&self) -> Duration {
        self.grace_period - self.app_shutdown - MARGIN
    }

    /// The shortest lame duck.
    #[must_use]
    pub fn lame_duck_min(&self) -> Duration {
        self.lame_duck_min
    }

    /// The longest lame duck.
    #[must_use]
    pub fn lame_duck_max(&self) -> Duration {
        self.lame_duck_max
    }

    /// Lame duck may end when no new connection has come for this long.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        self.quiet
    }

    /// The pod's terminationGracePeriodSeconds, as stated.
    #[must_use]
    pub fn grace_period(&self) -> Duration {
        self.grace_period
    }
}

/// Times that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The shortest lame duck is longer than the longest.
    #[error("--lame-duck-min {} is more than --lame-duck-max {}: lower the one or raise the other", Text(*.min), Text(*.max))]
    LameDuck {
        /// As given.
        min: Duration,
        /// As given.
        max: Duration,
    },
    /// The parts are more than the whole.
    #[error(
        "--grace-period {} is too short: --app-shutdown {} + margin {} + --lame-duck-max {} + {} to drain = {}: \
         raise --grace-period (and the pod's terminationGracePeriodSeconds) to {} or more, \
         or lower --lame-duck-max or --app-shutdown",
        Text(*.grace_period), Text(*.app_shutdown), Text(MARGIN), Text(*.lame_duck_max), Text(DRAINING_MIN),
        Text(*.needed), Text(*.needed)
    )]
    Grace {
        /// As given.
        grace_period: Duration,
        /// As given.
        app_shutdown: Duration,
        /// As given.
        lame_duck_max: Duration,
        /// What the parts come to.
        needed: Duration,
    },
}

/// A duration written as the flags write it.
struct Text(Duration);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_defaults_fit() {
        let budget = Budget::new(secs(30), secs(5), secs(5), secs(15), secs(3)).unwrap();
        assert_eq!(budget.until_deadline(), secs(24));
    }

    #[test]
    fn a_grace_that_is_too_short_is_refused_with_the_sum() {
        let error = Budget::new(secs(10), secs(5), secs(5), secs(15), secs(3)).unwrap_err().to_string();
        assert!(error.starts_with(
            "--grace-period 10s is too short: --app-shutdown 5s + margin 1s + --lame-duck-max 15s + 1s to drain = 22s"
        ));
        assert!(
            error.contains(
                "raise --grace-period (and the pod's terminationGracePeriodSeconds) to 22s or more"
            )
        );
    }

    #[test]
    fn a_minimum_above_the_maximum_is_refused() {
        let error = Budget::new(secs(60), secs(5), secs(9), secs(8), secs(3)).unwrap_err().to_string();
        assert!(error.contains("--lame-duck-min 9s is more than --lame-duck-max 8s"));
    }

    proptest! {
        /// Whatever is accepted leaves time to drain after the longest lame duck, and the app its share.
        #[test]
        fn an_accepted_budget_fits(grace in 0u64..100_000, app in 0u64..100_000, min in 0u64..100_000, max in 0u64..100_000) {
            let ms = Duration::from_millis;
            if let Ok(budget) = Budget::new(ms(grace), ms(app), ms(min), ms(max), secs(3)) {
                prop_assert!(budget.lame_duck_min() <= budget.lame_duck_max());
                prop_assert!(budget.lame_duck_max() + DRAINING_MIN <= budget.until_deadline());
                prop_assert_eq!(budget.until_deadline() + ms(app) + MARGIN, ms(grace));
            } else {
                prop_assert!(min > max || app + max + 2000 > grace);
            }
        }

        /// No duration, however large, overflows the sum.
        #[test]
        fn sums_saturate(app in any::<u64>(), max in any::<u64>()) {
            let _ = Budget::new(secs(30), secs(app), secs(0), secs(max), secs(3));
        }
    }
}
