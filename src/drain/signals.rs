//! SIGTERM and SIGINT as triggers.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Trigger;
use super::handle::Handle;

/// The handlers, installed. As PID 1 a process without a handler for SIGTERM never gets it.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Installs the handlers: before anything is bound, so that no signal finds the default action.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn install() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Passes signals on. Never returns.
    pub async fn forward(mut self, drain: Handle) {
        loop {
            drain.trigger(self.next().await);
        }
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Trigger {
        let trigger = tokio::select! {
            Some(()) = self.term.recv() => Trigger::Sigterm,
            Some(()) = self.int.recv() => Trigger::Sigint,
            else => std::future::pending().await,
        };
        tracing::info!(signal = trigger.name(), "received");
        trigger
    }
}
