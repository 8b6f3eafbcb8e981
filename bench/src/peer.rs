//! The proxies that are measured, as child processes: ebb itself, nginx and HAProxy.
//!
//! All are plain reverse proxies with keep-alive on both sides and `X-Forwarded-For`, on 127.0.0.1; `config.rs`
//! has every setting.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{After, Connection};
use crate::tls::Identity;

mod config;

/// No drain here takes longer: ebb's grace period is 20 s, and HAProxy's hard stop comes after as much.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `ebb proxy`, drained by `GET /drain`.
    Ebb,
    /// nginx, drained by `-s quit`, which is SIGQUIT to the master.
    Nginx,
    /// HAProxy, drained by SIGUSR1.
    Haproxy,
}

impl Kind {
    /// Its name as a command.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebb => "ebb",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Ebb, Self::Nginx, Self::Haproxy];
        let found = all.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| "write ebb, nginx or haproxy".to_owned())
    }
}

/// What a proxy is to do.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which one.
    pub kind: Kind,
    /// The app.
    pub upstream: SocketAddr,
    /// nginx's worker processes, the others' threads.
    pub workers: usize,
    /// Where ebb's binary is.
    pub ebb: PathBuf,
    /// Runs ebb as nobody, with no-new-privs. The other two keep what they start with.
    pub unprivileged: bool,
    /// What it passes on.
    pub serve: Serve,
}

/// What a proxy passes on.
#[derive(Debug, Clone)]
pub enum Serve {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in clear text, on both sides.
    Http2,
    /// Any bytes.
    Tcp,
    /// HTTP/1.1, HTTP/2 and WebSockets on one port, HTTP/1.1 over TLS on another, any bytes on a third.
    Everything {
        /// Where those bytes go; there is no third port without.
        tcp: Option<SocketAddr>,
        /// The certificate; there is no TLS without.
        identity: Option<Arc<Identity>>,
    },
}

/// Where a proxy listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    addr: SocketAddr,
    admin: SocketAddr,
    tls: SocketAddr,
    tcp: SocketAddr,
}

/// A proxy ready to be started: its files are written, its ports chosen.
#[derive(Debug)]
pub struct Prepared {
    kind: Kind,
    command: Command,
    dir: TempDir,
    ports: Ports,
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Peer {
    kind: Kind,
    child: Child,
    pid: u32,
    dir: TempDir,
    ports: Ports,
}

/// How a drain went.
#[derive(Debug, Clone)]
pub struct Drained {
    /// From the trigger until ebb's `/drain` was answered, or until the other's process had ended.
    pub took: Duration,
    /// ebb's report.
    pub report: Option<serde_json::Value>,
}

impl Setup {
    /// Writes the files and chooses the ports.
    ///
    /// # Errors
    /// When there is no place for files, no free port, or no binary, or when the proxy is not configured for it here.
    pub fn prepare(&self) -> io::Result<Prepared> {
        if self.kind == Kind::Nginx && !matches!(self.serve, Serve::Http1) {
            return Err(self.kind.failed("it is measured with HTTP/1.1 only: leave it out of --peers"));
        }
        let dir = tempfile::Builder::new().prefix("ebb-bench-").tempdir()?;
        // nginx's workers and an unprivileged ebb are other users.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let ports = Ports { addr: free_port()?, admin: free_port()?, tls: free_port()?, tcp: free_port()? };
        let pem = dir.path().join("tls.pem");
        if let Serve::Everything { identity: Some(identity), .. } = &self.serve {
            identity.write(&pem)?;
            fs::set_permissions(&pem, fs::Permissions::from_mode(0o644))?;
        }
        let mut command = match self.kind {
            Kind::Ebb => self.ebb_command(dir.path(), &ports, &pem)?,
            Kind::Nginx => {
                let file = dir.path().join("nginx.conf");
                fs::write(&file, config::nginx(self, ports.addr, dir.path()))?;
                let mut command = Command::new("nginx");
                command.arg("-c").arg(file).arg("-p").arg(dir.path()).arg("-e").arg("stderr");
                command
            }
            Kind::Haproxy => {
                let file = dir.path().join("haproxy.cfg");
                fs::write(&file, config::haproxy(self, &ports, &pem))?;
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file);
                command
            }
        };
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.kill_on_drop(self.kind != Kind::Nginx);
        // Debian keeps both where not everybody's PATH leads.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        Ok(Prepared { kind: self.kind, command, dir, ports })
    }

