//! A pod: an address of its own, the app, and with ebb the sidecar in front of it. And the kubelet, which
//! starts it, probes it, and ends it: preStop hook, SIGTERM, and SIGKILL when the grace period is over.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::uri::InvalidUri;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::app::OnSigterm;
use super::error::DemoError;
use super::process::Process;
use super::strategy::{PRE_STOP_SLEEP, Strategy};
use crate::cli::client::AdminUrl;

/// The pods' terminationGracePeriodSeconds.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(9);
/// What the kubelet grants a container after its hook, however little is left.
const GRACE_MIN: Duration = Duration::from_secs(2);
/// A pod that is not ready by then never will be.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Between two readiness probes; a kubelet takes its time, the demo has none.
const PROBE_PERIOD: Duration = Duration::from_millis(20);

/// The drain's times for a cluster in which an endpoint change takes up to about five seconds.
const EBB_FLAGS: [(&str, &str); 4] =
    [("--app-shutdown", "1s"), ("--lame-duck-min", "2s"), ("--lame-duck-max", "5500ms"), ("--quiet", "3s")];

/// A running pod.
#[derive(Debug)]
pub(super) struct Pod {
    /// Where clients reach it.
    pub(super) endpoint: SocketAddr,
    app: Process,
    sidecar: Option<Sidecar>,
}

/// ebb in front of an app.
#[derive(Debug)]
struct Sidecar {
    process: Process,
    admin: AdminUrl,
}

/// The end of a pod, as the kubelet saw it.
#[derive(Debug)]
pub(super) struct Termination {
    /// From the deletion until nothing of it ran any more.
    pub(super) took: Duration,
    /// The grace period was not enough for it.
    pub(super) killed: bool,
    /// What ebb answered to the hook.
    pub(super) drain: Option<DrainReport>,
}

/// The part of ebb's report that the demo shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DrainReport {
    pub(super) outcome: String,
    pub(super) last_arrival_seconds: Option<f64>,
}

/// Addresses for pods: on Linux all of 127.0.0.0/8 is this machine.
#[derive(Debug)]
pub(super) struct PodNetwork {
    prefix: [u8; 3],
    next: u8,
}

impl PodNetwork {
    /// A network that another demo at the same time hardly picks.
    pub(super) fn new() -> Self {
        Self { prefix: [127, fastrand::u8(1..=254), fastrand::u8(0..=254)], next: 1 }
    }

    fn next_ip(&mut self) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        let ip = Ipv4Addr::new(a, b, c, self.next);
        self.next = self.next.wrapping_add(1).max(1);
        ip
    }
}

impl Pod {
    /// Starts a pod and waits until it is ready.
    pub(super) async fn start(strategy: Strategy, network: &mut PodNetwork) -> Result<Self, DemoError> {
        let ip = network.next_ip();
        let (app, app_addr) = start_app(ip, strategy.on_sigterm()).await?;
        if strategy != Strategy::Ebb {
            return Ok(Self { endpoint: app_addr, app, sidecar: None });
        }
        let (endpoint, admin) = free_addrs(ip).map_err(DemoError::Process)?;
        let process = Process::spawn(&sidecar_args(endpoint, admin, app_addr), Stdio::null())?;
        let admin = format!("http://{admin}")
            .parse()
            .map_err(|error| DemoError::Process(io::Error::other::<InvalidUri>(error)))?;
        let mut sidecar = Sidecar { process, admin: AdminUrl { admin } };
        sidecar.ready().await?;
        Ok(Self { endpoint, app, sidecar: Some(sidecar) })
    }

    /// Ends the pod as the kubelet does it.
    pub(super) async fn terminate(mut self, strategy: Strategy) -> Result<Termination, DemoError> {
        let deleted = Instant::now();
        let deadline = deleted + GRACE_PERIOD;
        let drain = match timeout_at(deadline, self.pre_stop(strategy)).await {
            Ok(drain) => drain?,
            Err(_) => None,
        };
        let mut killed = self.app.terminate(deadline.max(Instant::now() + GRACE_MIN)).await?;
        // A native sidecar is told to end when the last app container is gone.
        if let Some(sidecar) = &mut self.sidecar {
            killed |= sidecar.process.terminate(deadline.max(Instant::now() + GRACE_MIN)).await?;
        }
        Ok(Termination { took: deleted.elapsed(), killed, drain })
    }

