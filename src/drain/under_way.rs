//! A drain under way: what the controller knows of it, and what it comes to.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Trigger;
use super::report::{Ends, Outcome, Report, Seconds, Tally, seconds};
use super::surroundings::App;
use crate::config::Budget;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) trigger: Trigger,
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    pub(super) draining_since: Option<Instant>,
    pub(super) waiters: Vec<oneshot::Sender<Report>>,
    pub(super) before: Tally,
    pub(super) app: App,
    /// Looks in a row that found the app not listening.
    pub(super) absent: u32,
    /// The app has been seen gone in this drain.
    pub(super) app_went: bool,
    pub(super) cut_short: bool,
    pub(super) steered: bool,
}

impl Drain {
    /// One that begins now; `before` is what had ended until now.
    pub(super) fn begin(trigger: Trigger, budget: &Budget, before: Tally) -> Self {
        let begun = Instant::now();
        Self {
            trigger,
            begun,
            deadline: begun + budget.until_deadline(),
            draining_since: None,
            waiters: Vec::new(),
            before,
            app: App::Up,
            absent: 0,
            app_went: false,
            cut_short: false,
            steered: false,
        }
    }

    /// How its connections have ended until `now`.
    fn ends(&self, now: &Tally) -> Vec<(&'static str, Ends)> {
        let before =
            |name| self.before.ends.iter().find(|(other, _)| *other == name).map_or(Ends::default(), |e| e.1);
        now.ends.iter().map(|&(name, ends)| (name, ends.since(before(name)))).collect()
    }

    /// What it has come to; without an `outcome`, that is clean unless something was cut.
    pub(super) fn report(
        &self,
        outcome: Option<Outcome>,
        tally: &Tally,
        last_arrival: Option<Instant>,
    ) -> Report {
        let now = Instant::now();
        let draining_since = self.draining_since.unwrap_or(now);
        let connections = self.ends(tally);
        let cut = self.cut_short || connections.iter().any(|(_, ends)| ends.cut > 0);
        Report {
            outcome: outcome.unwrap_or(if cut { Outcome::Forced } else { Outcome::Clean }),
            trigger: self.trigger,
            seconds: Seconds {
                lame_duck: seconds(draining_since - self.begun),
                draining: seconds(now - draining_since),
                total: seconds(now - self.begun),
            },
            last_arrival_seconds: last_arrival.map(|last| seconds(last - self.begun)),
            connections,
            raced_requests: tally.raced.wrapping_sub(self.before.raced),
        }
    }
}
