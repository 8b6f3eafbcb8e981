//! The Deployment that things are done to, with its Service.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::RunArgs;
use super::cluster::Cluster;

/// Pods.
pub(super) const REPLICAS: usize = 3;

/// What is done so that the pods go away unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Strategy {
    /// What `ebb inject --classic` makes of it
    Ebb,
    /// No hook
    None,
    /// A hook that sleeps for five seconds
    Sleep,
}

impl Strategy {
    pub(super) const ALL: [Self; 3] = [Self::Ebb, Self::None, Self::Sleep];

    pub(super) fn chosen(wanted: &[Self]) -> Vec<Self> {
        Self::ALL.into_iter().filter(|one| wanted.is_empty() || wanted.contains(one)).collect()
    }

    /// Its name in the tables.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Ebb => "ebb",
            Self::None => "no hook",
            Self::Sleep => "preStop: sleep 5",
        }
    }

    fn hook(self) -> &'static str {
        match self {
            Self::Ebb | Self::None => "",
            Self::Sleep => "lifecycle: {preStop: {exec: {command: [/ebb-e2e, sleep, \"5\"]}}}",
        }
    }
}

/// A Deployment with its Service.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) name: &'static str,
    pub(super) strategy: Strategy,
    /// Where the Service has its two ports.
    pub(super) addrs: [String; 2],
}

impl Shop {
    /// Applies the manifests and waits for the pods.
    pub(super) async fn open(
        cluster: &Cluster,
        args: &RunArgs,
        ebb: &Path,
        strategy: Strategy,
    ) -> io::Result<Self> {
        let name = match strategy {
            Strategy::Ebb => "with-ebb",
            Strategy::None => "no-hook",
            Strategy::Sleep => "sleep-5",
        };
        apply(cluster, args, ebb, strategy, name, "[app]").await?;
        let service = cluster.json(&["get", "service", name]).await?;
        let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        Ok(Self { name, strategy, addrs: [80, 81].map(|port| format!("{ip}:{port}")) })
    }

    /// The same with an app that ignores SIGTERM.
    pub(super) async fn deaf(self, cluster: &Cluster, args: &RunArgs, ebb: &Path) -> io::Result<Self> {
        apply(cluster, args, ebb, self.strategy, self.name, "[app, --ignore-sigterm]").await?;
        Ok(self)
    }

    /// Takes it away.
    pub(super) async fn close(self, cluster: &Cluster) -> io::Result<()> {
        let all = format!("deployment/{0} service/{0} poddisruptionbudget/{0}", self.name);
        let mut words = vec!["delete", "--wait=false"];
        words.extend(all.split(' '));
        cluster.run(&words).await?;
        cluster
            .run(&["delete", "pods", "--selector", &format!("app={}", self.name), "--grace-period=1"])
            .await?;
        Ok(())
    }
}

async fn apply(
    cluster: &Cluster,
    args: &RunArgs,
    ebb: &Path,
    strategy: Strategy,
    name: &str,
    app: &str,
) -> io::Result<()> {
    let mut manifests = include_str!("shop.yaml")
        .replace("NAMESPACE", &cluster.namespace)
        .replace("NAME", name)
        .replace("IMAGE", &args.e2e_image)
        .replace("ARGS", app)
        .replace("HOOK", strategy.hook())
        .replace("POLICY", cluster.policy().await?);
    if strategy == Strategy::Ebb {
        manifests = inject(ebb, &args.ebb_image, &manifests).await?;
    }
    cluster.feed(&["apply", "-f", "-"], &manifests).await?;
    cluster.run(&["rollout", "status", &format!("deployment/{name}"), "--timeout=180s"]).await?;
    cluster.settled(name, REPLICAS).await.map(drop)
}

/// What `ebb inject --classic` makes of the manifests.
async fn inject(ebb: &Path, image: &str, manifests: &str) -> io::Result<String> {
    let mut command = Command::new(ebb);
    // A token that stays: another one would be another pod template.
    command.args([
        "inject",
        "--classic",
        "--image",
        image,
        "--image-pull-policy",
        "IfNotPresent",
        "--token",
        "e2e",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(manifests.as_bytes()).await?;
    }
    let done = child.wait_with_output().await?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(io::Error::other(format!("ebb inject: {}", done.status)))
}
