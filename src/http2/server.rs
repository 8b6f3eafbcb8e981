//! Connections of clients.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::core::{Core, Limits, Role, TooLarge};
use super::driver::Driver;
use super::frame::{self, kind, setting};
use super::head::Head;
use super::reason::{Error, Reason};
use super::stream::{RecvStream, SendStream, handles};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// The ping behind the first GOAWAY. Those of keep-alive have other bytes.
pub(super) const GOING: &[u8] = b"go away!";

const ALIVE: &[u8] = b"alive???";

/// What a first GOAWAY says that leaves nothing out.
const EVERYTHING: u32 = (1 << 31) - 1;

/// A client's connection. It moves only when it is polled: [`poll_accept`](Connection::poll_accept) reads,
/// [`poll_end`](Connection::poll_end) writes.
#[derive(Debug)]
pub struct Connection<T> {
    pub(super) driver: Driver<T>,
}

/// A stream that the client has opened.
#[derive(Debug)]
pub struct Accepted {
    /// The request's head; none when it is larger than allowed.
    pub head: Option<Head>,
    /// The request's body.
    pub body: RecvStream,
    /// Where to answer.
    pub respond: SendStream,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Of a client who may open so many streams at a time, with heads up to so many bytes. The preface has not been read
    /// yet.
    pub fn new(io: T, streams: u32, head_max: usize) -> Self {
        let limits = Limits {
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            streams,
            head: head_max,
        };
        let mut core = Core::new(Role::Server, limits);
        core.greet(&[
            (setting::MAX_CONCURRENT_STREAMS, streams),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, u32::try_from(head_max).unwrap_or(u32::MAX)),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ]);
        Self { driver: Driver::new(io, core, true) }
    }

    /// Waits for a stream; none when the connection has come to its end.
    ///
    /// # Errors
    /// The connection is over.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Accepted, Error>>> {
        self.driver.core.borrow_mut().drive(cx);
        if let Some(accepted) = self.next() {
            return Poll::Ready(Some(Ok(accepted)));
        }
        match self.driver.poll_read(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            Poll::Ready(Err(error)) => {
                // Why it is given up should arrive.
                let _ = self.driver.poll_write(cx);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => match self.next() {
                Some(accepted) => Poll::Ready(Some(Ok(accepted))),
                None => Poll::Pending,
            },
        }
    }

    fn next(&mut self) -> Option<Accepted> {
        loop {
            let mut core = self.driver.core.borrow_mut();
            let key = core.queue.pop_front()?;
            let Some(head) = core.slots.get_mut(key).and_then(|slot| slot.head.take()) else { continue };
            if core.gone.is_some() {
                // Nobody would hear the answer.
                core.settle(key);
                continue;
            }
            drop(core);
            let (body, respond) = handles(&self.driver.core, key);
            return Some(Accepted { head: head.map_err(|TooLarge| ()).ok(), body, respond });
        }
    }

    /// Writes what there is to be written, after everything else. Ready when the connection has come to its end.
    ///
    /// # Errors
    /// The connection is over.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut core = self.driver.core.borrow_mut();
        if core.leaving.is_some() && core.slots.is_empty() {
            core.close(Reason::NO_ERROR);
        }
        drop(core);
        let written = self.driver.poll_write(cx);
        let mut core = self.driver.core.borrow_mut();
        core.rest();
        match written {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => match core.closing {
                Some(Reason::NO_ERROR) if core.slots.is_empty() => Poll::Ready(Ok(())),
                Some(reason) if reason != Reason::NO_ERROR => Poll::Ready(Err(Error::Breach(reason))),
                _ => Poll::Pending,
            },
        }
    }

    /// Tells the client to go: it may finish what it has begun, also what it opens before it hears of it.
    pub fn graceful_shutdown(&mut self) {
        let mut core = self.driver.core.borrow_mut();
        if core.closing.is_none() {
            core.told = true;
            let out = core.out.data();
            frame::put_goaway(out, EVERYTHING, Reason::NO_ERROR);
            frame::put(out, kind::PING, 0, 0, GOING);
            core.wake_driver();
        }
    }

    /// Ends the connection: no new streams, and those that are there end with anything but `NO_ERROR`.
    pub fn abrupt_shutdown(&mut self, reason: Reason) {
        let mut core = self.driver.core.borrow_mut();
        core.close(reason);
        if reason != Reason::NO_ERROR {
            core.fail(Error::Breach(reason));
        }
    }

    /// Asks whether the client is there.
    pub fn ping(&mut self) {
        let mut core = self.driver.core.borrow_mut();
        core.pinged = true;
        frame::put(core.out.data(), kind::PING, 0, 0, ALIVE);
        core.wake_driver();
    }

    /// The client has not answered yet.
    #[must_use]
    pub fn is_pinged(&self) -> bool {
        self.driver.core.borrow().pinged
    }

    /// Nothing is read, because too much waits to be written.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.driver.core.borrow().is_held_back()
    }

    /// Whether a stream is under way, or something of it has not been written.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        let core = self.driver.core.borrow();
        !core.slots.is_empty() || !core.out.is_empty()
    }

    /// How often the client has done what costs more than it should, since the last call.
    pub fn take_offences(&mut self) -> u32 {
        std::mem::take(&mut self.driver.core.borrow_mut().offences)
    }
}
