//! What a worker and its connections see of the drain, and how a worker reports back.
//!
//! [`Orders`] go to every worker through one watch channel: level-triggered, so a late reader still sees
//! where things stand. Each worker keeps a [`View`] of them in plain cells for its connections. A worker's
//! part of a drain is over when its [`Guard`]s are dropped; dropping reports, even when a worker unwinds.

use std::cell::Cell;

use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant};

use super::Phase;

/// After the deadline, connections have this long for their last words (a 503, a terminal chunk, a FIN)
/// before they are cut. It is taken out of the margin.
pub const LAST_WORDS: Duration = Duration::from_millis(400);

/// What the workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// Where the drain stands.
    pub phase: Phase,
    /// The drain under way; none while serving.
    pub plan: Option<Plan>,
}

impl Orders {
    /// Before any drain.
    pub const SERVE: Self = Self { phase: Phase::Serving, plan: None };
}

/// A drain's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When it began.
    pub trigger: Instant,
    /// What is left after this is cut.
    pub deadline: Instant,
    /// The shortest lame duck: notices are spread over its first part.
    pub lame_duck_min: Duration,
    /// Whether new SYNs have been steered away from the listeners that are to be closed.
    pub steered: bool,
}

/// Something a worker has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Its listeners of this generation are closed, their accept queues empty.
    Closed(u64),
    /// The same, and no connection is left.
    Emptied(u64),
}

/// The controller's end.
#[derive(Debug)]
pub struct Publisher {
    /// Orders to the workers.
    pub orders: watch::Sender<Orders>,
    /// What they report.
    pub reports: mpsc::UnboundedReceiver<Report>,
}

/// A worker's end.
#[derive(Debug, Clone)]
pub struct Subscriber {
    orders: watch::Receiver<Orders>,
    reports: mpsc::UnboundedSender<Report>,
}

/// Connects a controller with any number of workers, which each get a clone of the subscriber.
#[must_use]
pub fn channel() -> (Publisher, Subscriber) {
    let (orders_tx, orders) = watch::channel(Orders::SERVE);
    let (reports, reports_rx) = mpsc::unbounded_channel();
    (Publisher { orders: orders_tx, reports: reports_rx }, Subscriber { orders, reports })
}

impl Subscriber {
    /// The orders as they stand.
    #[must_use]
    pub fn orders(&self) -> Orders {
        *self.orders.borrow()
    }

    /// Waits for orders that differ from those last seen here. Never returns once the controller is gone:
    /// the process is about to end.
    pub async fn changed(&mut self) -> Orders {
        if self.orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.orders.borrow_and_update()
    }

    /// Waits until the phase is `phase` or a later one, and returns the orders that say so.
    pub async fn reached(&mut self, phase: Phase) -> Orders {
        let reached = self.orders.wait_for(|orders| orders.phase >= phase).await.map(|orders| *orders);
        match reached {
            Ok(orders) => orders,
            Err(_) => std::future::pending().await,
        }
    }

    /// A guard that makes `report` when it is dropped.
    pub fn guard(&self, report: Report) -> Guard {
        Guard { report, reports: self.reports.clone() }
    }
}

/// Reports when it is dropped.
#[derive(Debug)]
#[must_use = "it reports as soon as it is dropped"]
pub struct Guard {
    report: Report,
    reports: mpsc::UnboundedSender<Report>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody listens any more when the process is about to end.
        let _ = self.reports.send(self.report);
    }
}

/// A worker's view of the orders, for its connections.
#[derive(Debug)]
pub struct View {
    orders: Cell<Orders>,
    stage: Cell<Stage>,
    /// When the deadline was seen to have passed. A worker that was held up gives its connections their last words all
    /// the same.
    ended_at: Cell<Option<Instant>>,
}

/// How far a drain's deadline is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Ended,
    Cut,
}

