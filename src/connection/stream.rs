//! The client's socket, whatever is spoken on it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Duration;

use super::tls::TlsStream;

/// A client's connection.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// In the clear.
    Plain(TcpStream),
    /// Behind TLS. Boxed: rustls keeps a lot of state.
    Tls(Box<TlsStream>),
}

impl ClientStream {
    /// The socket beneath. Reading from it or writing to it is only right when the connection is in the clear.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
        }
    }

    /// Whether something is there to be read (an end is nothing). What the kernel has counts too; of TLS only what
    /// is data.
    pub(super) fn has_bytes(&mut self) -> bool {
        match self {
            Self::Plain(stream) => {
                let mut byte = [MaybeUninit::uninit()];
                SockRef::from(&*stream).peek(&mut byte).is_ok_and(|n| n > 0)
            }
            Self::Tls(stream) => stream.has_data(),
        }
    }

    /// Ready when reading may bring something: bytes, an end, or an error.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Tls(stream) => stream.poll_readable(cx),
        }
    }

    /// Whether part of something is here that can't be read before the rest of it has come.
    pub(super) fn mid_record(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.mid_record())
    }

    /// Whether the client has to be told of the end before the FIN.
    pub(super) fn owes_goodbye(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.owes_goodbye())
    }

    /// From here on closing means a RST, which can't be taken for an end.
    pub(super) fn abort(&self) {
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Reads and forgets; false at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Self::Tls(stream) = self {
            return stream.poll_discard(cx);
        }
        let mut scratch = [MaybeUninit::uninit(); 4096];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(self).poll_read(cx, &mut scratch))?;
        Poll::Ready(Ok(!scratch.filled().is_empty()))
    }

    /// Writes what fits at once; a connection that takes nothing at the moment gets nothing.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(self).poll_write(&mut context, bytes) {
            Poll::Ready(result) => result.map(drop),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl AsFd for ClientStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().as_fd()
    }
}

/// Calls a method of whichever stream it is, pinned.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            ClientStream::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
