//! The proxies that are measured, as child processes: ebb itself, nginx, HAProxy, Envoy, Caddy, and a bare relay.
//!
//! All are plain reverse proxies with keep-alive on both sides and `X-Forwarded-For`, on 127.0.0.1; `config`
//! has every setting, and `drain` how each is told to go.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::tls::Identity;

mod binaries;
mod config;
mod drain;

pub use binaries::{Binaries, version};
pub use drain::Drained;

/// No proxy takes longer to listen, not even one that reads a configuration of its own language.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `ebb proxy`.
    Ebb,
    /// Another build of it, to compare two.
    Ebb2,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// Caddy.
    Caddy,
    /// The least that can stand between two sockets: this crate's own [`relay`](crate::relay).
    Relay,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Ebb, Self::Ebb2, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Caddy, Self::Relay];

    /// Its name as a command, and in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebb => "ebb",
            Self::Ebb2 => "ebb2",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Relay => "relay",
        }
    }

    /// Whether it can be configured to pass this on.
    #[must_use]
    pub fn can(self, serve: &Serve) -> bool {
        match (self, serve) {
            (Self::Ebb | Self::Ebb2 | Self::Haproxy, _) => true,
            // It speaks HTTP/2 to apps only for gRPC, and TCP with a module that comes in a package of its own.
            (Self::Nginx, Serve::Tcp) => config::nginx_stream_module().is_some(),
            (Self::Nginx, serve) => !matches!(serve, Serve::Http2 | Serve::Everything { .. }),
            (Self::Envoy, serve) => !matches!(serve, Serve::Everything { .. }),
            // TCP would be a plugin's.
            (Self::Caddy, serve) => !matches!(serve, Serve::Tcp | Serve::Everything { .. }),
            // What goes through it as it is.
            (Self::Relay, serve) => {
                !matches!(serve, Serve::Tls(_) | Serve::Http2ToHttp1 | Serve::Everything { .. })
            }
        }
    }

    fn failed(self, why: &str) -> io::Error {
        io::Error::other(format!("{}: {why}", self.name()))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("write {}", Self::ALL.map(Self::name).join(", ")))
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
    /// What is run.
    pub binary: PathBuf,
    /// Runs ebb as nobody, with no-new-privs. The others keep what they start with.
    pub unprivileged: bool,
    /// What it passes on.
    pub serve: Serve,
}

/// What a proxy passes on.
#[derive(Debug, Clone)]
pub enum Serve {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 over TLS 1.3 from the client, in clear text to the app.
    Tls(Arc<Identity>),
    /// HTTP/2 in clear text, on both sides.
    Http2,
    /// HTTP/2 in clear text from the client, HTTP/1.1 to the app.
    Http2ToHttp1,
    /// gRPC: as `Http2`, but nginx can do it.
    Grpc,
    /// WebSockets over HTTP/1.1.
    WebSocket,
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

/// What belongs to one proxy alone: its directory, its ports, and the certificate if there is one.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    dir: &'a Path,
    ports: &'a Ports,
    pem: &'a Path,
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

impl Setup {
    /// Writes the files and chooses the ports.
    ///
    /// # Errors
    /// When there is no place for files, no free port, or no binary, or when the proxy is not configured for it here.
    pub fn prepare(&self) -> io::Result<Prepared> {
        if !self.kind.can(&self.serve) {
            return Err(self.kind.failed("it cannot do that, or is not configured for it here"));
        }
        let dir = tempfile::Builder::new().prefix("ebb-bench-").tempdir()?;
        // nginx's workers and an unprivileged ebb are other users.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let ports = Ports { addr: free_port()?, admin: free_port()?, tls: free_port()?, tcp: free_port()? };
        let pem = dir.path().join("tls.pem");
        if let Serve::Tls(identity) | Serve::Everything { identity: Some(identity), .. } = &self.serve {
            identity.write(&pem)?;
            fs::set_permissions(&pem, fs::Permissions::from_mode(0o644))?;
        }
        let place = Place { dir: dir.path(), ports: &ports, pem: &pem };
        let mut command = config::command(self, &place)?;
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.kill_on_drop(self.kind != Kind::Nginx);
        Ok(Prepared { kind: self.kind, command, dir, ports })
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
            if peer.child.try_wait()?.is_some() || started.elapsed() > START_TIMEOUT {
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
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's workers would outlive a master that is killed, so it is asked to end at once.
        if self.kind == Kind::Nginx {
            self.signal(Signal::TERM);
        }
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
