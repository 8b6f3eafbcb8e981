//! The four ways to end a pod.

use std::time::Duration;

use serde::Serialize;

use super::app::OnSigterm;

/// The usual advice is 5 s and more, for propagation delays that are longer than the demo's.
pub(super) const PRE_STOP_SLEEP: Duration = Duration::from_secs(3);

/// What happens when a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strategy {
    /// The app is gone on SIGTERM
    Exit,
    /// The app finishes its requests on SIGTERM, at once
    Graceful,
    /// A preStop hook sleeps first, then as graceful
    Sleep,
    /// A preStop hook drains ebb first, then as graceful
    Ebb,
}

impl Strategy {
    /// All of them, in the order in which they were invented.
    pub(super) const ALL: [Self; 4] = [Self::Exit, Self::Graceful, Self::Sleep, Self::Ebb];

    /// What the app does on SIGTERM.
    pub(super) fn on_sigterm(self) -> OnSigterm {
        match self {
            Self::Exit => OnSigterm::Exit,
            Self::Graceful | Self::Sleep | Self::Ebb => OnSigterm::Graceful,
        }
    }

    /// The name for people.
    pub(super) fn title(self) -> String {
        match self {
            Self::Exit => "the app just exits".to_owned(),
            Self::Graceful => "the app shuts down gracefully".to_owned(),
            Self::Sleep => format!("preStop sleep {} s, then graceful", PRE_STOP_SLEEP.as_secs()),
            Self::Ebb => "preStop ebb drain, then graceful".to_owned(),
        }
    }
}
