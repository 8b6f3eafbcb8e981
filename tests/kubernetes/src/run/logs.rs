//! What each ebb says of its drains, in its log: a pod that is gone can't be asked any more.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cluster::{Cluster, Pod};

/// The end of a log comes soon after the end of its container.
const PATIENCE: Duration = Duration::from_secs(15);

/// The logs of some pods' ebbs, from now on.
#[derive(Debug)]
pub(super) struct Logs(Vec<Log>);

#[derive(Debug)]
struct Log {
    pod: String,
    /// Reports of earlier drains.
    before: usize,
    reports: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
}

impl Logs {
    pub(super) async fn follow(cluster: &Cluster, pods: &[Pod]) -> io::Result<Self> {
        let mut logs = Vec::new();
        for Pod { name, .. } in pods {
            let log = cluster.run(&["logs", name, "--container=ebb"]).await?;
            let before = log.lines().filter_map(report).count();
            let mut follow = cluster.kubectl(&["logs", name, "--container=ebb", "--follow"]);
            let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
            let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let reports = Arc::<Mutex<Vec<Value>>>::default();
            let found = Arc::clone(&reports);
            let reader = tokio::spawn(async move {
                // It ends with this task.
                let _child = child;
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    found.lock().unwrap_or_else(PoisonError::into_inner).extend(report(&line));
                }
            });
            logs.push(Log { pod: name.clone(), before, reports, reader });
        }
        Ok(Self(logs))
    }

    /// The reports of the drains since then, by pod. Of `gone` pods the log is read to its end.
    pub(super) async fn reports(self, gone: &[String]) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for mut log in self.0 {
            if gone.contains(&log.pod) {
                let _ = timeout(PATIENCE, &mut log.reader).await;
            }
            log.reader.abort();
            let reports = std::mem::take(&mut *log.reports.lock().unwrap_or_else(PoisonError::into_inner));
            all.extend(reports.into_iter().skip(log.before).map(|report| (log.pod.clone(), report)));
        }
        all
    }
}

/// The report that a line of the log has.
fn report(line: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    serde_json::from_str(line.get("report")?.as_str()?).ok()
}
