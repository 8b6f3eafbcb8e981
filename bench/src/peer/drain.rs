//! How each proxy is told to go, and how its end is seen.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use super::config::ENVOY_DRAIN_SECONDS;
use super::{Kind, Peer};
use crate::client::{After, Connection};

/// No drain here takes longer: ebb's grace period is 20 s, and HAProxy's hard stop comes after as much.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A load goes on for this long after the drain and the first refusal, to see that everybody is refused.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// ebb does not answer the last attempts before its refusal; the kernel repeats them after one second and, when
/// that comes too early as well, two more.
const FIRST_REFUSAL: Duration = Duration::from_secs(4);

/// How a drain went.
#[derive(Debug, Clone)]
pub struct Drained {
    /// From the trigger until ebb's `/drain` was answered, or until the other's process had ended.
    pub took: Duration,
    /// ebb's report.
    pub report: Option<serde_json::Value>,
}

impl Peer {
    /// Tells it to drain, in its own way, and waits for the end of that.
    ///
    /// # Errors
    /// When it does not end, or ebb's answer is not a report.
    pub async fn drain(&mut self) -> io::Result<Drained> {
        let start = Instant::now();
        let report = match self.kind {
            Kind::Ebb | Kind::Ebb2 => Some(self.call_drain().await?),
            // What `nginx -s quit` sends.
            Kind::Nginx => self.signal_and_wait(Signal::QUIT).await.map(|_| None)?,
            Kind::Haproxy => self.signal_and_wait(Signal::USR1).await.map(|_| None)?,
            Kind::Envoy => self.drain_envoy().await.map(|()| None)?,
            Kind::Caddy | Kind::Relay => self.signal_and_wait(Signal::TERM).await.map(|_| None)?,
        };
        Ok(Drained { took: start.elapsed(), report })
    }

    /// Drains after `before`, under a load that goes on until that is over and somebody was refused, and a little longer.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn drain_under(&mut self, before: Duration, refused: impl Future) -> io::Result<Drained> {
        sleep(before).await;
        let drained = self.drain().await?;
        // A proxy that refuses nobody shows in the tally.
        let _ = timeout(FIRST_REFUSAL, refused).await;
        sleep(AFTERWARDS).await;
        Ok(drained)
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        match self.child.try_wait()? {
            Some(status) => Ok(status),
            None => self.signal_and_wait(Signal::TERM).await,
        }
    }

    async fn call_drain(&self) -> io::Result<serde_json::Value> {
        let failed = |failure| self.kind.failed(&format!("/drain: {failure}"));
        let connection = Connection::connect(self.ports.admin).await.map_err(failed)?;
        let mut connection = connection.with_timeout(DRAIN_TIMEOUT);
        let response = connection.get("/drain", After::Close).await.map_err(failed)?;
        let report = serde_json::from_slice(response.body());
        report.map_err(|error| self.kind.failed(&format!("/drain: status {}, {error}", response.status())))
    }

    /// Asks its admin port to drain the listeners, as its hooks in Kubernetes do; it goes on with what it has when it has
    /// closed them, and ends on SIGTERM, a second later here.
    async fn drain_envoy(&mut self) -> io::Result<()> {
        let failed = |failure| self.kind.failed(&format!("/drain_listeners: {failure}"));
        let mut connection = Connection::connect(self.ports.admin).await.map_err(failed)?;
        let request = b"POST /drain_listeners?graceful HTTP/1.1\r\nHost: envoy\r\nContent-Length: 0\r\n\r\n";
        connection.send(request).await.map_err(failed)?;
        let status = connection.receive().await.map_err(failed)?.status();
        if status != 200 {
            return Err(self.kind.failed(&format!("/drain_listeners: status {status}")));
        }
        sleep(Duration::from_secs(ENVOY_DRAIN_SECONDS + 1)).await;
        self.signal_and_wait(Signal::TERM).await.map(drop)
    }

    async fn signal_and_wait(&mut self, signal: Signal) -> io::Result<ExitStatus> {
        self.signal(signal);
        let ended = timeout(DRAIN_TIMEOUT, self.child.wait()).await;
        ended.map_err(|_| self.kind.failed("it does not end"))?
    }

    pub(super) fn signal(&self, signal: Signal) {
        // A child that was not waited for keeps its number, so this reaches nobody else.
        if self.child.id().is_some()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }
}
