//! `ebb webhook`: the injection of `ebb inject` for pods as they are created, as a mutating admission webhook of Kubernetes.
//!
//! In reading order: [`Webhook`] binds everything and runs; `server.rs` is the port that the API server calls (HTTPS, HTTP/1.1:
//! it speaks nothing else to webhooks); `review.rs` is pure: an AdmissionReview in, its answer out. Nothing is ever denied: a pod that
//! can't be injected is let in as it is, with a warning, and a request that makes no sense is a 4xx, after which the
//! API server does what the webhook's failure policy says.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};

use crate::admin;
use crate::config::TlsFiles;
use crate::drain::Trigger;
use crate::drain::signals::Signals;
use crate::sidecar::{INTERRUPTED, StartError};
use crate::tls::{self, Reloader};

mod health;
mod metrics;
mod review;
mod server;

pub use review::{Answer, Malformed, Outcome, Reviewer};

use metrics::Metrics;
use server::Site;

/// What certificates are called where forwards have their own: in the log and in `ebb_tls_reloads_total`.
const LABEL: &str = "webhook";

/// Everything that can be set.
#[derive(Debug)]
pub struct Config {
    /// Where the API server calls.
    pub listen: SocketAddr,
    /// Health and metrics, in the clear.
    pub admin: SocketAddr,
    /// Certificate and key.
    pub tls: TlsFiles,
    /// The pause between two looks at them.
    pub tls_reload_interval: Duration,
    /// How long connections are still accepted after SIGTERM: until everybody knows that this pod goes.
    pub shutdown_delay: Duration,
    /// What is added to pods.
    pub reviewer: Reviewer,
}

/// Bound, not yet running.
#[derive(Debug)]
pub struct Webhook {
    config: Config,
    signals: Signals,
    admin: TcpListener,
    listener: TcpListener,
    source: tls::Source,
}

impl Webhook {
    /// Installs the signal handlers and binds both ports. To be called in the runtime that [`Webhook::run`] will run in.
    ///
    /// # Errors
    /// [`StartError`], which names the flag.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let source = tls::Source::load(config.tls.clone(), &tls::HTTP1)?;
        let signals = Signals::install()?;
        let bind = |flag, addr| admin::bind(addr).map_err(|error| StartError::Bind { flag, addr, error });
        let admin = bind("--admin", config.admin)?;
        let listener = bind("--listen", config.listen)?;
        Ok(Self { config, signals, admin, listener, source })
    }

    /// Runs until it is told to end: exit 0, or as shells have it after a second SIGINT.
    ///
    /// # Errors
    /// When metrics can't be registered.
    pub async fn run(self) -> Result<ExitCode, StartError> {
        let Self { config, mut signals, admin, listener, source } = self;
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::register(&registry)?);
        tracing::info!(webhook = %format!("https://{}", listener.local_addr()?), "listening");
        tracing::info!(admin = %admin.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
        if config.reviewer.namespace.is_none() {
            tracing::warn!(
                "its own namespace is not known, so pods there may be injected: set POD_NAMESPACE or --namespace"
            );
        }
        let current = source.current();
        let reloader =
            Reloader { sources: vec![(LABEL.to_owned(), source)], interval: config.tls_reload_interval };
        let count = Arc::clone(&metrics);
        tokio::spawn(reloader.run(move |label, outcome| count.tls_reloaded(label, outcome.name())));
        let health = Arc::new(health::Health::new(registry, Arc::clone(&metrics), current.clone()));
        let admin = Arc::clone(&health).serve(admin);
        let site = Arc::new(Site::new(config.reviewer, metrics, current));
        let serving = Arc::clone(&site).serve(listener);
        signals.next().await;
        site.leave();
        let leaving = async {
            // Whoever has not heard of the end yet is still served; a webhook's clients do not try twice.
            sleep(config.shutdown_delay).await;
            health.close();
            serving.finish(server::FINISH_TIMEOUT).await;
            admin.finish(admin::FINISH_TIMEOUT).await;
        };
        let code = tokio::select! {
            () = leaving => ExitCode::SUCCESS,
            () = interrupted(&mut signals) => ExitCode::from(INTERRUPTED),
        };
        tracing::info!("bye");
        Ok(code)
    }
}

/// Waits for a SIGINT; another SIGTERM changes nothing.
async fn interrupted(signals: &mut Signals) {
    while signals.next().await != Trigger::Sigint {}
}
