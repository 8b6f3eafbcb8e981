//! A worker: one thread with its own event loop, listening sockets and connections to the app. Nothing on
//! the request path is shared with another worker.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use crate::config::{Config, Forward};
use crate::connection::{Roster, Site};
use crate::drain::arrivals::{Arrivals, Probers};
use crate::drain::watch::{Report, Subscriber};
use crate::listener::{self, Listener};
use crate::metrics::Shard;
use crate::proxy::Route;
use crate::telemetry::AccessLog;
use crate::tls::Current;
use crate::upstream::Pool;

/// A worker's listening sockets, one for each forward.
#[derive(Debug)]
pub struct Opening {
    /// Counts how often the listeners were opened; reports refer to it.
    pub generation: u64,
    /// In the order of the forwards.
    pub listeners: Vec<StdListener>,
}

/// What a worker needs to run.
#[derive(Debug)]
pub struct Worker {
    /// Which it is, for its thread's name.
    pub index: usize,
    /// The settings.
    pub config: Arc<Config>,
    /// Each forward with its label, its shard and what its TLS handshakes begin with.
    pub routes: Vec<(Forward, String, Arc<Shard>, Option<Current>)>,
    /// Listeners, now and after a re-arm.
    pub openings: mpsc::UnboundedReceiver<Opening>,
    /// The drain.
    pub drain: Subscriber,
    /// Where new connections are noted in a drain.
    pub arrivals: Arc<Arrivals>,
    /// Connections of all workers.
    pub connections: Arc<AtomicUsize>,
    /// Where requests are logged.
    pub access_log: Option<AccessLog>,
}

impl Worker {
    /// Starts the worker's thread. It ends when its `openings` are closed.
    ///
    /// # Errors
    /// When there is no thread or no event loop to be had.
    pub fn spawn(self) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name(format!("worker-{}", self.index))
            .spawn(move || LocalSet::new().block_on(&runtime, self.run()))
    }

    async fn run(mut self) {
        let roster = Roster::new(self.config.limits, Arc::clone(&self.connections));
        spawn_local(Rc::clone(&roster).watch(self.drain.clone()));
        let sites = self.sites(&roster);
        let mut next = self.openings.recv().await;
        while let Some(opening) = next {
            next = self.serve(opening, &sites, &roster).await;
        }
    }

    fn sites(&mut self, roster: &Rc<Roster>) -> Vec<Rc<Site>> {
        let probers = Rc::new(Probers::new(self.config.probe_user_agents.clone()));
        let site = |(forward, label, shard, tls): (Forward, String, Arc<Shard>, Option<Current>)| {
            let pool = Pool::new(&forward.upstream, self.config.upstream, Arc::clone(&shard));
            spawn_local(Rc::clone(&pool).keep_fresh());
            let route = Route {
                forward: label,
                scheme: forward.scheme,
                pool,
                forwarded: self.config.forwarded,
                shard,
                access_log: self.access_log.clone(),
            };
            Site::new(forward.scheme, Rc::new(route), roster, &self.arrivals, &probers, &self.config, tls)
        };
        std::mem::take(&mut self.routes).into_iter().map(site).collect()
    }

    /// Accepts until the drain, reports when the listeners are closed and when nothing is left, and returns the
    /// next listeners.
    async fn serve(&mut self, opening: Opening, sites: &[Rc<Site>], roster: &Roster) -> Option<Opening> {
        let closed = self.drain.guard(Report::Closed(opening.generation));
        let emptied = self.drain.guard(Report::Emptied(opening.generation));
        let accepting: Vec<_> = sites
            .iter()
            .zip(opening.listeners)
            .filter_map(|(site, listener)| match Listener::new(listener) {
                Ok(listener) => {
                    let site = Rc::clone(site);
                    let take = move |stream, peer, rescued| site.take(stream, peer, rescued);
                    Some(spawn_local(listener::accept_until_draining(listener, self.drain.clone(), take)))
                }
                Err(error) => {
                    tracing::error!(%error, "a listener can't be watched");
                    None
                }
            })
            .collect();
        for task in accepting {
            // A panic in an accept loop has been reported by the runtime; its listener is closed.
            let _ = task.await;
        }
        drop(closed);
        tokio::select! {
            () = roster.emptied() => drop(emptied),
            next = self.openings.recv() => return next,
        }
        self.openings.recv().await
    }
}
