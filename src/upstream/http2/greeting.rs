//! The first bytes that the app says on a connection, which tell whether it speaks HTTP/2.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::Stream;

/// What the app has said first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeted {
    /// Nothing, or too little.
    NotYet,
    /// A SETTINGS frame, as it has to be (RFC 9113, section 3.4).
    Yes,
    /// An HTTP/1.1 response.
    Http1,
    /// Something else.
    Other,
}

/// Up to the type of a frame: after the three bytes of its length.
const ENOUGH: usize = 5;

/// The frame type.
const SETTINGS: u8 = 4;

/// A connection to the app that watches for its first bytes.
#[derive(Debug)]
pub(super) struct Greeting {
    stream: Stream,
    first: [u8; ENOUGH],
    len: usize,
    greeted: Rc<Cell<Greeted>>,
}

impl Greeting {
    pub(super) fn new(stream: Stream) -> (Self, Rc<Cell<Greeted>>) {
        let greeted = Rc::new(Cell::new(Greeted::NotYet));
        (Self { stream, first: [0; ENOUGH], len: 0, greeted: Rc::clone(&greeted) }, greeted)
    }

    fn note(&mut self, bytes: &[u8]) {
        let part = bytes.len().min(ENOUGH - self.len);
        self.first[self.len..self.len + part].copy_from_slice(&bytes[..part]);
        self.len += part;
        if self.len == ENOUGH {
            self.greeted.set(match &self.first {
                b"HTTP/" => Greeted::Http1,
                first if first[3] == SETTINGS => Greeted::Yes,
                _ => Greeted::Other,
            });
        }
    }
}

impl AsyncRead for Greeting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.len < ENOUGH {
            self.note(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
