//! The side door: health, drain, metrics and status, on a port and a thread of their own. Its requests are
//! never counted as traffic.
//!
//! | path | |
//! |---|---|
//! | `GET\|POST /drain` | begins or joins the drain and answers at its end; `?wait=false`: at once, with 202 |
//! | `POST /undrain` | takes it back |
//! | `/startupz` `/livez` | 200 |
//! | `/readyz` | 200 while connections are accepted and the app can be reached; not when clients still come after the shortest lame duck |
//! | `/lbz` | 200 while serving: for load balancers that probe the pod themselves |
//! | `/metrics` | Prometheus |
//! | `/status` | JSON |
//! | `/` | a page for people |

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::Duration;

use crate::config::{AdminConfig, Config};
use crate::drain::handle::Handle;
use crate::metrics::Metrics;

mod access;
mod drain;
mod health;
mod page;
pub(crate) mod router;
pub(crate) mod server;
mod status;

pub use server::Serving;

/// Connections at a time: a kubelet, a Prometheus and some people need a handful.
pub(crate) const MAX_CONNECTIONS: usize = 128;

/// A request's head must be complete within this.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// At the end, the last answers have this long to be taken.
pub(crate) const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// What the admin endpoints work on.
#[derive(Debug)]
pub struct Admin {
    config: AdminConfig,
    forwards: Vec<status::ForwardInfo>,
    upstreams: Vec<crate::config::Upstream>,
    lame_duck_min: Duration,
    quiet: Duration,
    drain: Handle,
    registry: Registry,
    metrics: Arc<Metrics>,
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
    pub fn new(config: &Config, drain: Handle, registry: Registry, metrics: &Arc<Metrics>) -> Self {
        Self {
            config: config.admin.clone(),
            forwards: status::forwards(config, metrics),
            upstreams: config.forwards.iter().map(|forward| forward.upstream.clone()).collect(),
            lame_duck_min: config.budget.lame_duck_min(),
            quiet: config.budget.quiet(),
            drain,
            registry,
            metrics: Arc::clone(metrics),
        }
    }

    /// Serves until [`Serving::finish`].
    pub fn serve(self, listener: TcpListener) -> Serving {
        let admin = Arc::new(self);
        server::serve(listener, MAX_CONNECTIONS, move |stream, peer, seat| {
            let admin = Arc::clone(&admin);
            async move {
                let answer = |request| router::route(&admin, peer, request);
                if let Err(error) = seat.http1(stream, HEADER_TIMEOUT, answer).await {
                    tracing::debug!(%peer, %error, "an admin connection broke");
                }
            }
        })
    }
}
