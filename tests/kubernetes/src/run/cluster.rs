//! kubectl, and what there is in our namespace.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::tell;

/// No single command takes longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// Between two looks at the cluster.
const INTERVAL: Duration = Duration::from_millis(500);

/// A cluster, by way of its kubectl.
#[derive(Debug)]
pub(super) struct Cluster {
    words: Vec<String>,
    pub(super) namespace: String,
    begun: bool,
    /// Nodes that we have cordoned and not uncordoned yet.
    cordoned: Vec<String>,
}

/// A pod, as far as the test cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) ready: bool,
    pub(super) terminating: bool,
    /// How often the app was restarted.
    pub(super) restarts: u64,
}

impl Cluster {
    pub(super) fn new(kubectl: &str) -> io::Result<Self> {
        let words: Vec<String> = kubectl.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            return Err(io::Error::other("--kubectl is empty"));
        }
        let namespace = format!("ebb-e2e-{:06x}", fastrand::u32(..1 << 24));
        Ok(Self { words, namespace, begun: false, cordoned: Vec::new() })
    }

    /// A kubectl with these arguments, in our namespace.
    pub(super) fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(["--namespace", &self.namespace]).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a kubectl to its end and returns what it prints.
    pub(super) async fn run(&self, args: &[&str]) -> io::Result<String> {
        self.feed(args, "").await
    }

    /// The same, with something to read.
    pub(super) async fn feed(&self, args: &[&str], input: &str) -> io::Result<String> {
        let mut command = self.kubectl(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not want to read that, it says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let late = || io::Error::other(format!("kubectl {}: not done after {PATIENCE:?}", args.join(" ")));
        let done = timeout(PATIENCE, child.wait_with_output()).await.map_err(|_| late())??;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        Err(io::Error::other(format!(
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr)
        )))
    }

    pub(super) async fn json(&self, args: &[&str]) -> io::Result<Value> {
        let args = [args, &["-o", "json"]].concat();
        Ok(serde_json::from_str(&self.run(&args).await?)?)
    }

    /// What the server says it is, and how many nodes it has.
    pub(super) async fn version(&self) -> io::Result<String> {
        let version = self.json(&["version"]).await?;
        let nodes = self.json(&["get", "nodes"]).await?;
        let git = version.pointer("/serverVersion/gitVersion").and_then(Value::as_str).unwrap_or("unknown");
        Ok(format!("{git}, nodes: {}", items(&nodes).len()))
    }

    /// The newest API of PodDisruptionBudgets and evictions.
    pub(super) async fn policy(&self) -> io::Result<&'static str> {
        let versions = self.run(&["api-versions"]).await?;
        let found =
            ["policy/v1", "policy/v1beta1"].into_iter().find(|api| versions.lines().any(|line| line == *api));
        found.ok_or_else(|| io::Error::other("the cluster has no API group policy"))
    }

    /// Makes the namespace, and the clients in it.
    pub(super) async fn begin(&mut self, image: &str) -> io::Result<()> {
        tell(&format!("namespace {}", self.namespace));
        self.begun = true;
        self.run(&["create", "namespace", &self.namespace]).await?;
        self.feed(&["apply", "-f", "-"], &include_str!("clients.yaml").replace("IMAGE", image)).await?;
        self.run(&["wait", "--for=condition=Ready", "pod/clients", "--timeout=120s"]).await?;
        Ok(())
    }

    /// Leaves nothing behind.
    pub(super) async fn clean_up(&mut self, keep: bool) {
        for node in std::mem::take(&mut self.cordoned) {
            self.forgive(&["uncordon", &node]).await;
        }
        if self.begun && !keep {
            self.forgive(&["delete", "namespace", &self.namespace, "--wait=false"]).await;
        }
    }

    /// Runs a kubectl whose failure changes nothing any more.
    async fn forgive(&self, args: &[&str]) {
        if let Err(error) = self.run(args).await {
            tell(&error.to_string());
        }
    }

    /// Notes that a node is about to be cordoned.
    pub(super) fn will_cordon(&mut self, node: &str) {
        self.cordoned.push(node.to_owned());
    }

    pub(super) async fn uncordon(&mut self, node: &str) -> io::Result<()> {
        self.run(&["uncordon", node]).await?;
        self.cordoned.retain(|known| known != node);
        Ok(())
    }

    /// The pods of an app, in the order of their names.
    pub(super) async fn pods(&self, app: &str) -> io::Result<Vec<Pod>> {
        let list = self.json(&["get", "pods", "--selector", &format!("app={app}")]).await?;
        Ok(items(&list).iter().map(Pod::of).collect())
    }

    /// Looks at the pods again and again until they are as they should be.
    pub(super) async fn until(
        &self,
        app: &str,
        what: &str,
        mut right: impl FnMut(&[Pod]) -> bool,
    ) -> io::Result<Vec<Pod>> {
        let begun = Instant::now();
        loop {
            let pods = self.pods(app).await?;
            if right(&pods) {
                return Ok(pods);
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("still waiting for {what}: {pods:?}")));
            }
            sleep(INTERVAL).await;
        }
    }

    /// Waits until there are so many pods, all of them ready, and no other any more.
    pub(super) async fn settled(&self, app: &str, replicas: usize) -> io::Result<Vec<Pod>> {
        let right =
            |pods: &[Pod]| pods.len() == replicas && pods.iter().all(|pod| pod.ready && !pod.terminating);
        self.until(app, &format!("{replicas} pods of {app} to be ready"), right).await
    }
}

impl Pod {
    fn of(value: &Value) -> Self {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |path: &str| value.pointer(path).and_then(Value::as_array).into_iter().flatten();
        let ready = list("/status/conditions").any(|c| c["type"] == "Ready" && c["status"] == "True");
        let app = list("/status/containerStatuses").find(|status| status["name"] == "app");
        Self {
            name: text("/metadata/name"),
            node: text("/spec/nodeName"),
            ready,
            terminating: value.pointer("/metadata/deletionTimestamp").is_some(),
            restarts: app.and_then(|app| app["restartCount"].as_u64()).unwrap_or(0),
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}
