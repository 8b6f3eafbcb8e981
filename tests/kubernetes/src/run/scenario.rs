//! What is done to the pods.

use std::io::{self, ErrorKind};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, Pod};
use super::shop::{REPLICAS, Shop};

/// How long a drained node stays cordoned after its first pod has begun to go: long enough that a pod's successor has nowhere to go at first.
const CORDONED: Duration = Duration::from_secs(3);

/// How long a PodDisruptionBudget may take to see that all pods are ready.
const BUDGET: Duration = Duration::from_secs(30);

/// One way for pods to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    /// `kubectl rollout restart`
    Restart,
    /// `kubectl delete pod`
    Delete,
    /// An eviction, as the cluster's autoscaler asks for it
    Evict,
    /// `kubectl drain`, with the node uncordoned before the drain is over
    Drain,
    /// The app's liveness probe fails: only that container is restarted
    Liveness,
    /// `kubectl scale`, from three to one
    Scale,
    /// `kubectl delete pod`, of an app that does not end by itself
    IgnoresSigterm,
}

impl Scenario {
    /// All of them; the last needs another app.
    const ALL: [Self; 7] = [
        Self::Restart,
        Self::Delete,
        Self::Evict,
        Self::Drain,
        Self::Liveness,
        Self::Scale,
        Self::IgnoresSigterm,
    ];

    pub(super) fn chosen(wanted: &[Self]) -> Vec<Self> {
        Self::ALL.into_iter().filter(|one| wanted.is_empty() || wanted.contains(one)).collect()
    }

    /// Its name in the tables.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Restart => "rolling restart of 3 pods",
            Self::Delete => "`kubectl delete pod`",
            Self::Evict => "eviction of a pod",
            Self::Drain => "`kubectl drain`, uncordon",
            Self::Liveness => "liveness failure of the app alone",
            Self::Scale => "scale-down from 3 pods to 1",
            Self::IgnoresSigterm => "`kubectl delete pod`, SIGTERM ignored",
        }
    }

    /// The pods that are left.
    pub(super) fn replicas(self) -> usize {
        if self == Self::Scale { 1 } else { REPLICAS }
    }

    /// Does it. Returns when it is under way, or over.
    pub(super) async fn act(self, cluster: &mut Cluster, shop: &Shop, pods: &[Pod]) -> io::Result<()> {
        let deployment = format!("deployment/{}", shop.name);
        // A container that is restarted again and again is kept waiting.
        let Some(pod) = pods.iter().min_by_key(|pod| pod.restarts) else {
            return Err(ErrorKind::NotFound.into());
        };
        match self {
            Self::Restart => {
                cluster.run(&["rollout", "restart", &deployment]).await?;
                cluster.run(&["rollout", "status", &deployment, "--timeout=200s"]).await.map(drop)
            }
            Self::Delete | Self::IgnoresSigterm => cluster.run(&["delete", "pod", &pod.name]).await.map(drop),
            Self::Evict => evict(cluster, &pod.name).await,
            Self::Drain => drain(cluster, shop, &pod.node).await,
            Self::Liveness => {
                cluster.run(&["exec", &pod.name, "--container=app", "--", "/ebb-e2e", "ctl", "fail"]).await?;
                let restarted =
                    |now: &[Pod]| now.iter().any(|now| now.name == pod.name && now.restarts > pod.restarts);
                cluster.until(shop.name, "the restart of the app", restarted).await.map(drop)
            }
            Self::Scale => cluster.run(&["scale", &deployment, "--replicas=1"]).await.map(drop),
        }
    }

    /// Makes everything as it was.
    pub(super) async fn restore(self, cluster: &Cluster, shop: &Shop) -> io::Result<()> {
        if self == Self::Scale {
            let replicas = format!("--replicas={REPLICAS}");
            cluster.run(&["scale", &format!("deployment/{}", shop.name), &replicas]).await?;
        }
        Ok(())
    }
}

async fn evict(cluster: &Cluster, pod: &str) -> io::Result<()> {
    let policy = cluster.policy().await?;
    let eviction = format!(
        r#"{{"apiVersion":"{policy}","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"{}"}}}}"#,
        cluster.namespace
    );
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", cluster.namespace);
    let begun = Instant::now();
    loop {
        match cluster.feed(&["create", "--raw", &path, "-f", "-"], &eviction).await {
            // The budget's own count comes a moment after the pods are ready.
            Err(error) if error.to_string().contains("disruption budget") && begun.elapsed() < BUDGET => {
                sleep(Duration::from_millis(500)).await;
            }
            done => return done.map(drop),
        }
    }
}

/// Drains a node of our pods only. The PodDisruptionBudget lets one go at a time; where there is no other node, the next one can't go before
/// the node is uncordoned and has the successor of the first.
async fn drain(cluster: &mut Cluster, shop: &Shop, node: &str) -> io::Result<()> {
    cluster.will_cordon(node);
    let ours = format!("--pod-selector=e2e={}", cluster.namespace);
    let mut drain = cluster.kubectl(&["drain", node, &ours, "--ignore-daemonsets", "--timeout=200s"]);
    let drain = drain.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    cluster.until(shop.name, "a pod to be evicted", |pods| pods.iter().any(|pod| pod.terminating)).await?;
    sleep(CORDONED).await;
    cluster.uncordon(node).await?;
    let done = timeout(Duration::from_secs(240), drain.wait_with_output()).await??;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("kubectl drain: {}", String::from_utf8_lossy(&done.stderr))))
}
