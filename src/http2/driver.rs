//! Reads from a connection's socket and writes to it.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Core;
use super::frame::PREFACE;
use super::reason::{Error, Reason};
use super::stream::Shared;

/// How much is read at a time.
const READ: usize = 32 << 10;

/// A connection's socket and what is known of it.
#[derive(Debug)]
pub(super) struct Driver<T> {
    io: T,
    pub(super) core: Shared,
    /// Read, but not a whole frame yet.
    partial: Vec<u8>,
    /// How much of the preface has to come still.
    preface: usize,
    eof: bool,
    /// Nothing is read before what there is has been written.
    held: bool,
}

impl<T> Drop for Driver<T> {
    /// Handles may live on, in tasks of their own: nobody will ever move them again.
    fn drop(&mut self) {
        self.core.borrow_mut().fail(Error::Gone(io::ErrorKind::BrokenPipe));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// `preface`: it has to come first.
    pub(super) fn new(io: T, core: Core, preface: bool) -> Self {
        let preface = if preface { PREFACE.len() } else { 0 };
        Self { io, core: Rc::new(RefCell::new(core)), partial: Vec::new(), preface, eof: false, held: false }
    }

    /// Takes what has come. Ready when nothing more will.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            {
                let core = self.core.borrow();
                if let Some(error) = core.gone {
                    return Poll::Ready(if self.eof { Ok(()) } else { Err(error) });
                }
                if core.is_held_back() {
                    self.held = true;
                    return Poll::Pending;
                }
                if core.closing.is_some() && core.role == super::core::Role::Server && core.slots.is_empty() {
                    return Poll::Pending;
                }
                drop(core);
            }
            let mut room = [MaybeUninit::uninit(); READ];
            let mut room = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut room));
            let mut core = self.core.borrow_mut();
            if let Err(error) = read {
                return Poll::Ready(Err(core.lose(&error)));
            }
            if room.filled().is_empty() {
                self.eof = true;
                core.lose(&io::ErrorKind::UnexpectedEof.into());
                return Poll::Ready(Ok(()));
            }
            drop(core);
            self.take(room.filled())?;
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut core = self.core.borrow_mut();
        let mut bytes = bytes;
        if self.preface > 0 {
            let begun = PREFACE.len() - self.preface;
            let part = self.preface.min(bytes.len());
            if bytes[..part] != PREFACE[begun..begun + part] {
                return Err(core.breach(Reason::PROTOCOL_ERROR));
            }
            self.preface -= part;
            bytes = &bytes[part..];
        }
        if self.partial.is_empty() {
            let taken = core.take(bytes)?;
            self.partial.extend_from_slice(&bytes[taken..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let taken = core.take(&self.partial)?;
            self.partial.drain(..taken);
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        Ok(())
    }

    /// Writes what there is to be written. Ready when that is all.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut core = self.core.borrow_mut();
        while !core.out.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, core.out.unwritten())) {
                Ok(0) => return Poll::Ready(Err(core.lose(&io::ErrorKind::WriteZero.into()))),
                Ok(written) => core.out.advance(written),
                Err(error) => return Poll::Ready(Err(core.lose(&error))),
            }
            core.wake_waiting();
        }
        if core.slots.is_empty() {
            core.out.shrink();
        }
        if std::mem::take(&mut self.held) {
            cx.waker().wake_by_ref();
        }
        drop(core);
        Pin::new(&mut self.io).poll_flush(cx).map_err(|error| self.core.borrow_mut().lose(&error))
    }

    /// Ends what we say.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
