//! The client's socket as the HTTP/2 connection sees it. How that ends is decided when the connection is gone, so the socket stays
//! here.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::connection::roster::Seat;
use crate::connection::stream::ClientStream;

#[derive(Debug)]
pub(super) struct Wire {
    stream: RefCell<Option<ClientStream>>,
    /// Read before it was known what the client speaks.
    first: RefCell<Bytes>,
    seat: Rc<Seat>,
    eof: Cell<bool>,
}

impl Wire {
    pub(super) fn new(stream: ClientStream, first: Bytes, seat: &Rc<Seat>) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(Some(stream)),
            first: RefCell::new(first),
            seat: Rc::clone(seat),
            eof: Cell::new(false),
        })
    }

    /// Takes the socket back.
    pub(super) fn take_stream(&self) -> Option<ClientStream> {
        self.stream.borrow_mut().take()
    }

    /// The client has closed its side.
    pub(super) fn eof(&self) -> bool {
        self.eof.get()
    }

    fn with<T>(
        &self,
        act: impl FnOnce(Pin<&mut ClientStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// The client's socket as the HTTP/2 connection sees it.
#[derive(Debug)]
pub(super) struct Io(pub(super) Rc<Wire>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &self.0;
        let mut first = wire.first.borrow_mut();
        if !first.is_empty() {
            let n = first.len().min(buf.remaining());
            buf.put_slice(&first[..n]);
            first.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(wire.with(|stream| stream.poll_read(cx, buf)))?;
        if buf.filled().len() == before {
            wire.eof.set(true);
        } else {
            wire.seat.heard.set(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.with(|stream| stream.poll_flush(cx))
    }

    /// Never: see above.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
