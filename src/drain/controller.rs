//! Decides the phases: one task, which everybody else only sends messages to.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};

use super::arrivals::Arrivals;
use super::handle::{self, Command, Handle, SharedState, UndrainError};
use super::report::{Outcome, Report};
use super::surroundings::{App, Surroundings};
use super::under_way::Drain;
use super::watch::{self, LAST_WORDS, Orders, Plan, Publisher};
use super::{Exit, Phase, Trigger};
use crate::config::Budget;

/// How often the app is looked at in a drain. Only then: while serving, the requests themselves tell.
const APP_INTERVAL: Duration = Duration::from_millis(100);

/// With the app gone, all is to be over within two seconds, the last words included.
const WITHOUT_APP: Duration = Duration::from_millis(1500);

/// So many looks in a row must find the app gone before lame duck ends for it: some servers reopen their listener
/// when they reload.
const LOOKS: u32 = 3;

/// After a failed attempt to listen again, the next.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker may take beyond the deadline and the last words before it is given up.
const SLACK: Duration = Duration::from_millis(300);

/// The task behind [`Handle`].
#[derive(Debug)]
pub struct Controller<S> {
    surroundings: S,
    publisher: Publisher,
    commands: mpsc::UnboundedReceiver<Command>,
    state: SharedState,
    arrivals: Arc<Arrivals>,
    budget: Budget,
    workers: usize,
    generation: u64,
    /// SIGTERM or SIGINT has been received: no way back.
    terminating: bool,
    interrupted: bool,
    /// Undrains that wait for the listeners to be closed.
    undrains: VecDeque<oneshot::Sender<Result<(), UndrainError>>>,
    app_due: Instant,
    reopen_due: Instant,
}

/// Where to go from a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    Back,
    Exit(Exit),
}

enum Event {
    Timer,
    Command(Command),
    Report(watch::Report),
    App(App),
}

impl<S: Surroundings> Controller<S> {
    /// A controller in [`Phase::Serving`] whose `workers` already have their listeners, as generation 0.
    pub fn new(
        surroundings: S,
        publisher: Publisher,
        arrivals: Arc<Arrivals>,
        budget: Budget,
        workers: usize,
    ) -> (Handle, Self) {
        let (handle, commands, state) = handle::handle(Arc::clone(&arrivals));
        let controller = Self {
            surroundings,
            publisher,
            commands,
            state,
            arrivals,
            budget,
            workers,
            generation: 0,
            terminating: false,
            interrupted: false,
            undrains: VecDeque::new(),
            app_due: Instant::now(),
            reopen_due: Instant::now(),
        };
        (handle, controller)
    }

    /// Runs until the process is to end.
    pub async fn run(mut self) -> Exit {
        loop {
            let mut drain = self.serving().await;
            let mut go = self.lame_duck(&mut drain).await;
            if go == Go::On {
                go = self.draining(&mut drain).await;
            }
            if go == Go::On {
                self.finish(&mut drain);
                go = self.drained(&mut drain).await;
            }
            match go {
                Go::Exit(exit) => return exit,
                Go::On | Go::Back => self.cancel(drain),
            }
        }
    }

    /// Until something begins a drain.
    async fn serving(&mut self) -> Drain {
        loop {
            match self.commands.recv().await {
                Some(Command::Trigger(trigger, waiter)) => {
                    self.app_due = Instant::now();
                    let mut drain = Drain::begin(trigger, &self.budget, self.surroundings.tally());
                    drain.waiters.extend(waiter);
                    self.note_signal(trigger, &mut drain).await;
                    return drain;
                }
                Some(Command::Undrain(reply)) => {
                    let _ = reply.send(Ok(()));
                }
                // Every handle is gone: the process is being torn down around us.
                None => std::future::pending().await,
            }
        }
    }

