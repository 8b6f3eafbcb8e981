//! What ebb is doing now, as JSON and for the page.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::Admin;
use crate::config::Config;
use crate::drain::Phase;
use crate::drain::report::{Report, seconds};
use crate::metrics::{Metrics, Shard};

/// A forward's name, and where its workers count.
#[derive(Debug)]
pub(super) struct ForwardInfo {
    listen: String,
    upstream: String,
    shards: Vec<Arc<Shard>>,
}

/// For each forward, in order.
pub(super) fn forwards(config: &Config, metrics: &Metrics) -> Vec<ForwardInfo> {
    let count = config.forwards.len();
    let info = |(i, forward): (usize, &crate::config::Forward)| ForwardInfo {
        listen: format!("{}://{}", forward.scheme, forward.listen.addr()),
        upstream: forward.upstream.to_string(),
        shards: (0..config.workers).map(|worker| metrics.shard(worker, i, count)).collect(),
    };
    config.forwards.iter().enumerate().map(info).collect()
}

/// The document of `/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) phase: &'static str,
    pub(super) forwards: Vec<ForwardStatus>,
    /// The drain under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drain: Option<DrainStatus>,
    /// The last drain that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_drain: Option<Report>,
}

#[derive(Debug, Serialize)]
pub(super) struct ForwardStatus {
    pub(super) listen: String,
    pub(super) upstream: String,
    pub(super) connections: Connections,
    pub(super) requests_in_flight: i64,
    pub(super) upstream_connections: Connections,
}

#[derive(Debug, Serialize)]
pub(super) struct Connections {
    pub(super) active: i64,
    pub(super) idle: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct DrainStatus {
    pub(super) running_seconds: f64,
    pub(super) deadline_in_seconds: f64,
}

/// As of now.
pub(super) fn status(admin: &Admin) -> Status {
    let state = admin.drain.state();
    let now = Instant::now();
    // Once drained there is nothing left to wait for.
    let under_way = state.trigger.zip(state.deadline).filter(|_| state.phase != Phase::Drained);
    let drain = under_way.map(|(trigger, deadline)| DrainStatus {
        running_seconds: seconds(now - trigger),
        deadline_in_seconds: seconds(deadline.saturating_duration_since(now)),
    });
    Status {
        version: env!("CARGO_PKG_VERSION"),
        phase: state.phase.name(),
        forwards: admin.forwards.iter().map(forward).collect(),
        drain,
        last_drain: state.report,
    }
}

fn forward(info: &ForwardInfo) -> ForwardStatus {
    let sum = |read: &dyn Fn(&Shard) -> i64| info.shards.iter().map(|shard| read(shard)).sum();
    ForwardStatus {
        listen: info.listen.clone(),
        upstream: info.upstream.clone(),
        connections: Connections {
            active: sum(&|shard| shard.active.iter().map(crate::metrics::Gauge::get).sum()),
            idle: sum(&|shard| shard.idle.iter().map(crate::metrics::Gauge::get).sum()),
        },
        requests_in_flight: sum(&|shard| shard.in_flight.get()),
        upstream_connections: Connections {
            active: sum(&|shard| shard.upstream_active.get()),
            idle: sum(&|shard| shard.upstream_idle.get()),
        },
    }
}
