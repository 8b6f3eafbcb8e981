//! What the drain acts on. The real one is in the composition root; tests have their own.

use std::future::Future;
use std::io;

use super::Phase;
use super::report::{Report, Tally};

/// What the controller acts on.
pub trait Surroundings {
    /// Steers new SYNs away from all listeners; false where that is not possible.
    fn steer(&mut self) -> bool;
    /// All listeners are closed: from now on SYNs are to be refused.
    fn shut(&mut self);
    /// Binds the listeners again and hands them to the workers, as generation `generation`.
    ///
    /// # Errors
    /// What the kernel says; then nothing has changed.
    fn reopen(&mut self, generation: u64) -> io::Result<()>;
    /// Looks whether the app is there.
    fn look_at_app(&self) -> impl Future<Output = App> + Send;
    /// How connections have ended since the process began.
    fn tally(&self) -> Tally;
    /// A phase has begun.
    fn entered(&mut self, phase: Phase);
    /// A drain is over.
    fn ended(&mut self, report: &Report);
}

/// What can be seen of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// It accepts connections, or that can't be told.
    Up,
    /// There are several, and one of them that did listen does not any more.
    Partly,
    /// It does not listen, but requests that it has taken are still under way.
    Leaving,
    /// It does not listen and holds no connection.
    Gone,
}

impl App {
    /// For logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Partly => "partly",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
        }
    }

    /// Whether new connections find somebody.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Up | Self::Partly)
    }
}
