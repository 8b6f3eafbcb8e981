//! Listening sockets: their options, the accept loop, and closing them without losing a connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::task::coop;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::config::Listen;
use crate::drain::Phase;
use crate::drain::watch::Subscriber;
use crate::sys;

pub mod refusal;

/// The most the kernel allows is what we want (`net.core.somaxconn`, 4096 by default): a full queue drops
/// SYNs, which clients see as a delay of a second.
const BACKLOG: i32 = 65_535;

/// After new SYNs have been turned away, handshakes under way have this long to come to their end: the
/// queue counts as empty when nothing has come out of it for so long.
const SILENCE: Duration = Duration::from_millis(200);

/// Emptying the queue takes at most this long.
const EMPTYING_MAX: Duration = Duration::from_secs(1);

/// The pause after an accept that failed for want of resources, doubled up to the maximum.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Binds `count` listening sockets to one address, as one `SO_REUSEPORT` group.
///
/// Port 0 is chosen once for all of them. Accepted connections inherit the options of [`sys::tune`].
///
/// # Errors
/// What the kernel says; `AddrInUse` also when another program's group could be joined.
pub fn bind(listen: &Listen, count: usize) -> io::Result<Vec<StdListener>> {
    let mut addr = bindable(listen)?;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = open(addr, BACKLOG)?;
        addr = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The address that can be bound: IPv4 alone where the machine has no IPv6. Whether the port is free is
/// tried without `SO_REUSEPORT`, because with it two programs of one user would share the port silently.
fn bindable(listen: &Listen) -> io::Result<SocketAddr> {
    let addr = listen.addr();
    match free(addr) {
        Err(error) if listen.ip.is_none() && error.kind() != io::ErrorKind::AddrInUse => {
            let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port());
            free(v4).map(|()| v4)
        }
        other => other.map(|()| addr),
    }
}

fn free(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Lets connections of an earlier process that still linger in TIME_WAIT pass; a listening socket on the
    // port is refused all the same.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())
}

/// One more listening socket of the group at `addr`.
fn open(addr: SocketAddr, backlog: i32) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    sys::tune(SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A listening socket that the runtime watches, as tokio's own, but without what that tries in vain: to accept until there
/// is nothing to accept, for which the kernel makes a socket each time before it looks, and to read from a connection as
/// soon as it is accepted, when hardly a request has come.
#[derive(Debug)]
pub struct Listener(AsyncFd<mio::net::TcpListener>);

impl Listener {
    /// Has the runtime watch a socket of [`bind`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(listener: StdListener) -> io::Result<Self> {
        sys::watch(mio::net::TcpListener::from_std(listener)).map(Self)
    }

    /// Waits for a connection. None is lost when the wait is given up.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // However many come, the others have their turn.
            coop::consume_budget().await;
            let mut ready = self.0.readable().await?;
            let accepted = self.accept_now();
            let is_empty = match &accepted {
                Ok(_) => sys::has_connection(self.0.get_ref().as_fd(), 0).is_ok_and(|has| !has),
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
            // The runtime is told of every connection that comes from here on.
            if is_empty {
                ready.clear_ready();
            }
            match accepted {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return accepted,
            }
        }
    }

    /// Takes a connection that is here.
    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.0.get_ref().accept()?;
        Ok((TcpStream::from_std(stream.into())?, peer))
    }
}

/// Accepts until the drain refuses new connections, then empties the queue and closes the listener.
///
/// `take` gets each connection; its third argument says whether it was rescued from the queue.
pub async fn accept_until_draining(
    listener: Listener,
    mut drain: Subscriber,
    mut take: impl FnMut(TcpStream, SocketAddr, bool),
) {
    let orders = {
        let mut draining = std::pin::pin!(drain.reached(Phase::Draining));
        let mut backoff = BACKOFF.0;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        backoff = BACKOFF.0;
                        take(stream, peer, false);
                    }
                    Err(error) => backoff = back_off(&error, backoff).await,
                },
                orders = &mut draining => break orders,
            }
        }
    };
    if orders.plan.is_some_and(|plan| plan.steered) {
        empty(&listener, take).await;
    } else {
        empty_at_once(&listener, take).await;
    }
}

/// Takes what is in the queue, and the handshakes that still come to their end. No new ones begin.
async fn empty(listener: &Listener, mut take: impl FnMut(TcpStream, SocketAddr, bool)) {
    let last = Instant::now() + EMPTYING_MAX;
    let mut silent_at = Instant::now() + SILENCE;
    let mut backoff = BACKOFF.0;
    // The time-out alone would not do: it is looked at only when there is nothing to accept.
    while Instant::now() < last
        && let Ok(accepted) = timeout_at(silent_at.min(last), listener.accept()).await
    {
        match accepted {
            Ok((stream, peer)) => {
                take(stream, peer, true);
                silent_at = Instant::now() + SILENCE;
            }
            Err(error) => backoff = back_off(&error, backoff).await,
        }
    }
}

/// The fallback where SYNs can't be steered: under load new connections come as fast as they are taken, so
/// this stops at the first empty queue (or after as many as a queue can hold).
async fn empty_at_once(listener: &Listener, mut take: impl FnMut(TcpStream, SocketAddr, bool)) {
    let last = Instant::now() + EMPTYING_MAX;
    let mut backoff = BACKOFF.0;
    for _ in 0..BACKLOG {
        match listener.accept_now() {
            Ok((stream, peer)) => take(stream, peer, true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || Instant::now() >= last => return,
            Err(error) => backoff = back_off(&error, backoff).await,
        }
    }
}

/// Waits out an accept error and returns the next pause.
///
/// `ECONNABORTED` and the network errors of accept(2) belong to one connection that is gone: no pause.
/// Anything else (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) would come back at once and make the loop spin.
async fn back_off(error: &io::Error, pause: Duration) -> Duration {
    if is_of_one_connection(error) {
        return pause;
    }
    tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept; the connection waits in the queue");
    sleep(pause).await;
    (pause * 2).min(BACKOFF.1)
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
    ) || error.raw_os_error() == Some(libc::EPROTO)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use super::*;

    /// Guards: who waits for the runtime to tell of a connection must not have overlooked one that is here.
    #[tokio::test]
    async fn every_connection_is_accepted() {
        let listen = Listen { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 0 };
        let listener = bind(&listen, 1).unwrap().remove(0);
        let addr = listener.local_addr().unwrap();
        let listener = Listener::new(listener).unwrap();
        for burst in [1, 3, 0, 200, 1, 2] {
            let clients: Vec<_> = (0..burst).map(|_| Client::connect(addr).unwrap()).collect();
            for client in &clients {
                let (_, peer) =
                    tokio::time::timeout(Duration::from_secs(5), listener.accept()).await.unwrap().unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
            let more = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
            assert!(more.is_err(), "after {burst}");
        }
    }
}