    /// Accepts everything still, until new connections have stopped coming.
    async fn lame_duck(&mut self, drain: &mut Drain) -> Go {
        if drain.app.is_there() {
            self.enter(Phase::LameDuck, drain);
        }
        loop {
            let last = self.arrivals.newest_since(drain.begun).unwrap_or(drain.begun);
            let end = (last + self.budget.quiet())
                .max(drain.begun + self.budget.lame_duck_min())
                .min(drain.begun + self.budget.lame_duck_max())
                .min(drain.deadline);
            // Without the app there is nothing to accept for: a refused connection may be tried again
            // elsewhere, a 503 not always.
            if Instant::now() >= end || !drain.app.is_there() {
                return Go::On;
            }
            match self.next(end, true).await {
                Event::Timer | Event::Report(_) => {}
                Event::App(app) => {
                    drain.absent = if app.is_there() { 0 } else { drain.absent + 1 };
                    if drain.absent == 0 || drain.absent >= LOOKS {
                        self.note_app(app, drain);
                    }
                }
                Event::Command(command) => {
                    if let Some(exit) = self.join(command, drain).await {
                        return Go::Exit(exit);
                    }
                    if !self.undrains.is_empty() {
                        self.undrains.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
                        return Go::Back;
                    }
                }
            }
        }
    }

    /// Refuses new connections and lets the others finish.
    async fn draining(&mut self, drain: &mut Drain) -> Go {
        drain.draining_since = Some(Instant::now());
        drain.steered = self.surroundings.steer();
        self.enter(Phase::Draining, drain);
        let (mut closed, mut emptied) = (0, 0);
        let mut held_up = None;
        while emptied < self.workers {
            let last = held_up.unwrap_or(drain.deadline) + LAST_WORDS + SLACK;
            match self.next(last, true).await {
                // The whole machine stood still: the workers have as much to catch up with.
                Event::Timer if held_up.is_none() && Instant::now() >= last + SLACK => {
                    held_up = Some(Instant::now());
                }
                Event::Timer => {
                    tracing::warn!("connections are left after the deadline; giving them up");
                    drain.cut_short = true;
                    break;
                }
                Event::Report(watch::Report::Closed(generation)) if generation == self.generation => {
                    closed += 1;
                    if closed == self.workers {
                        self.surroundings.shut();
                    }
                }
                Event::Report(watch::Report::Emptied(generation)) if generation == self.generation => {
                    emptied += 1
                }
                Event::Report(_) => {}
                Event::App(app) => self.note_app(app, drain),
                Event::Command(command) => {
                    if let Some(exit) = self.join(command, drain).await {
                        return Go::Exit(exit);
                    }
                }
            }
            // Only when all are closed can they be bound again.
            if closed == self.workers && self.reopens(drain) {
                return Go::Back;
            }
        }
        if closed < self.workers {
            self.surroundings.shut();
        }
        Go::On
    }

    /// Nothing is left; until the process is told to end, or the app comes back.
    async fn drained(&mut self, drain: &mut Drain) -> Go {
        self.enter(Phase::Drained, drain);
        loop {
            if self.terminating {
                return Go::Exit(Exit::Drained);
            }
            if self.reopens(drain) {
                return Go::Back;
            }
            match self.next(Instant::now() + Duration::from_secs(3600), true).await {
                Event::Timer | Event::Report(_) => {}
                Event::App(app) => self.note_app(app, drain),
                Event::Command(command) => {
                    if let Some(exit) = self.join(command, drain).await {
                        return Go::Exit(exit);
                    }
                    self.answer(drain);
                }
            }
        }
    }

    /// What happens next, but not later than `until`.
    async fn next(&mut self, until: Instant, watch_app: bool) -> Event {
        tokio::select! {
            biased;
            Some(report) = self.publisher.reports.recv() => Event::Report(report),
            Some(command) = self.commands.recv() => Event::Command(command),
            () = sleep_until(until) => Event::Timer,
            app = async { sleep_until(self.app_due).await; self.surroundings.look_at_app().await }, if watch_app => {
                self.app_due = Instant::now() + APP_INTERVAL;
                Event::App(app)
            }
        }
    }

    /// A command while a drain is under way.
    async fn join(&mut self, command: Command, drain: &mut Drain) -> Option<Exit> {
        match command {
            Command::Trigger(trigger, waiter) => {
                drain.waiters.extend(waiter);
                if trigger == Trigger::Sigint && self.interrupted {
                    return Some(Exit::AtOnce);
                }
                let before = drain.deadline;
                self.note_signal(trigger, drain).await;
                if drain.deadline != before {
                    self.publish(drain);
                }
            }
            Command::Undrain(reply) if self.terminating => {
                let _ = reply.send(Err(UndrainError::Terminating));
            }
            Command::Undrain(reply) => self.undrains.push_back(reply),
        }
        None
    }