    fn ebb_command(&self, dir: &Path, ports: &Ports, pem: &Path) -> io::Result<Command> {
        let mut command = if self.unprivileged {
            // The build directory may be closed to other users.
            let copy = dir.join("ebb");
            fs::copy(&self.ebb, &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
            command.arg(copy);
            command
        } else {
            Command::new(&self.ebb)
        };
        command.args(config::ebb(self, ports, pem));
        Ok(command)
    }
}

impl Prepared {
    /// Where it will listen.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.ports.addr
    }

    /// Starts the process and does not wait for it to listen.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn spawn(mut self) -> io::Result<Peer> {
        let child = self.command.spawn().map_err(|error| self.kind.failed(&error.to_string()))?;
        let pid = child.id().ok_or_else(|| self.kind.failed("it ended at once"))?;
        let Self { kind, dir, ports, .. } = self;
        Ok(Peer { kind, child, pid, dir, ports })
    }
}

impl Peer {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it does not come to that; what it wrote is part of the message.
    pub async fn start(setup: &Setup) -> io::Result<Self> {
        let mut peer = setup.prepare()?.spawn()?;
        let started = Instant::now();
        while Connection::connect(peer.ports.addr).await.is_err() {
            if peer.child.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(5) {
                return Err(peer.kind.failed(&format!("it does not listen: {}", peer.log())));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(peer)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.ports.addr
    }

    /// Where it listens with TLS, if it does.
    #[must_use]
    pub fn tls_addr(&self) -> SocketAddr {
        self.ports.tls
    }

    /// Where it listens for any bytes, if it does besides HTTP.
    #[must_use]
    pub fn tcp_addr(&self) -> SocketAddr {
        self.ports.tcp
    }

    /// The process; nginx's master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it wrote to its standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Tells it to drain, in its own way, and waits for the end of that.
    ///
    /// # Errors
    /// When it does not end, or ebb's answer is not a report.
    pub async fn drain(&mut self) -> io::Result<Drained> {
        let start = Instant::now();
        let report = match self.kind {
            Kind::Ebb => Some(self.call_drain().await?),
            Kind::Nginx => self.signal_and_wait(Signal::QUIT).await.map(|_| None)?,
            Kind::Haproxy => self.signal_and_wait(Signal::USR1).await.map(|_| None)?,
        };
        Ok(Drained { took: start.elapsed(), report })
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

    async fn signal_and_wait(&mut self, signal: Signal) -> io::Result<ExitStatus> {
        self.signal(signal);
        let ended = timeout(DRAIN_TIMEOUT, self.child.wait()).await;
        ended.map_err(|_| self.kind.failed("it does not end"))?
    }

    fn signal(&self, signal: Signal) {
        // A child that was not waited for keeps its number, so this reaches nobody else.
        if self.child.id().is_some()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's workers would outlive a master that is killed, so it is asked to end at once.
        if self.kind == Kind::Nginx {
            self.signal(Signal::TERM);
        }
    }
}

impl Kind {
    fn failed(self, why: &str) -> io::Error {
        io::Error::other(format!("{}: {why}", self.name()))
    }
}

/// A port of 127.0.0.1 below the ephemeral range, which begins at 32768: a client that connects to a port of
/// that range where nobody listens may be given the same one, and find itself connected to itself.
fn free_port() -> io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() * 97 % 10_000).unwrap_or(0);
    for _ in 0..1000 {
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr();
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free from 20000 to 29999"))
}
