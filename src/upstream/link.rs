//! A connection to the app that heals itself while nothing is lost.
//!
//! A pooled connection may have been closed by the app just before a request is written to it. hyper reports
//! that as an error when the request is already taken apart. So it is mended one level below: the [`Link`] that
//! hyper writes to keeps the bytes of a request that may be sent again, and when the connection turns out
//! dead before a byte of the response, it connects anew and repeats them. hyper never notices.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Duration;

use super::stream::{self, Stream};
use crate::config::Upstream;
use crate::gather;
use crate::metrics::{Shard, UpstreamFailure};
use crate::proxy_protocol::Preamble;

/// When a request may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Never: the connection is fresh, idle, or has begun to answer.
    Never,
    /// While nothing of it has been written (RFC 9110, section 9.2.2: nothing was processed).
    Unwritten,
    /// Until a byte of the response: an idempotent method without a body.
    Unanswered,
}

/// What a [`Link`] shares with the pool: hyper owns the link itself.
pub(super) struct Lane {
    wire: RefCell<Wire>,
    replay: Cell<Replay>,
    failure: Cell<Option<UpstreamFailure>>,
    /// The app does not read any more, but may have answered: what is still written goes nowhere.
    deaf: Cell<bool>,
    active: RefCell<Option<Arc<Shard>>>,
    target: Rc<Upstream>,
    connect_timeout: Duration,
    /// What this connection began with, and what another in its place must begin with.
    preamble: Option<Preamble>,
    elsewhere: Cell<Elsewhere>,
    /// What has been read of its response.
    begun: RefCell<Bytes>,
}

/// Whether the present request has been sent by other means, so that what hyper writes of it goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    No,
    /// Yes, and hyper has not written anything of it yet. To hyper the response would be an answer to nothing.
    Unasked,
    Sent,
}

enum Wire {
    Up(Stream),
    /// The old connection is gone; `usize` bytes of the request have been repeated on the new one.
    Mending(Mend),
    /// Taken out, or beyond help.
    Gone,
}

enum Mend {
    Connecting(Pin<Box<dyn Future<Output = io::Result<Stream>>>>),
    Repeating(Stream, usize),
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("target", &self.target)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}

impl Lane {
    pub(super) fn new(
        stream: Stream,
        target: Rc<Upstream>,
        connect_timeout: Duration,
        preamble: Option<Preamble>,
    ) -> Rc<Self> {
        Rc::new(Self {
            wire: RefCell::new(Wire::Up(stream)),
            replay: Cell::new(Replay::Never),
            failure: Cell::new(None),
            deaf: Cell::new(false),
            active: RefCell::new(None),
            target,
            connect_timeout,
            preamble,
            elsewhere: Cell::new(Elsewhere::No),
            begun: RefCell::default(),
        })
    }

    /// The next request has been sent already, and this is what has been read of the response.
    pub(super) fn take_over(&self, begun: Bytes) {
        self.elsewhere.set(Elsewhere::Unasked);
        *self.begun.borrow_mut() = begun;
    }

    pub(super) fn preamble(&self) -> Option<&Preamble> {
        self.preamble.as_ref()
    }

    /// The next request may be sent again like this.
    pub(super) fn arm(&self, replay: Replay) {
        self.replay.set(replay);
    }

    /// From here on nothing is repeated.
    pub(super) fn disarm(&self) {
        self.replay.set(Replay::Never);
    }

    /// Why mending has failed, if it has.
    pub(super) fn failure(&self) -> Option<UpstreamFailure> {
        self.failure.get()
    }

    /// Reads what has been read before; false when there is nothing.
    fn read_begun(&self, buf: &mut ReadBuf<'_>) -> bool {
        let mut begun = self.begun.borrow_mut();
        let n = begun.len().min(buf.remaining());
        buf.put_slice(&begun.split_to(n));
        n > 0
    }

    /// Whether the app has taken all that was written.
    pub(super) fn is_open(&self) -> bool {
        !self.deaf.get() && self.begun.borrow().is_empty()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.is_open() && matches!(&*self.wire.borrow(), Wire::Up(stream) if stream.is_quiet())
    }

    pub(super) fn take_stream(&self) -> Option<Stream> {
        match self.wire.replace(Wire::Gone) {
            Wire::Up(stream) => Some(stream),
            _ => None,
        }
    }

    /// Counts the connection as in use until [`Lane::count_idle`], or until it is dropped.
    pub(super) fn count_active(&self, shard: &Arc<Shard>) {
        shard.upstream_active.add(1);
        *self.active.borrow_mut() = Some(Arc::clone(shard));
    }

    pub(super) fn count_idle(&self) {
        self.elsewhere.set(Elsewhere::No);
        if let Some(shard) = self.active.take() {
            shard.upstream_active.add(-1);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.count_idle();
    }
}

/// The connection as hyper sees it.
#[derive(Debug)]
pub(super) struct Link {
    lane: Rc<Lane>,
    /// What has been written of a request that may be repeated.
    sent: Vec<u8>,
    /// Whether anything of the current request has been written.
    written: bool,
}

impl Link {
    pub(super) fn new(lane: Rc<Lane>) -> Self {
        Self { lane, sent: Vec::new(), written: false }
    }

