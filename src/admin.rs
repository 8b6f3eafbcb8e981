//! The side door: health, drain, metrics and status, on a port and a thread of their own. Its requests are
//! never counted as traffic.
//!
//! | path | |
//! |---|---|
//! | `GET\|POST /drain` | begins or joins the drain and answers at its end; `?wait=false`: at once, with 202 |
//! | `POST /undrain` | takes it back |
//! | `/startupz` `/livez` | 200 |
//! | `/readyz` | 200 while connections are accepted and the app can be reached |
//! | `/lbz` | 200 while serving: for load balancers that probe the pod themselves |
//! | `/metrics` | Prometheus |
//! | `/status` | JSON |
//! | `/` | a page for people |

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, sleep, timeout};

use crate::config::{AdminConfig, Config};
use crate::drain::handle::Handle;
use crate::metrics::Metrics;

mod access;
mod drain;
mod health;
mod page;
mod router;
mod status;

/// Connections at a time: a kubelet, a Prometheus and some people need a handful.
const MAX_CONNECTIONS: usize = 128;

/// A request's head must be complete within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// At the end, the last answers have this long to be taken.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// What the admin endpoints work on.
#[derive(Debug)]
pub struct Admin {
    config: AdminConfig,
    forwards: Vec<status::ForwardInfo>,
    upstreams: Vec<crate::config::Upstream>,
    drain: Handle,
    registry: Registry,
}

/// Binds the admin port; IPv4 alone where the machine has no IPv6.
///
/// # Errors
/// What the kernel says.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let open = |addr: SocketAddr| {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(128)?;
        TcpListener::from_std(socket.into())
    };
    open(addr).or_else(|error| {
        if addr.ip() == std::net::Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse {
            open(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), addr.port()))
        } else {
            Err(error)
        }
    })
}

impl Admin {
    /// For the whole sidecar.
    #[must_use]
    pub fn new(config: &Config, drain: Handle, registry: Registry, metrics: &Metrics) -> Self {
        Self {
            config: config.admin.clone(),
            forwards: status::forwards(config, metrics),
            upstreams: config.forwards.iter().map(|forward| forward.upstream.clone()).collect(),
            drain,
            registry,
        }
    }

    /// Serves until [`Serving::finish`].
    pub fn serve(self, listener: TcpListener) -> Serving {
        let (finish, finishing) = watch::channel(false);
        let task = tokio::spawn(accept(Arc::new(self), listener, finishing));
        Serving { finish, task }
    }
}

/// The admin port at work.
#[derive(Debug)]
pub struct Serving {
    finish: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Lets every answer under way be taken (for a bounded time), and ends.
    pub async fn finish(self) {
        self.finish.send_replace(true);
        // The task ends by itself; the time-out is for a caller that does not take its answer.
        let _ = timeout(FINISH_TIMEOUT, self.task).await;
    }
}

async fn accept(admin: Arc<Admin>, listener: TcpListener, mut finishing: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut open = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if open.len() >= MAX_CONNECTIONS && !make_room(&mut open) {
                        continue;
                    }
                    let busy = Arc::new(AtomicBool::new(false));
                    let serving = serve(Arc::clone(&admin), stream, peer, finishing.clone(), Arc::clone(&busy));
                    open.push_back((connections.spawn(serving), busy));
                }
                // Out of file descriptors, most likely: not to be tried again at once.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => open.retain(|(task, _)| !task.is_finished()),
            () = told(&mut finishing) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Closes the oldest connection without a request: whoever just holds connections open must not keep a hook
/// out. False when all are at work.
fn make_room(open: &mut VecDeque<(AbortHandle, Arc<AtomicBool>)>) -> bool {
    let oldest = open.iter().position(|(_, busy)| !busy.load(Relaxed));
    let found = oldest.and_then(|oldest| open.remove(oldest));
    if let Some((task, _)) = &found {
        task.abort();
    }
    found.is_some()
}

/// Waits for the end to be announced.
async fn told(finishing: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to announce it: the end, too.
    let _ = finishing.wait_for(|finish| *finish).await;
}

async fn serve(
    admin: Arc<Admin>,
    stream: TcpStream,
    peer: SocketAddr,
    mut finishing: watch::Receiver<bool>,
    busy: Arc<AtomicBool>,
) {
    let service = service_fn(|request| {
        let (admin, busy) = (Arc::clone(&admin), Arc::clone(&busy));
        async move {
            busy.store(true, Relaxed);
            let answer = router::route(&admin, peer, request).await;
            busy.store(false, Relaxed);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut finishing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an admin connection broke");
    }
}
