//! The composition root: binds everything first, then runs it, and returns how it ended.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::admin::{self, Admin};
use crate::config::{Config, Listen};
use crate::drain::Exit;
use crate::drain::arrivals::Arrivals;
use crate::drain::controller::Controller;
use crate::drain::signals::Signals;
use crate::drain::watch;
use crate::listener;
use crate::metrics::Metrics;
use crate::sys;
use crate::telemetry::AccessLog;
use crate::tls::{self, Reloader};
use crate::worker::Worker;

mod gate;

use gate::Gate;

/// How a process ends that a second SIGINT has interrupted: 128 and the signal's number, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why the sidecar can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("{flag} {addr}: cannot listen: {error}")]
    Bind {
        /// The flag that named it.
        flag: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Certificates or keys can't be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Something that hardly ever fails.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// Two metrics of one name.
    #[error("cannot start: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Bound, not yet running.
#[derive(Debug)]
pub struct Sidecar {
    config: Arc<Config>,
    signals: Signals,
    admin: TcpListener,
    /// For each forward, a listener for each worker.
    listeners: Vec<Vec<StdListener>>,
    /// For each forward, what it speaks TLS with.
    sources: Vec<Option<tls::Source>>,
}

impl Sidecar {
    /// Installs the signal handlers and binds every port. To be called in the runtime that [`Sidecar::run`]
    /// will run in.
    ///
    /// # Errors
    /// [`StartError`], which names the flag.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let sources = config
            .tls
            .files
            .iter()
            .map(|files| files.clone().map(|files| tls::Source::load(files, &tls::HTTP)).transpose());
        let sources = sources.collect::<Result<_, _>>()?;
        let signals = Signals::install()?;
        let admin_addr = config.admin.addr;
        let bind_error = |flag, addr| move |error| StartError::Bind { flag, addr, error };
        let admin = admin::bind(admin_addr).map_err(bind_error("--admin", admin_addr))?;
        let listeners = config.forwards.iter().map(|forward| {
            let listen = &forward.listen;
            listener::bind(listen, config.workers).map_err(bind_error("--forward", listen.addr()))
        });
        let listeners = listeners.collect::<Result<_, _>>()?;
        Ok(Self { config: Arc::new(config), signals, admin, listeners, sources })
    }

    /// Runs until it has been drained and told to end.
    ///
    /// # Errors
    /// When threads are not to be had.
    pub async fn run(self) -> Result<ExitCode, StartError> {
        let Self { mut config, signals, admin, listeners, sources } = self;
        // From here on the ports that the kernel chose are the ports.
        let config_mut = Arc::make_mut(&mut config);
        for (forward, group) in config_mut.forwards.iter_mut().zip(&listeners) {
            forward.listen = bound(forward.listen, group)?;
        }
        let labels: Vec<_> = config.forwards.iter().map(|forward| label(&forward.listen)).collect();
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::register(&registry, &labels, config.workers)?);
        metrics.settings(&config.budget);
        let arrivals = Arc::new(Arrivals::default());
        let (publisher, subscriber) = watch::channel();
        let access_log = AccessLog::start(config.access_log);
        let connections = Arc::new(AtomicUsize::new(0));
        let mut openings = Vec::with_capacity(config.workers);
        let mut threads = Vec::with_capacity(config.workers);
        for index in 0..config.workers {
            let (sender, receiver) = mpsc::unbounded_channel();
            openings.push(sender);
            let routes = config.forwards.iter().zip(&labels).enumerate().map(|(i, (forward, label))| {
                let tls = sources[i].as_ref().map(tls::Source::current);
                (forward.clone(), label.clone(), metrics.shard(index, i, labels.len()), tls)
            });
            let worker = Worker {
                index,
                config: Arc::clone(&config),
                routes: routes.collect(),
                openings: receiver,
                drain: subscriber.clone(),
                arrivals: Arc::clone(&arrivals),
                connections: Arc::clone(&connections),
                access_log: access_log.as_ref().map(|(log, _)| log.clone()),
            };
            threads.push(worker.spawn()?);
        }
        announce(&config, &listeners, &admin)?;
        let sources = labels.into_iter().zip(sources).filter_map(|(label, source)| Some((label, source?)));
        let reloader = Reloader { sources: sources.collect(), interval: config.tls.reload_interval };
        let count = Arc::clone(&metrics);
        tokio::spawn(reloader.run(move |forward, outcome| count.tls_reloaded(forward, outcome.name())));
        let gate = Gate::new(&config, &metrics, openings, listeners)?;
        let (drain, controller) = Controller::new(gate, publisher, arrivals, config.budget, config.workers);
        tokio::spawn(signals.forward(drain.clone()));
        let admin = Admin::new(&config, drain, registry, &metrics).serve(admin);
        sys::let_code_go();
        let exit = controller.run().await;
        // Every caller of /drain has its answer before the process ends.
        admin.finish(admin::FINISH_TIMEOUT).await;
        tracing::info!(exit = exit.name(), "bye");
        Ok(match exit {
            Exit::Drained => ExitCode::SUCCESS,
            Exit::AtOnce => ExitCode::from(INTERRUPTED),
        })
    }
}

/// Where a group of listeners really listens.
fn bound(listen: Listen, group: &[StdListener]) -> io::Result<Listen> {
    let addr = group[0].local_addr()?;
    let ip = match listen.ip {
        // IPv4 alone, where there is no IPv6.
        None if addr.is_ipv4() => Some(addr.ip()),
        ip => ip,
    };
    Ok(Listen { ip, port: addr.port() })
}

/// What metrics and logs call a forward: its port, with the address if it has one.
fn label(listen: &Listen) -> String {
    match listen.ip {
        Some(_) => listen.addr().to_string(),
        None => listen.port.to_string(),
    }
}

fn announce(config: &Config, listeners: &[Vec<StdListener>], admin: &TcpListener) -> io::Result<()> {
    for (forward, group) in config.forwards.iter().zip(listeners) {
        let listen = format!("{}://{}", forward.scheme, group[0].local_addr()?);
        tracing::info!(forward = %listen, upstream = %forward.upstream, workers = group.len(), "listening");
    }
    let admin_config = &config.admin;
    if admin_config.token.is_none() && !admin_config.open && !admin_config.addr.ip().is_loopback() {
        tracing::warn!(
            "only the loopback may drain, so a preStop httpGet hook will get 403: set EBB_ADMIN_TOKEN (or \
             --admin-token-file) and send it in the hook, or use --admin-open"
        );
    }
    tracing::info!(admin = %admin.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    Ok(())
}