    fn may_mend(&self) -> bool {
        match self.lane.replay.get() {
            Replay::Never => false,
            Replay::Unwritten => !self.written,
            Replay::Unanswered => true,
        }
    }

    /// Gives the dead connection up and starts a new one. Once only: then the connection is fresh, and a
    /// second failure is the app's answer.
    fn mend(&mut self) {
        self.lane.disarm();
        if !self.written {
            // Nothing of this request is on its way: what is kept is of an earlier one.
            self.sent.clear();
        }
        let (target, limit) = (Rc::clone(&self.lane.target), self.lane.connect_timeout);
        let preamble = self.lane.preamble.clone();
        let connecting = Box::pin(async move { stream::connect(&target, limit, preamble.as_ref()).await });
        *self.lane.wire.borrow_mut() = Wire::Mending(Mend::Connecting(connecting));
    }

    /// Finishes a mending under way.
    fn poll_mended(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.lane.wire.borrow_mut();
        loop {
            match &mut *wire {
                Wire::Up(_) => return Poll::Ready(Ok(())),
                Wire::Gone => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                Wire::Mending(Mend::Connecting(connecting)) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(stream) => *wire = Wire::Mending(Mend::Repeating(stream, 0)),
                    Err(error) => {
                        self.lane.failure.set(Some(super::failure_of(&error)));
                        *wire = Wire::Gone;
                        return Poll::Ready(Err(error));
                    }
                },
                Wire::Mending(Mend::Repeating(stream, repeated)) => {
                    while *repeated < self.sent.len() {
                        *repeated += ready!(Pin::new(&mut *stream).poll_write(cx, &self.sent[*repeated..]))?;
                    }
                    let Wire::Mending(Mend::Repeating(stream, _)) = std::mem::replace(&mut *wire, Wire::Gone)
                    else {
                        unreachable!("matched just above");
                    };
                    *wire = Wire::Up(stream);
                }
            }
        }
    }

    /// Keeps what has been written, as long as it may have to be repeated.
    fn note_written<'a>(&mut self, n: usize, bufs: impl Iterator<Item = &'a [u8]>) {
        if self.lane.replay.get() == Replay::Never {
            return;
        }
        if !self.written {
            self.sent.clear();
        }
        self.written = true;
        if self.lane.replay.get() == Replay::Unanswered {
            let mut left = n;
            for buf in bufs {
                let part = buf.len().min(left);
                self.sent.extend_from_slice(&buf[..part]);
                left -= part;
            }
        }
    }

    fn poll_write_with<'a>(
        &mut self,
        cx: &mut Context<'_>,
        bufs: impl Iterator<Item = &'a [u8]> + Clone,
        mut write: impl FnMut(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_mended(cx))?;
            let all = || bufs.clone().map(<[u8]>::len).sum();
            if self.lane.elsewhere.get() != Elsewhere::No {
                if self.lane.elsewhere.replace(Elsewhere::Sent) == Elsewhere::Unasked {
                    // Now the response may be read.
                    cx.waker().wake_by_ref();
                }
                return Poll::Ready(Ok(all()));
            }
            if self.lane.deaf.get() {
                return Poll::Ready(Ok(all()));
            }
            let result = match &mut *self.lane.wire.borrow_mut() {
                Wire::Up(stream) => ready!(write(Pin::new(stream), cx)),
                _ => continue,
            };
            match result {
                Ok(n) => {
                    self.note_written(n, bufs.clone());
                    return Poll::Ready(Ok(n));
                }
                Err(_) if self.may_mend() => self.mend(),
                // The app has closed while we write. What it said before is still there to be read: an
                // early response must not be lost to our own failed upload.
                Err(_) => self.lane.deaf.set(true),
            }
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.lane.elsewhere.get() == Elsewhere::Unasked {
            return Poll::Pending;
        }
        if self.lane.read_begun(buf) {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.poll_mended(cx))?;
            let before = buf.filled().len();
            let result = match &mut *self.lane.wire.borrow_mut() {
                Wire::Up(stream) => ready!(Pin::new(stream).poll_read(cx, buf)),
                _ => continue,
            };
            let came = buf.filled().len() - before;
            let armed = self.lane.replay.get() != Replay::Never;
            if armed && !self.written && came > 0 {
                // Bytes that answer nothing: the app gave the idle connection up with a few words.
                buf.set_filled(before);
                self.mend();
            } else if (came == 0 || result.is_err()) && self.may_mend() {
                self.mend();
            } else {
                // Whatever comes from now on belongs to the response.
                self.lane.disarm();
                self.written = false;
                self.sent.clear();
                return Poll::Ready(result);
            }
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, std::iter::once(buf), |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = bufs.iter().map(|buf| &**buf);
        let mut room: gather::Room = [MaybeUninit::uninit(); gather::SMALL];
        self.poll_write_with(cx, slices, |stream, cx| {
            match gather::together(bufs, &mut ReadBuf::uninit(&mut room)) {
                Some(buf) => stream.poll_write(cx, buf),
                None => stream.poll_write_vectored(cx, bufs),
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.lane.wire.borrow_mut() {
            Wire::Up(stream) => Pin::new(stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
