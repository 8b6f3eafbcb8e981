//! One thing done to the pods, under clients of its own.

use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::logs::Logs;
use super::scenario::Scenario;
use super::shop::{Shop, Strategy};
use crate::load::Count;

/// The clients have been at it for so long when it begins: every kind has something under way.
const BEFORE: Duration = Duration::from_secs(1);

/// And so long after it is over.
const AFTER: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    pub(super) count: Count,
    /// What the ebbs say of their drains.
    pub(super) drains: Vec<Value>,
    /// What is wrong with these.
    pub(super) complaints: Vec<String>,
    pub(super) took: Duration,
}

impl Rollout {
    pub(super) async fn run(cluster: &mut Cluster, shop: &Shop, scenario: Scenario) -> io::Result<Self> {
        let pods = cluster.settled(shop.name, super::shop::REPLICAS).await?;
        let logs = match shop.strategy {
            Strategy::Ebb => Some(Logs::follow(cluster, &pods).await?),
            _ => None,
        };
        clients(cluster, &["start", &shop.addrs[0], &shop.addrs[1]]).await?;
        sleep(BEFORE).await;
        let begun = Instant::now();
        scenario.act(cluster, shop, &pods).await?;
        let after = cluster.settled(shop.name, scenario.replicas()).await?;
        let took = begun.elapsed();
        sleep(AFTER).await;
        let count: Count = serde_json::from_str(&clients(cluster, &["stop"]).await?)?;
        let find = |name: &str| after.iter().find(|pod| pod.name == name);
        let gone: Vec<_> =
            pods.iter().filter(|pod| find(&pod.name).is_none()).map(|pod| pod.name.clone()).collect();
        let restarted =
            pods.iter().filter(|pod| find(&pod.name).is_some_and(|now| now.restarts > pod.restarts));
        let drained: Vec<_> = restarted.map(|pod| pod.name.clone()).chain(gone.iter().cloned()).collect();
        let (drains, complaints) = match logs {
            Some(logs) => check(&drained, &logs.reports(&gone).await),
            None => Default::default(),
        };
        scenario.restore(cluster, shop).await?;
        Ok(Self { count, drains, complaints, took })
    }
}

/// Every pod that was drained must have said so once, and that nobody was cut off.
fn check(drained: &[String], reports: &[(String, Value)]) -> (Vec<Value>, Vec<String>) {
    let mut complaints = Vec::new();
    for pod in drained {
        let said: Vec<_> = reports.iter().filter(|(name, _)| name == pod).collect();
        match said[..] {
            [(_, report)] if report["outcome"] == "clean" => {}
            [(_, report)] => complaints.push(format!("the drain of {pod} was not clean: {report}")),
            _ => complaints.push(format!("{} drain reports of {pod}", said.len())),
        }
    }
    for (pod, report) in reports.iter().filter(|(pod, _)| !drained.contains(pod)) {
        complaints.push(format!("{pod} was drained without a reason: {report}"));
    }
    (reports.iter().map(|(_, report)| report.clone()).collect(), complaints)
}

async fn clients(cluster: &Cluster, words: &[&str]) -> io::Result<String> {
    cluster.run(&[&["exec", "clients", "--", "/ebb-e2e", "ctl"], words].concat()).await
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {:.0} s", self.count.total(), self.took.as_secs_f64())?;
        for (kind, counts) in self.count.0.iter().filter(|(_, counts)| counts.failed() > 0 || counts.ok == 0)
        {
            write!(f, "\n    {kind}: {counts}")?;
        }
        for drain in &self.drains {
            write!(f, "\n    {drain}")?;
        }
        for complaint in &self.complaints {
            write!(f, "\n    {complaint}")?;
        }
        Ok(())
    }
}