impl Default for View {
    fn default() -> Self {
        Self { orders: Cell::new(Orders::SERVE), stage: Cell::new(Stage::Running), ended_at: Cell::new(None) }
    }
}

impl View {
    /// Takes new orders over; true when they are of another drain than those before. (The watch channel keeps
    /// the newest only: between two drains, a worker may miss that it was serving.)
    pub fn set(&self, orders: Orders) -> bool {
        let before = self.orders.replace(orders);
        let new = before.plan.map(|plan| plan.trigger) != orders.plan.map(|plan| plan.trigger);
        if new {
            self.stage.set(Stage::Running);
        }
        new
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.orders.get().phase
    }

    /// The drain under way.
    #[must_use]
    pub fn plan(&self) -> Option<Plan> {
        self.orders.get().plan
    }

    /// The deadline has passed: say your last words.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.stage.get() >= Stage::Ended
    }

    /// The deadline has passed, and half of the time for last words: do not wait for the rest of anything.
    #[must_use]
    pub fn hurries(&self) -> bool {
        self.ended() && self.ended_at.get().is_some_and(|ended| Instant::now() >= ended + LAST_WORDS / 2)
    }

    /// The time for last words has passed, too.
    #[must_use]
    pub fn cut(&self) -> bool {
        self.stage.get() == Stage::Cut
    }

    /// When [`View::advance`] has something to do next.
    #[must_use]
    pub fn next_step(&self) -> Option<Instant> {
        let deadline = self.plan()?.deadline;
        match self.stage.get() {
            Stage::Running => Some(deadline),
            Stage::Ended => Some(self.ended_at.get().unwrap_or(deadline) + LAST_WORDS),
            Stage::Cut => None,
        }
    }

    /// Moves on when a deadline has passed; true when something changed.
    pub fn advance(&self, now: Instant) -> bool {
        let Some(due) = self.next_step() else { return false };
        if now < due {
            return false;
        }
        if self.ended() {
            self.stage.set(Stage::Cut);
        } else {
            self.stage.set(Stage::Ended);
            self.ended_at.set(Some(now));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(phase: Phase, deadline: Instant) -> Orders {
        let plan = Plan { trigger: Instant::now(), deadline, lame_duck_min: Duration::ZERO, steered: true };
        Orders { phase, plan: Some(plan) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_ends_at_the_deadline_and_cuts_after_the_last_words() {
        let view = View::default();
        assert_eq!(view.next_step(), None);
        let deadline = Instant::now() + Duration::from_secs(3);
        view.set(orders(Phase::Draining, deadline));
        assert!(!view.advance(deadline - Duration::from_millis(1)));
        assert!(view.advance(deadline) && view.ended() && !view.cut());
        assert!(!view.advance(deadline));
        assert!(view.advance(deadline + LAST_WORDS) && view.cut());
        assert_eq!(view.next_step(), None);
        view.set(Orders::SERVE);
        assert!(!view.ended());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_comes_late_still_leaves_time_for_last_words() {
        let view = View::default();
        let deadline = Instant::now();
        view.set(orders(Phase::Draining, deadline));
        let late = deadline + 2 * LAST_WORDS;
        assert!(view.advance(late) && view.ended());
        assert!(!view.advance(late) && !view.cut());
        assert!(view.advance(late + LAST_WORDS) && view.cut());
    }

    #[tokio::test]
    async fn a_late_subscriber_still_sees_the_phase_and_a_dropped_guard_reports() {
        let (mut publisher, subscriber) = channel();
        publisher.orders.send_replace(orders(Phase::Draining, Instant::now()));
        let mut late = subscriber.clone();
        assert_eq!(late.reached(Phase::LameDuck).await.phase, Phase::Draining);
        let guard = late.guard(Report::Emptied(7));
        assert!(publisher.reports.try_recv().is_err());
        drop(guard);
        assert_eq!(publisher.reports.try_recv(), Ok(Report::Emptied(7)));
    }
}