    async fn pre_stop(&self, strategy: Strategy) -> Result<Option<DrainReport>, DemoError> {
        if strategy == Strategy::Sleep {
            sleep(PRE_STOP_SLEEP).await;
        }
        match &self.sidecar {
            Some(sidecar) => sidecar.drain().await.map(Some),
            None => Ok(None),
        }
    }
}

impl Sidecar {
    async fn ready(&mut self) -> Result<(), DemoError> {
        let Self { process, admin } = self;
        let probes = async {
            while !matches!(get(admin, "/readyz").await, Ok((StatusCode::OK, _))) {
                sleep(PROBE_PERIOD).await;
            }
        };
        let reason = tokio::select! {
            () = probes => return Ok(()),
            ended = process.ended() => ended,
            () = sleep(READY_WITHIN) => format!("/readyz was not ok within {} s", READY_WITHIN.as_secs()),
        };
        Err(DemoError::NotReady { reason: format!("ebb: {reason}"), log: process.log() })
    }

    /// The preStop hook: blocks until ebb has drained.
    async fn drain(&self) -> Result<DrainReport, DemoError> {
        let failed = |reason| DemoError::Hook { reason, log: self.process.log() };
        let (_, report) = get(&self.admin, "/drain").await.map_err(failed)?;
        serde_json::from_slice(&report).map_err(|error| failed(format!("not a report: {error}")))
    }
}

/// What a kubelet does for probes and hooks.
async fn get(admin: &AdminUrl, path: &str) -> Result<(StatusCode, Bytes), String> {
    admin.request(Method::GET, path, None).await
}

/// Starts the app, which tells its address when it listens.
async fn start_app(ip: Ipv4Addr, on_sigterm: OnSigterm) -> Result<(Process, SocketAddr), DemoError> {
    let on_sigterm = match on_sigterm {
        OnSigterm::Exit => "exit",
        OnSigterm::Graceful => "graceful",
    };
    let args = ["demo-app", "--ip", &ip.to_string(), "--on-sigterm", on_sigterm].map(str::to_owned);
    let mut process = Process::spawn(&args, Stdio::piped())?;
    let mut line = String::new();
    if let Some(stdout) = process.stdout() {
        let mut stdout = BufReader::new(stdout);
        let told = timeout(READY_WITHIN, stdout.read_line(&mut line)).await;
        told.unwrap_or(Ok(0)).map_err(DemoError::Process)?;
    }
    match line.trim().parse() {
        Ok(addr) => Ok((process, addr)),
        Err(_) => Err(DemoError::NotReady {
            reason: "the app did not say where it listens".to_owned(),
            log: process.log(),
        }),
    }
}

/// Two ports that are free on the pod's address: for clients, and for the kubelet.
fn free_addrs(ip: Ipv4Addr) -> io::Result<(SocketAddr, SocketAddr)> {
    let [clients, admin] = [TcpListener::bind((ip, 0))?, TcpListener::bind((ip, 0))?];
    Ok((clients.local_addr()?, admin.local_addr()?))
}

fn sidecar_args(endpoint: SocketAddr, admin: SocketAddr, app: SocketAddr) -> Vec<String> {
    let mut args = vec!["proxy".to_owned()];
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    flag("--forward", format!("{endpoint}={app}"));
    flag("--admin", admin.to_string());
    flag("--grace-period", format!("{}s", GRACE_PERIOD.as_secs()));
    for (name, value) in EBB_FLAGS {
        flag(name, value.to_owned());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_has_an_address_of_its_own() {
        let mut network = PodNetwork::new();
        let ips: Vec<_> = (0..24).map(|_| network.next_ip()).collect();
        assert!(ips.iter().all(Ipv4Addr::is_loopback));
        assert!(ips.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(!ips.contains(&Ipv4Addr::LOCALHOST));
    }
}
