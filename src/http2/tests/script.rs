//! A connection whose other end is the test itself, byte for byte, and tasks that are polled only when they were woken.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::Error;
use crate::http2::frame::{self, HEAD};
use crate::http2::hpack::Encoder;
use crate::http2::server::{Accepted, Connection};

/// What goes to us and what comes from us.
#[derive(Debug, Default)]
struct Wire {
    incoming: Vec<u8>,
    /// As much is read at a time, in turn.
    cuts: Vec<usize>,
    reads: usize,
    eof: bool,
    outgoing: Vec<u8>,
    /// So much more may be written.
    room: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Both ends of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Script(Rc<RefCell<Wire>>);

impl Script {
    pub(super) fn new(cuts: Vec<usize>, room: usize) -> Self {
        let this = Self::default();
        (this.0.borrow_mut().cuts, this.0.borrow_mut().room) = (cuts, room);
        this
    }

    pub(super) fn feed(&self, bytes: &[u8]) {
        let mut wire = self.0.borrow_mut();
        wire.incoming.extend_from_slice(bytes);
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn end(&self) {
        let mut wire = self.0.borrow_mut();
        wire.eof = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    /// So much more is taken.
    pub(super) fn allow(&self, bytes: usize) {
        let mut wire = self.0.borrow_mut();
        wire.room = wire.room.saturating_add(bytes);
        wire.writer.take().into_iter().for_each(Waker::wake);
    }

    /// More would be taken than there is.
    pub(super) fn has_room(&self) -> bool {
        self.0.borrow().room > 0
    }

    /// Everything has been read.
    pub(super) fn is_read(&self) -> bool {
        self.0.borrow().incoming.is_empty()
    }

    /// The whole frames that have come from us since the last time.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let mut wire = self.0.borrow_mut();
        if wire.outgoing.starts_with(frame::PREFACE) {
            wire.outgoing.drain(..frame::PREFACE.len());
        }
        let (frames, taken) = frames_of(&wire.outgoing);
        wire.outgoing.drain(..taken);
        frames
    }
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        if wire.incoming.is_empty() && !wire.eof {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let cut = if wire.cuts.is_empty() { usize::MAX } else { wire.cuts[wire.reads % wire.cuts.len()] };
        wire.reads += 1;
        let len = cut.min(wire.incoming.len()).min(buf.remaining());
        buf.put_slice(&wire.incoming[..len]);
        wire.incoming.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let len = bytes.len().min(wire.room);
        if len == 0 {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.room -= len;
        wire.outgoing.extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// Frames.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The first number in it.
    pub(super) fn number(&self) -> u32 {
        frame::number(&self.payload)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The whole frames that these bytes begin with, and how long they are.
pub(super) fn frames_of(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes[at..].first_chunk() {
        let head = frame::Head::read(head);
        let Some(payload) = bytes.get(at + HEAD..at + HEAD + head.len) else { break };
        at += HEAD + head.len;
        let payload = payload.to_vec();
        frames.push(Frame { kind: head.kind, flags: head.flags, stream: head.stream, payload });
    }
    (frames, at)
}

pub(super) fn put(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, kind, flags, stream, payload);
    out
}

pub(super) fn put_number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    put(kind, 0, stream, &number.to_be_bytes())
}

pub(super) fn put_settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_settings(&mut out, settings);
    out
}

/// What a client begins with.
pub(super) fn greeting(settings: &[(u16, u32)]) -> Vec<u8> {
    [frame::PREFACE, &put_settings(settings)].concat()
}

/// A head as it is on the wire, without the frame.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        Encoder::field(&mut out, name.as_bytes(), value.as_bytes(), false);
    }
    out
}

pub(super) const POST: &[(&str, &str)] = &[(":method", "POST"), (":scheme", "http"), (":path", "/")];
pub(super) const OK: &[(&str, &str)] = &[(":status", "200")];

// Tasks.

#[derive(Debug)]
pub(super) struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Woken {
    /// Has been woken since the last time.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

pub(super) fn woken() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    (Arc::clone(&woken), Waker::from(woken))
}

/// A future that is polled when it has been woken and at no other time.
pub(super) struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    waker: Waker,
}

impl Task {
    pub(super) fn new(future: impl Future<Output = ()> + 'static) -> Self {
        let (woken, waker) = woken();
        Self { future: Some(Box::pin(future)), woken, waker }
    }

    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

/// Polls until nobody is woken any more.
pub(super) fn run(tasks: &mut [Task]) {
    let mut polls = 0;
    let mut busy = true;
    while std::mem::take(&mut busy) {
        for task in &mut *tasks {
            if let Some(future) = &mut task.future
                && task.woken.take()
            {
                (busy, polls) = (true, polls + 1);
                assert!(polls < 100_000, "they wake each other for ever");
                if future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready() {
                    task.future = None;
                }
            }
        }
    }
}

/// One turn of a server's connection: what has come is taken, and written what there is. Ready at its end.
pub(super) fn turn(
    connection: &mut Connection<Script>,
    cx: &mut Context<'_>,
    mut accept: impl FnMut(Accepted),
) -> Poll<Result<(), Error>> {
    loop {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok(accepted))) => accept(accepted),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending => return connection.poll_end(cx),
        }
    }
}
