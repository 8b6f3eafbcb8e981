//! What can go wrong with the demo itself, as opposed to what it shows.

use std::io;
use std::time::Duration;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// A process could not be started or told to end.
    #[error("can't run a pod: {0}")]
    Process(#[source] io::Error),
    /// A pod did not become ready, or ended on its own.
    #[error("a pod did not become ready: {reason}{log}")]
    NotReady {
        /// What it was waited for.
        reason: String,
        /// The last lines that it wrote, each on a line of its own.
        log: String,
    },
    /// A preStop hook got no answer.
    #[error("the preStop hook failed: {reason}{log}")]
    Hook {
        /// What came instead.
        reason: String,
        /// The last lines that ebb wrote, each on a line of its own.
        log: String,
    },
    /// This machine ran out of something that the clients need.
    #[error("a client can't go on: {0}")]
    Client(#[source] io::Error),
    /// The machine is too slow or too busy.
    #[error("not finished after {} s: is the machine busy with something else?", .0.as_secs())]
    TooLong(Duration),
    /// The result could not be written.
    #[error("can't write the result: {0}")]
    Output(#[source] io::Error),
}
