//! What a tunnel wants of its two sides.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Duration;

use crate::connection::stream::ClientStream;
use crate::upstream::Stream;

/// One side of a tunnel.
pub(in crate::connection) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The socket itself, if what is on it is what the tunnel carries: then the kernel can move it on by itself.
    fn plain(&self) -> Option<Socket<'_>>;

    /// The TCP connection beneath, whatever is spoken on it.
    fn tcp(&self) -> Option<BorrowedFd<'_>>;

    /// From here on closing means a RST, or what else can't be taken for an end.
    fn abort(&self);
}

/// A socket that bytes can be spliced from and to.
#[derive(Debug, Clone, Copy)]
pub(in crate::connection) enum Socket<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

impl Socket<'_> {
    /// Does `read` once there seems to be something to be read. It may find nothing all the same (`WouldBlock`), and
    /// whoever is told so must go on to read in another way, so that the runtime gets to know.
    pub(super) fn poll_read_with<R>(
        self,
        cx: &mut Context<'_>,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        ready!(match self {
            Self::Tcp(socket) => socket.poll_read_ready(cx),
            Self::Unix(socket) => socket.poll_read_ready(cx),
        })?;
        Poll::Ready(read(self.as_fd()))
    }

    /// Does `write` once the socket seems to take something.
    pub(super) fn poll_write_with<R>(
        self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            ready!(match self {
                Self::Tcp(socket) => socket.poll_write_ready(cx),
                Self::Unix(socket) => socket.poll_write_ready(cx),
            })?;
            let written = match self {
                Self::Tcp(socket) => socket.try_io(Interest::WRITABLE, || write(self.as_fd())),
                Self::Unix(socket) => socket.try_io(Interest::WRITABLE, || write(self.as_fd())),
            };
            match written {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsFd for Socket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Side for ClientStream {
    fn plain(&self) -> Option<Socket<'_>> {
        match self {
            Self::Plain(stream) => Some(Socket::Tcp(stream)),
            Self::Tls(_) => None,
        }
    }

    fn tcp(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn abort(&self) {
        Self::abort(self);
    }
}

impl Side for Stream {
    fn plain(&self) -> Option<Socket<'_>> {
        Some(match self {
            Self::Tcp(stream) => Socket::Tcp(stream),
            Self::Unix(stream) => Socket::Unix(stream),
        })
    }

    fn tcp(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Some(stream.as_fd()),
            Self::Unix(_) => None,
        }
    }

    fn abort(&self) {
        if let Self::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}
