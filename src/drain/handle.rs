//! How everybody else talks to the controller.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::report::{Progress, Report};
use super::{Phase, Trigger};

/// A message to the controller.
#[derive(Debug)]
pub(super) enum Command {
    Trigger(Trigger, Option<oneshot::Sender<Report>>),
    Undrain(oneshot::Sender<Result<(), UndrainError>>),
}

/// Why there is no way back.
#[derive(Debug, thiserror::Error)]
pub enum UndrainError {
    /// The pod is going away.
    #[error("a signal to end has been received: there is no way back")]
    Terminating,
    /// A listener can't be bound again.
    #[error("cannot listen again: {0}")]
    Bind(#[from] io::Error),
    /// The controller is gone.
    #[error("this process is ending")]
    Ending,
}

/// Talks to the controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    state: SharedState,
    arrivals: Arc<Arrivals>,
}

/// What everybody may know.
#[derive(Debug, Clone)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// When the drain under way began.
    pub trigger: Option<Instant>,
    /// When it will be cut short.
    pub deadline: Option<Instant>,
    /// The last drain's report.
    pub report: Option<Report>,
}

/// The state as the controller keeps it for everybody.
#[derive(Debug, Clone)]
pub(super) struct SharedState(Arc<Mutex<State>>);

impl SharedState {
    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write(&self, write: impl FnOnce(&mut State)) {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A handle, and the controller's ends of it.
pub(super) fn handle(arrivals: Arc<Arrivals>) -> (Handle, mpsc::UnboundedReceiver<Command>, SharedState) {
    let (commands, receiver) = mpsc::unbounded_channel();
    let state = State { phase: Phase::Serving, trigger: None, deadline: None, report: None };
    let state = SharedState(Arc::new(Mutex::new(state)));
    (Handle { commands, state: state.clone(), arrivals }, receiver, state)
}

impl Handle {
    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.read(State::clone)
    }

    /// How far the drain has come; nothing while serving.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (phase, trigger, deadline) =
            self.state.read(|state| (state.phase, state.trigger, state.deadline));
        let under_way = deadline.filter(|_| phase != Phase::Drained);
        let last = trigger.and_then(|trigger| Some(self.arrivals.newest_since(trigger)? - trigger));
        Progress {
            remaining: under_way.map(|deadline| deadline.saturating_duration_since(Instant::now())),
            last_arrival: last,
        }
    }

    /// Begins a drain, or joins the one under way.
    pub fn trigger(&self, trigger: Trigger) {
        // The controller is gone only when the process is ending anyway.
        let _ = self.commands.send(Command::Trigger(trigger, None));
    }

    /// Begins or joins a drain and waits for its end; none when the process ends before.
    pub async fn drain(&self) -> Option<Report> {
        let (reply, report) = oneshot::channel();
        self.commands.send(Command::Trigger(Trigger::Drain, Some(reply))).ok()?;
        report.await.ok()
    }

    /// Takes the drain back. While serving, nothing happens.
    ///
    /// # Errors
    /// See [`UndrainError`].
    pub async fn undrain(&self) -> Result<(), UndrainError> {
        let (reply, done) = oneshot::channel();
        self.commands.send(Command::Undrain(reply)).map_err(|_| UndrainError::Ending)?;
        done.await.unwrap_or(Err(UndrainError::Ending))
    }
}
