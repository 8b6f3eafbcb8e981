//! What ebb counts.
//!
//! On the request path a worker writes only to its own [`Shard`]s (one for each forward): plain stores, no
//! locked instruction, no shared cache line. A scrape adds the shards up. What happens rarely (a drain) uses
//! the ordinary metric types.

use std::sync::Arc;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

mod collect;
mod shard;

pub use shard::{Counter, End, Gauge, HandshakeFailure, Protocol, Shard, Toward, UpstreamFailure};

use crate::config::Budget;
use crate::drain::Phase;
use crate::drain::report::{Ends, Progress, Report, Tally};

/// Every metric of the process, registered in one registry.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Arc<Shard>>,
    /// `ebb_phase`: 1 for the phase that it is in, 0 for the others.
    phase: IntGaugeVec,
    /// `ebb_drains_total`.
    drains: IntCounterVec,
    /// `ebb_tls_reloads_total`.
    tls_reloads: IntCounterVec,
    /// `ebb_drain_phase_seconds`: how long each phase of the last drain took.
    drain_phase_seconds: GaugeVec,
    /// `ebb_drain_last_arrival_seconds`: trigger to last new connection, in the last drain that saw one. As it is
    /// now, because a pod that is done is often gone before it is scraped again.
    drain_last_arrival: prometheus::Gauge,
    /// `ebb_drain_deadline_in_seconds`: only while a drain is under way.
    drain_deadline: GaugeVec,
    /// `ebb_setting_seconds`.
    settings: GaugeVec,
}

impl Metrics {
    /// Registers everything: one shard for each worker and forward (see [`Metrics::shard`]).
    ///
    /// # Errors
    /// When `registry` already holds a metric of the same name.
    pub fn register(registry: &Registry, forwards: &[String], workers: usize) -> prometheus::Result<Self> {
        let shards: Vec<_> =
            (0..workers).flat_map(|_| forwards.iter().map(|forward| Arc::new(Shard::new(forward)))).collect();
        let metrics = Self {
            phase: IntGaugeVec::new(
                Opts::new("ebb_phase", "1 for the phase ebb is in, 0 for the others"),
                &["phase"],
            )?,
            drains: IntCounterVec::new(
                Opts::new("ebb_drains_total", "Drains that ended"),
                &["trigger", "outcome"],
            )?,
            tls_reloads: IntCounterVec::new(
                Opts::new(
                    "ebb_tls_reloads_total",
                    "Changed certificates that were loaded or could not be used",
                ),
                &["forward", "outcome"],
            )?,
            drain_phase_seconds: GaugeVec::new(
                Opts::new("ebb_drain_phase_seconds", "Seconds that each phase of the last drain took"),
                &["phase"],
            )?,
            drain_last_arrival: prometheus::Gauge::new(
                "ebb_drain_last_arrival_seconds",
                "Seconds from the trigger of the last drain to its last new connection: the propagation delay",
            )?,
            drain_deadline: GaugeVec::new(
                Opts::new("ebb_drain_deadline_in_seconds", "Seconds until what is left of this drain is cut"),
                &[],
            )?,
            settings: GaugeVec::new(
                Opts::new("ebb_setting_seconds", "The times of a drain, as they are set"),
                &["setting"],
            )?,
            shards,
        };
        registry.register(Box::new(metrics.phase.clone()))?;
        registry.register(Box::new(metrics.drains.clone()))?;
        registry.register(Box::new(metrics.tls_reloads.clone()))?;
        registry.register(Box::new(metrics.drain_phase_seconds.clone()))?;
        registry.register(Box::new(metrics.drain_last_arrival.clone()))?;
        registry.register(Box::new(metrics.drain_deadline.clone()))?;
        registry.register(Box::new(metrics.settings.clone()))?;
        registry.register(Box::new(collect::Sum::new(metrics.shards.clone())?))?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        metrics.set_phase(Phase::Serving);
        Ok(metrics)
    }

    /// The shard of a worker for a forward, both counted from zero.
    ///
    /// # Panics
    /// When there is no such worker or forward.
    #[must_use]
    pub fn shard(&self, worker: usize, forward: usize, forwards: usize) -> Arc<Shard> {
        Arc::clone(&self.shards[worker * forwards + forward])
    }

    /// Every shard.
    #[must_use]
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// How connections have ended in drains since the process began.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let of = |protocol: Protocol, end: End| -> u64 {
            self.shards.iter().map(|shard| shard.ends[protocol as usize][end as usize].get()).sum()
        };
        let ends = Protocol::ALL.into_iter().map(|protocol| {
            let ends = Ends {
                finished: of(protocol, End::Finished),
                closed_idle: of(protocol, End::ClosedIdle),
                told: of(protocol, End::Told),
                cut: of(protocol, End::Cut),
                rescued: of(protocol, End::Rescued),
            };
            (protocol.name(), ends)
        });
        Tally { ends: ends.collect(), raced: self.shards.iter().map(|shard| shard.raced.get()).sum() }
    }

    /// Counts a drain that is over.
    pub fn drained(&self, report: &Report) {
        self.drains.with_label_values(&[report.trigger.name(), report.outcome.name()]).inc();
        let seconds = &report.seconds;
        self.drain_phase_seconds.with_label_values(&[Phase::LameDuck.name()]).set(seconds.lame_duck);
        self.drain_phase_seconds.with_label_values(&[Phase::Draining.name()]).set(seconds.draining);
        if let Some(last) = report.last_arrival_seconds {
            self.drain_last_arrival.set(last);
        }
    }

    /// Shows how far the drain under way has come.
    pub fn progress(&self, progress: &Progress) {
        match progress.remaining {
            Some(remaining) => {
                self.drain_deadline.with_label_values::<&str>(&[]).set(remaining.as_secs_f64());
            }
            None => self.drain_deadline.reset(),
        }
        if let Some(last) = progress.last_arrival {
            self.drain_last_arrival.set(last.as_secs_f64());
        }
    }

    /// Shows the times that were set.
    pub fn settings(&self, budget: &Budget) {
        for (setting, time) in [
            ("grace-period", budget.grace_period()),
            ("deadline", budget.until_deadline()),
            ("lame-duck-min", budget.lame_duck_min()),
            ("lame-duck-max", budget.lame_duck_max()),
            ("quiet", budget.quiet()),
        ] {
            self.settings.with_label_values(&[setting]).set(time.as_secs_f64());
        }
    }

    /// Counts certificates that have changed.
    pub fn tls_reloaded(&self, forward: &str, outcome: &str) {
        self.tls_reloads.with_label_values(&[forward, outcome]).inc();
    }

    /// Shows the phase.
    pub fn set_phase(&self, now: Phase) {
        for phase in Phase::ALL {
            self.phase.with_label_values(&[phase.name()]).set(i64::from(phase == now));
        }
    }
}
