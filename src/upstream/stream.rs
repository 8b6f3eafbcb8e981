//! A plain connection to the app, over TCP or a Unix socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;
use tokio::time::{Duration, timeout};

use crate::config::Upstream;
use crate::proxy_protocol::Preamble;
use crate::sys::tune;

/// A connection to the app.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Connects within `limit`. With a `preamble`, the connection begins with it.
///
/// # Errors
/// What the kernel or the resolver says; `TimedOut` after `limit`.
pub(super) async fn connect(
    upstream: &Upstream,
    limit: Duration,
    preamble: Option<&Preamble>,
) -> io::Result<Stream> {
    let connecting = async {
        let mut stream = match upstream {
            Upstream::Tcp { host, port } => {
                let stream = match host.parse::<IpAddr>() {
                    Ok(ip) => TcpStream::connect(SocketAddr::new(ip, *port)).await?,
                    // Not to be asked of a resolver (RFC 6761, section 6.3); a bare image has none.
                    Err(_) if host == "localhost" => TcpStream::connect(&loopback(*port)[..]).await?,
                    Err(_) => TcpStream::connect((host.as_str(), *port)).await?,
                };
                tune(SockRef::from(&stream))?;
                Stream::Tcp(stream)
            }
            Upstream::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        };
        if let Some(preamble) = preamble {
            stream.write_all(preamble.as_bytes()).await?;
        }
        Ok(stream)
    };
    timeout(limit, connecting).await?
}

/// Where an app on "localhost" may listen.
fn loopback(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)]
}

/// Whether the app is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It accepts connections.
    Up,
    /// Nothing listens: the app is gone, or not there yet.
    Refused,
    /// No answer in time, or an error that says nothing about the app.
    Unknown,
}

/// Tries to connect to the app, and hangs up at once, as a tcpSocket probe does.
pub async fn reach(upstream: &Upstream, limit: Duration) -> Reach {
    match connect(upstream, limit, None).await {
        Ok(_) => Reach::Up,
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Reach::Refused,
            _ => Reach::Unknown,
        },
    }
}

impl Stream {
    /// Whether an idle connection can carry another request: neither closed by the app nor with bytes
    /// nobody asked for (some servers say 408 before they close). One system call, nothing is taken out.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the runtime has heard nothing of the app since the last read. That costs no system call, but what has
    /// come since the runtime listened last it can't know.
    #[must_use]
    pub fn seems_quiet(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let ready = match self {
            Self::Tcp(stream) => stream.poll_read_ready(&mut context),
            Self::Unix(stream) => stream.poll_read_ready(&mut context),
        };
        // A task that has had its share is told that nothing is ready.
        ready.is_pending() && coop::has_budget_remaining()
    }
}

/// Calls a method of whichever stream it is, pinned.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