    /// A signal means that the process is to end; when the app is gone already, soon.
    async fn note_signal(&mut self, trigger: Trigger, drain: &mut Drain) {
        if trigger == Trigger::Drain {
            return;
        }
        self.terminating = true;
        for reply in self.undrains.drain(..) {
            let _ = reply.send(Err(UndrainError::Terminating));
        }
        self.interrupted |= trigger == Trigger::Sigint;
        drain.app = self.surroundings.look_at_app().await;
        if drain.app == App::Gone {
            drain.deadline = drain.deadline.min(Instant::now() + WITHOUT_APP);
        }
    }

    fn note_app(&self, app: App, drain: &mut Drain) {
        if drain.app != app {
            tracing::info!(app = app.name(), "the app has changed");
        }
        drain.app = app;
        drain.app_went |= app != App::Up;
    }

    /// Binds the listeners again when there is reason to: `/undrain`, or an app that went and came back.
    fn reopens(&mut self, drain: &Drain) -> bool {
        let due = Instant::now() >= self.reopen_due;
        let rearm = drain.app_went && drain.app == App::Up && !self.terminating && due;
        if self.undrains.is_empty() && !rearm {
            return false;
        }
        // Before the listeners: a worker that gets them while it still sees the drain would close them again.
        self.publisher.orders.send_replace(Orders::SERVE);
        match self.surroundings.reopen(self.generation + 1) {
            Ok(()) => {
                self.generation += 1;
                for reply in self.undrains.drain(..) {
                    let _ = reply.send(Ok(()));
                }
                if rearm {
                    tracing::info!("the app went away and came back: serving again");
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot listen again");
                self.publish(drain);
                self.reopen_due = Instant::now() + REOPEN_INTERVAL;
                for reply in self.undrains.drain(..) {
                    let _ = reply.send(Err(io::Error::new(error.kind(), error.to_string()).into()));
                }
                false
            }
        }
    }

    fn enter(&mut self, phase: Phase, drain: &Drain) {
        self.set_state(phase, Some(drain));
        self.surroundings.entered(phase);
        self.publish(drain);
        tracing::info!(phase = phase.name(), trigger = drain.trigger.name(), "phase");
    }

    fn set_state(&self, phase: Phase, drain: Option<&Drain>) {
        self.state.write(|state| {
            state.phase = phase;
            state.trigger = drain.map(|drain| drain.begun);
            state.deadline = drain.map(|drain| drain.deadline);
        });
    }

    fn publish(&self, drain: &Drain) {
        let phase = self.state.read(|state| state.phase);
        let plan = Plan {
            trigger: drain.begun,
            deadline: drain.deadline,
            lame_duck_min: self.budget.lame_duck_min(),
            steered: drain.steered,
        };
        self.publisher.orders.send_replace(Orders { phase, plan: Some(plan) });
    }

    /// Reports, and answers everybody who waits.
    fn finish(&mut self, drain: &mut Drain) {
        let report = self.report(drain, None);
        let outcome = report.outcome;
        tracing::info!(outcome = outcome.name(), report = %serde_json::to_string(&report).unwrap_or_default(), "{report}");
        self.surroundings.ended(&report);
        self.state.write(|state| state.report = Some(report));
        self.answer(drain);
    }

    fn report(&self, drain: &Drain, outcome: Option<Outcome>) -> Report {
        drain.report(outcome, &self.surroundings.tally(), self.arrivals.newest_since(drain.begun))
    }

    fn answer(&self, drain: &mut Drain) {
        let report = self.state.read(|state| state.report.clone());
        if let Some(report) = report {
            for waiter in drain.waiters.drain(..) {
                // A caller that has hung up changes nothing.
                let _ = waiter.send(report.clone());
            }
        }
    }

    /// Back to serving.
    fn cancel(&mut self, mut drain: Drain) {
        if !drain.waiters.is_empty() {
            let report = self.report(&drain, Some(Outcome::Cancelled));
            for waiter in drain.waiters.drain(..) {
                let _ = waiter.send(report.clone());
            }
        }
        self.set_state(Phase::Serving, None);
        self.surroundings.entered(Phase::Serving);
        self.publisher.orders.send_replace(Orders::SERVE);
        tracing::info!(phase = Phase::Serving.name(), "phase");
    }
}

#[cfg(test)]
mod tests;
