//! The drain: one process-wide phase that goes forward only, except for re-arming.
//!
//! ```text
//!             trigger                quiet / max / app gone        nothing left / deadline
//!  serving ───────────▶ lame-duck ───────────▶ draining ───────────▶ drained ──▶ exit (after SIGTERM)
//!     ▲                     │                      │                     │
//!     └─────────────────────┴── the app went and came back, or /undrain ─┘   (never after SIGTERM)
//! ```
//!
//! [`controller`] decides ([`handle`] is how it is spoken to, [`surroundings`] what it acts on), [`watch`] carries the decision to the workers and brings their reports back,
//! [`notice`] says when each connection is told to go, [`arrivals`] measures the propagation delay,
//! [`report`] is what the callers get. Nothing here knows of HTTP.

pub mod arrivals;
pub mod controller;
pub mod handle;
pub mod notice;
pub mod report;
pub mod signals;
pub mod surroundings;
mod under_way;
pub mod watch;

/// Where the drain stands. The names are used everywhere: logs, metrics, docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Normal work.
    Serving,
    /// Still accepts everything; peers are asked to go, gradually.
    LameDuck,
    /// New connections are refused; the rest finishes.
    Draining,
    /// Nothing is left.
    Drained,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 4] = [Self::Serving, Self::LameDuck, Self::Draining, Self::Drained];

    /// The phase's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::LameDuck => "lame-duck",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// What began a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A call of `/drain`.
    Drain,
    /// SIGTERM.
    Sigterm,
    /// SIGINT.
    Sigint,
}

impl Trigger {
    /// The label's text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Sigterm => "sigterm",
            Self::Sigint => "sigint",
        }
    }
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Drained, and told to end.
    Drained,
    /// A second SIGINT.
    AtOnce,
}

impl Exit {
    /// For logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::AtOnce => "at-once",
        }
    }
}
