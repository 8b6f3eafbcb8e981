//! The client's socket as hyper sees it, and what watching it tells.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::heads::{Heads, More};
use super::peer::Presence;
use super::roster::{Seat, Stage};
use super::stream::ClientStream;
use crate::gather;
use crate::proxy::Exchange;

/// With a look at every tick, about a second: a client that waits for 100 (Continue) sends by itself after such a
/// time, too.
const PATIENCE: u32 = 4;

/// What the socket, the service and the serving state share. hyper owns the socket's wrapper ([`Io`]), so the
/// socket itself is kept here, where it can be peeked at and taken back.
#[derive(Debug)]
pub(super) struct Wire {
    stream: RefCell<Option<ClientStream>>,
    /// Read before hyper was there.
    unread: RefCell<Bytes>,
    seat: Rc<Seat>,
    exchange: Rc<Exchange>,
    /// hyper has bytes that the socket did not take yet.
    unflushed: Cell<bool>,
    /// What is written belongs to a response of the service. Otherwise it is hyper's own answer to a head it
    /// can't read, in place of which the client gets one of ours.
    expecting: Cell<bool>,
    swallowed: Cell<bool>,
    heads: Heads,
    /// How often a body that is held back is looked for yet, when it may be in hyper's buffer already.
    patience: Cell<u32>,
    eof: Cell<bool>,
    /// All there is of a head is part of a TLS record.
    half_record: Cell<bool>,
    /// The request that hyper has not read yet is in flight already.
    begun: Cell<bool>,
    /// Nothing comes after the present request.
    last: Cell<bool>,
}

