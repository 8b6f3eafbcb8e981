//! A rolling update with one strategy: three pods replaced one by one, under load.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::delays::{Delays, seconds};
use super::error::DemoError;
use super::load::Load;
use super::pod::{DrainReport, Pod, PodNetwork};
use super::progress::Progress;
use super::strategy::Strategy;
use super::tally::{ByProtocol, Counts};
use super::{NODES, PODS};

/// Clients work this long before the first pod is replaced.
const WARM_UP: Duration = Duration::from_millis(500);
/// ...and this long after the last node has learned of a replacement.
const SETTLE: Duration = Duration::from_millis(300);

/// What is the same for every strategy, for a fair comparison.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where the clients' habits come from.
    pub(super) seed: u64,
    /// How long each node takes to learn of each replacement.
    pub(super) delays: [Delays; PODS],
}

/// What became of the requests during a rolling update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) strategy: Strategy,
    /// Everything together.
    #[serde(flatten)]
    pub(super) total: Counts,
    pub(super) protocols: ByProtocol,
    pub(super) seconds_per_pod: f64,
    pub(super) pods: Vec<Replaced>,
}

/// The end of one pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Replaced {
    /// From its deletion until nothing of it ran any more.
    pub(super) seconds: f64,
    /// From its deletion until the last node knew.
    pub(super) propagation_seconds: f64,
    /// The grace period was not enough.
    pub(super) killed: bool,
    /// What ebb measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drain: Option<DrainReport>,
}

/// Runs a rolling update.
pub(super) async fn roll(
    strategy: Strategy,
    plan: &Plan,
    progress: &mut Progress,
) -> Result<Outcome, DemoError> {
    let mut rollout = Rollout::start(strategy, plan.seed).await?;
    let waiting = || "warming up".to_owned();
    progress.during(waiting, || rollout.load.counts().total(), sleep(WARM_UP)).await;
    let mut replaced = Vec::with_capacity(PODS);
    for (pod, delays) in plan.delays.iter().enumerate() {
        replaced.push(rollout.replace(pod, delays, progress).await?);
    }
    let protocols = rollout.load.stop().await?;
    let mean = replaced.iter().map(|pod| pod.seconds).sum::<f64>() / PODS as f64;
    let seconds_per_pod = seconds(Duration::from_secs_f64(mean));
    Ok(Outcome { strategy, total: protocols.total(), protocols, seconds_per_pod, pods: replaced })
}

/// A rolling update under way.
#[derive(Debug)]
struct Rollout {
    strategy: Strategy,
    network: PodNetwork,
    pods: Vec<Pod>,
    cluster: Cluster,
    load: Load,
}

impl Rollout {
    /// Pods that serve, nodes that know them, clients at work.
    async fn start(strategy: Strategy, seed: u64) -> Result<Self, DemoError> {
        let mut network = PodNetwork::new();
        let mut pods = Vec::with_capacity(PODS);
        for _ in 0..PODS {
            pods.push(Pod::start(strategy, &mut network).await?);
        }
        let cluster = Cluster::new(NODES, &endpoints(&pods));
        let load = Load::start(&cluster, seed);
        Ok(Self { strategy, network, pods, cluster, load })
    }

    /// Replaces a pod: once its successor is ready, it is deleted and the endpoints change.
    async fn replace(
        &mut self,
        pod: usize,
        delays: &Delays,
        progress: &mut Progress,
    ) -> Result<Replaced, DemoError> {
        let successor = Pod::start(self.strategy, &mut self.network).await?;
        let old = std::mem::replace(&mut self.pods[pod], successor);
        let endpoints = endpoints(&self.pods);
        let changes = async {
            let terminated = old.terminate(self.strategy);
            let published = self.cluster.publish(&endpoints, delays);
            let (terminated, propagated) = tokio::join!(terminated, published);
            sleep(SETTLE).await;
            terminated.map(|terminated| (terminated, propagated))
        };
        let label = || {
            let informed = self.cluster.informed(&endpoints);
            format!("pod {}/{PODS} {}{}", pod + 1, "●".repeat(informed), "○".repeat(NODES - informed))
        };
        let (terminated, propagated) = progress.during(label, || self.load.counts().total(), changes).await?;
        let replaced = Replaced {
            seconds: seconds(terminated.took),
            propagation_seconds: seconds(propagated),
            killed: terminated.killed,
            drain: terminated.drain,
        };
        progress.replaced(pod, &replaced, self.load.counts().total());
        Ok(replaced)
    }
}

fn endpoints(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(|pod| pod.endpoint).collect()
}
