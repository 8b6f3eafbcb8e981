//! What the clients of a load have in common: when they are to stop, what they count, who was refused first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::Failure;
use crate::tally::Tally;

/// A client that got no connection waits this long, or it would only spin.
const BACK_OFF: Duration = Duration::from_millis(5);

/// How far a load has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    ok: u64,
    first_refusal: Option<Instant>,
}

/// A load under way. Dropping it aborts its clients.
#[must_use]
pub struct Running {
    clients: JoinSet<Tally>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: watch::Sender<bool>,
    progress: watch::Sender<Progress>,
}

/// One client's part of a load.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) tally: Tally,
    shared: Arc<Shared>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl Running {
    /// A load without clients.
    pub(crate) fn new() -> Self {
        Self { clients: JoinSet::new(), shared: Arc::default() }
    }

    /// Adds a client.
    pub(crate) fn spawn<C>(&mut self, client: impl FnOnce(Session) -> C)
    where
        C: Future<Output = Tally> + Send + 'static,
    {
        let session = Session { tally: Tally::default(), shared: Arc::clone(&self.shared) };
        self.clients.spawn(client(session));
    }

    /// Waits until this many requests have ended well; tests need no sleep to be in the middle of a load.
    pub async fn reached(&self, ok: u64) {
        let _ = self.shared.progress.subscribe().wait_for(|progress| progress.ok >= ok).await;
    }

    /// Waits until a connection was refused, and says when.
    pub async fn refused(&self) -> Option<Instant> {
        let mut progress = self.shared.progress.subscribe();
        let found = progress.wait_for(|progress| progress.first_refusal.is_some()).await;
        found.ok().and_then(|progress| progress.first_refusal)
    }

    /// Lets every client end the request it is at, and returns what became of all of them.
    ///
    /// # Panics
    /// When a client panicked.
    pub async fn stop(self) -> Tally {
        self.shared.stop.send_replace(true);
        let mut total = Tally::default();
        for tally in self.clients.join_all().await {
            total.merge(&tally);
        }
        total
    }
}

impl Session {
    pub(crate) fn stopped(&self) -> bool {
        *self.shared.stop.borrow()
    }

    /// Waits until the load is stopped. It does not borrow, so that the session can count meanwhile.
    pub(crate) fn stop(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.shared.stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Counts an attempt.
    pub(crate) fn record(&mut self, end: Result<(), Failure>) {
        self.tally.record(end);
        if end.is_ok() {
            self.shared.progress.send_modify(|progress| progress.ok += 1);
        }
    }

    /// Waits for a connection; when there is none, counts that and waits a little.
    pub(crate) async fn connected<C>(
        &mut self,
        connect: impl Future<Output = Result<C, Failure>>,
    ) -> Option<C> {
        let late = self.shared.progress.borrow().first_refusal.is_some();
        let failure = match connect.await {
            Ok(connection) => {
                self.tally.connections += 1;
                self.tally.accepted_after_refusal += u64::from(late);
                return Some(connection);
            }
            Err(failure) => failure,
        };
        self.tally.accepted_after_refusal += u64::from(late && failure == Failure::LostFresh);
        if failure == Failure::Refused {
            let now = Instant::now();
            self.tally.first_refusal.get_or_insert(now);
            self.shared.progress.send_if_modified(|progress| {
                let first = progress.first_refusal.is_none();
                progress.first_refusal.get_or_insert(now);
                first
            });
        }
        self.record(Err(failure));
        sleep(BACK_OFF).await;
        None
    }
}
