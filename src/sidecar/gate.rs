//! The listeners of all workers as one gate, which the drain's controller closes and opens.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Duration;

use crate::config::Config;
use crate::drain::Phase;
use crate::drain::report::{Report, Tally};
use crate::drain::surroundings::{App, Surroundings};
use crate::listener;
use crate::listener::refusal::Refusal;
use crate::metrics::Metrics;
use crate::upstream::{Reach, reach};
use crate::worker::Opening;

/// An app on the same machine answers a connect at once; a full accept queue says nothing.
const LOOK_TIMEOUT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Gate {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    openings: Vec<UnboundedSender<Opening>>,
    /// A handle on one listening socket of each forward, by which its whole group is steered. As long as such
    /// a handle is open, so is the socket.
    members: Vec<StdListener>,
    refusals: Vec<Refusal>,
    fallback_logged: bool,
    /// For each forward, whether its app has been seen to listen.
    seen: Vec<AtomicBool>,
}

impl Gate {
    /// Hands the listeners out to the workers.
    pub(super) fn new(
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        openings: Vec<UnboundedSender<Opening>>,
        listeners: Vec<Vec<StdListener>>,
    ) -> io::Result<Self> {
        let mut gate = Self {
            config: Arc::clone(config),
            metrics: Arc::clone(metrics),
            openings,
            members: Vec::new(),
            refusals: Vec::new(),
            fallback_logged: false,
            seen: config.forwards.iter().map(|_| AtomicBool::new(false)).collect(),
        };
        gate.hand_out(listeners, 0)?;
        Ok(gate)
    }

    fn hand_out(&mut self, listeners: Vec<Vec<StdListener>>, generation: u64) -> io::Result<()> {
        self.members = listeners.iter().map(|group| group[0].try_clone()).collect::<io::Result<_>>()?;
        let mut groups: Vec<_> = listeners.into_iter().map(Vec::into_iter).collect();
        for worker in &self.openings {
            let listeners = groups.iter_mut().filter_map(Iterator::next).collect();
            // A worker that is gone has panicked; the others go on.
            let _ = worker.send(Opening { generation, listeners });
        }
        Ok(())
    }
}

impl Surroundings for Gate {
    fn steer(&mut self) -> bool {
        let workers = self.config.workers;
        let steered = self.members.iter().map(|member| Refusal::steer(member, workers)).collect();
        // The workers' closing must close: no other handle may keep the sockets open.
        self.members.clear();
        match steered {
            Ok(refusals) => {
                self.refusals = refusals;
                true
            }
            Err(error) => {
                let error: io::Error = error;
                if !std::mem::replace(&mut self.fallback_logged, true) {
                    tracing::warn!(
                        %error,
                        "new connections can't be steered away here; connections that arrive in the instant \
                         of closing may be reset"
                    );
                }
                false
            }
        }
    }

    fn shut(&mut self) {
        self.refusals.clear();
    }

    fn reopen(&mut self, generation: u64) -> io::Result<()> {
        let workers = self.config.workers;
        let groups = self.config.forwards.iter().map(|forward| listener::bind(&forward.listen, workers));
        let groups = groups.collect::<io::Result<_>>()?;
        self.hand_out(groups, generation)
    }

    async fn look_at_app(&self) -> App {
        let (mut listen, mut missing) = (false, false);
        for (forward, seen) in self.config.forwards.iter().zip(&self.seen) {
            if reach(&forward.upstream, LOOK_TIMEOUT).await == Reach::Refused {
                missing |= seen.load(Relaxed);
            } else {
                seen.store(true, Relaxed);
                listen = true;
            }
        }
        if listen {
            return if missing { App::Partly } else { App::Up };
        }
        let used: i64 = self.metrics.shards().iter().map(|shard| shard.upstream_active.get()).sum();
        if used > 0 { App::Leaving } else { App::Gone }
    }

    fn tally(&self) -> Tally {
        self.metrics.tally()
    }

    fn entered(&mut self, phase: Phase) {
        self.metrics.set_phase(phase);
    }

    fn ended(&mut self, report: &Report) {
        self.metrics.drained(report);
    }
}