impl Wire {
    pub(super) fn new(
        stream: ClientStream,
        unread: Bytes,
        seat: &Rc<Seat>,
        exchange: &Rc<Exchange>,
        begun: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(Some(stream)),
            unread: RefCell::new(unread),
            seat: Rc::clone(seat),
            exchange: Rc::clone(exchange),
            unflushed: Cell::new(false),
            expecting: Cell::new(false),
            swallowed: Cell::new(false),
            heads: Heads::default(),
            patience: Cell::new(0),
            eof: Cell::new(false),
            half_record: Cell::new(false),
            begun: Cell::new(begun),
            last: Cell::new(false),
        })
    }

    /// Takes the socket back.
    pub(super) fn take_stream(&self) -> Option<ClientStream> {
        self.stream.borrow_mut().take()
    }

    /// Takes what hyper has not used of what was read: `first` was in its hands, and there may be more.
    pub(super) fn take_unread(&self, first: Bytes) -> Bytes {
        let more = self.unread.take();
        if more.is_empty() || first.is_empty() {
            return if more.is_empty() { first } else { more };
        }
        [first, more].concat().into()
    }

    /// The service has got a request.
    pub(super) fn request_begins(&self, has_body: bool) {
        self.expecting.set(true);
        self.begun.set(false);
        self.seat.stage.set(Stage::Exchange);
        self.heads.request(has_body);
        self.exchange.upload().begins(has_body);
        self.exchange.upload().set_client_sends(has_body && self.heads.more() == More::Yes);
        if has_body {
            self.patience.set(PATIENCE);
            self.note_client_sends();
        }
    }

    /// Notes, for a body that is held back until the app asks for it, that the client sends it unasked.
    pub(super) fn note_client_sends(&self) -> bool {
        let patience = self.patience.replace(self.patience.get().saturating_sub(1));
        let sends = self.stream.borrow_mut().as_mut().is_some_and(ClientStream::has_bytes)
            || (patience == 0 && self.heads.more() == More::Unknown);
        sends && self.exchange.upload().set_client_sends(true)
    }

    /// Whether the client has reset the connection, or has vanished. A FIN is no reason to go: it may have said all it had to
    /// say, and still wait for the response.
    pub(super) fn client_is_gone(&self) -> bool {
        let stream = self.stream.borrow();
        stream
            .as_ref()
            .is_none_or(|stream| self.seat.peer.look(stream.as_fd(), Instant::now()) != Presence::There)
    }

    /// Whether more requests have come already (pipelining): a response that says "close" would leave them
    /// unanswered.
    pub(super) fn more_requests_are_here(&self) -> bool {
        let here = |stream: &mut ClientStream| stream.has_bytes() || stream.mid_record();
        self.heads.waiting()
            || !self.unread.borrow().is_empty()
            || self.stream.borrow_mut().as_mut().is_some_and(here)
    }

    pub(super) fn unflushed(&self) -> bool {
        self.unflushed.get()
    }

    /// No request is under way, neither its body nor its response, and nothing is left to be written.
    ///
    /// A response may be over before the request's body is: hyper is in the middle of that then, and what comes next
    /// is no head.
    pub(super) fn is_idle(&self) -> bool {
        !self.exchange.in_flight() && !self.exchange.upload().is_under_way() && !self.unflushed.get()
    }

    /// The response is over and written, and the client still sends the request's body.
    pub(super) fn only_uploads(&self) -> bool {
        !self.exchange.in_flight() && self.exchange.upload().is_open() && !self.unflushed.get()
    }

    /// The last request has come as a whole, so that what is here of hyper's begins another. Of a body that nobody wanted
    /// some may be left, which looks like a request to whoever does not know.
    pub(super) fn is_between(&self) -> bool {
        self.exchange.upload().is_over() && !self.swallowed.get() && !self.last.get()
    }

    /// The connection ends with the present request.
    pub(super) fn set_last(&self) {
        self.last.set(true);
    }

    /// hyper has answered a head that it can't read; the client has not got that.
    pub(super) fn swallowed(&self) -> bool {
        self.swallowed.get()
    }

    /// The client has closed its side.
    pub(super) fn eof(&self) -> bool {
        self.eof.get()
    }

    /// Notes whether a record has begun that may bring a request: that is as good as half a head.
    fn note_partial(&self, mid_record: bool) {
        let (stage, half) = (self.seat.stage.get(), self.half_record.get());
        if mid_record && stage == Stage::Waiting {
            self.half_record.set(true);
            self.seat.enter(Stage::Head, Instant::now());
        } else if !mid_record && half && stage == Stage::Head {
            // It was something else.
            self.half_record.set(false);
            self.seat.enter(Stage::Waiting, self.exchange.idle_since());
        }
    }

    fn note_read(&self, bytes: &[u8]) {
        self.half_record.set(false);
        if bytes.is_empty() {
            self.eof.set(true);
            return;
        }
        let upload = self.exchange.upload().is_open();
        if (self.exchange.in_flight() && !self.begun.get()) || upload {
            self.heads.body();
            if upload && self.seat.stage.get() == Stage::Upload {
                self.seat.since.set(Instant::now());
            }
            return;
        }
        self.heads.read(bytes);
        // Empty lines before a request are nothing (RFC 9112, section 2.2).
        let blank = || bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if self.seat.stage.get() != Stage::Head && !self.begun.get() && !blank() {
            self.seat.enter(Stage::Head, Instant::now());
        }
    }

    fn poll_write_with(
        &self,
        len: usize,
        write: impl FnOnce(Pin<&mut ClientStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !self.expecting.get() {
            self.swallowed.set(true);
            return Poll::Ready(Ok(len));
        }
        self.unflushed.set(true);
        match &mut *self.stream.borrow_mut() {
            Some(stream) => write(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// The client's socket as hyper sees it.
#[derive(Debug)]
pub(super) struct Io(pub(super) Rc<Wire>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &self.0;
        let before = buf.filled().len();
        let mut unread = wire.unread.borrow_mut();
        if unread.is_empty() {
            match &mut *wire.stream.borrow_mut() {
                Some(stream) => match Pin::new(&mut *stream).poll_read(cx, buf) {
                    Poll::Ready(Ok(())) => {}
                    // FIN without a `close_notify`. Requests tell by themselves where they end.
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        wire.note_partial(stream.mid_record());
                        return Poll::Pending;
                    }
                },
                None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            }
        } else {
            let n = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..n]);
            unread.advance(n);
            if unread.is_empty() {
                *unread = Bytes::new();
            }
        }
        wire.note_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write_with(buf.len(), |stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        let mut room: gather::Room = [MaybeUninit::uninit(); gather::SMALL];
        let mut room = ReadBuf::uninit(&mut room);
        self.0.poll_write_with(len, |stream| match gather::together(bufs, &mut room) {
            Some(buf) => stream.poll_write(cx, buf),
            None => stream.poll_write_vectored(cx, bufs),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper calls this when its own buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stream) = &mut *self.0.stream.borrow_mut() {
            ready!(Pin::new(stream).poll_flush(cx))?;
        }
        self.0.unflushed.set(false);
        if !self.0.exchange.in_flight() {
            self.0.expecting.set(false);
        }
        Poll::Ready(Ok(()))
    }

    /// Never: how the connection ends is decided after hyper has let go of it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
