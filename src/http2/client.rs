//! Connections to the app.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::STREAM_WINDOW;
use super::core::{Core, Limits, Role};
use super::driver::Driver;
use super::frame::{PREFACE, setting};
use super::head;
use super::reason::{Error, Reason};
use super::stream::{RecvStream, SendStream, Shared, handles};

/// Opens streams on a connection. Without any of these the connection ends with its last stream.
#[derive(Debug)]
pub struct SendRequest {
    pub(super) core: Shared,
}

/// Moves a connection on, until its end.
#[derive(Debug)]
#[must_use = "nothing happens unless it is polled"]
pub struct Connection<T> {
    driver: Driver<T>,
    shutdown: bool,
}

/// A connection whose streams have together a window of `window` bytes, and whose responses have heads of up to so many.
pub fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    window: u32,
    head_max: usize,
) -> (SendRequest, Connection<T>) {
    let limits =
        Limits { stream_window: STREAM_WINDOW, connection_window: window, streams: 0, head: head_max };
    let mut core = Core::new(Role::Client, limits);
    core.out.data().extend_from_slice(PREFACE);
    core.greet(&[
        (setting::ENABLE_PUSH, 0),
        (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (setting::MAX_HEADER_LIST_SIZE, u32::try_from(head_max).unwrap_or(u32::MAX)),
    ]);
    let driver = Driver::new(io, core, false);
    let sender = SendRequest { core: Rc::clone(&driver.core) };
    (sender, Connection { driver, shutdown: false })
}

impl SendRequest {
    /// Sends the head of a request, with nothing behind it if this is its `end`; later, if the app allows no more streams
    /// at the moment.
    ///
    /// # Errors
    /// The connection takes no more. Nothing has been sent.
    pub fn send_request(&self, request: &Request<()>, end: bool) -> Result<(RecvStream, SendStream), Error> {
        let is_head = request.method() == Method::HEAD;
        self.send(is_head, end, |out| head::put_request(out, request))
    }

    /// The same, with the fields that `write` appends. `is_head`: the response has no body, whatever its head says.
    ///
    /// # Errors
    /// As for [`SendRequest::send_request`].
    pub fn send(
        &self,
        is_head: bool,
        end: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(RecvStream, SendStream), Error> {
        let mut core = self.core.borrow_mut();
        if let Some(error) = core.refuses() {
            return Err(error);
        }
        let key = core.insert_unopened();
        core.slots[key].is_head = is_head;
        if core.open < core.peer_streams && core.queue.is_empty() {
            if core.open(key).is_none() {
                core.remove(key);
                return Err(Error::Unprocessed(Reason::NO_ERROR));
            }
            core.send_head(key, end, write)?;
        } else {
            let mut block = Vec::new();
            write(&mut block);
            core.slots[key].unsent = Some(Box::new((block, end)));
            core.queue.push_back(key);
        }
        drop(core);
        Ok(handles(&self.core, key))
    }

    /// The app takes so little of what it is sent that nothing new should be sent to it here.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.core.borrow().out.is_full()
    }

    /// How many streams the app allows at a time.
    #[must_use]
    pub fn streams_max(&self) -> u32 {
        self.core.borrow().peer_streams
    }
}

impl Drop for SendRequest {
    fn drop(&mut self) {
        self.core.borrow_mut().wake_driver();
    }
}

impl Core {
    /// Why there can be no more streams.
    fn refuses(&self) -> Option<Error> {
        let leaving = self.leaving.or(self.closing).map(Error::Unprocessed);
        self.gone.or(leaving)
    }

    /// Sends the requests that have waited for their turn.
    pub(super) fn open_queued(&mut self) {
        while self.open < self.peer_streams
            && let Some(key) = self.queue.pop_front()
        {
            let Some(unsent) = self.slots.get_mut(key).and_then(|slot| slot.unsent.take()) else { continue };
            let (block, end) = *unsent;
            if self.open(key).is_none() {
                self.reset(key, Reason::REFUSED_STREAM, Error::Unprocessed(Reason::NO_ERROR));
                continue;
            }
            // It has just been opened, and is not over.
            let _ = self.send_head(key, end, |out| out.extend_from_slice(&block));
            if let Some(slot) = self.slots.get_mut(key) {
                slot.wake();
            }
        }
    }

    /// The app goes, and has not looked at the streams above `last`.
    pub(super) fn leave_out(&mut self, last: u32, reason: Reason) {
        let error = Error::Unprocessed(reason);
        let left_out: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.number > last || slot.number == 0)
            .map(|(key, _)| key)
            .collect();
        for &key in &left_out {
            let slot = &mut self.slots[key];
            if slot.error.is_none() {
                slot.error = Some(error);
                slot.unsent = None;
                slot.wake();
            }
        }
        // Only now: the first that is over would make room for one that waits.
        for key in left_out {
            self.settle(key);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Nobody can open a stream any more.
    fn is_orphaned(&self) -> bool {
        // The driver's own is the only one that is left, and each stream has its own.
        Rc::strong_count(&self.driver.core) == 1
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.driver.core.borrow_mut().drive(cx);
        let read = this.driver.poll_read(cx);
        {
            let mut core = this.driver.core.borrow_mut();
            if core.leaving.is_some() && core.slots.is_empty() {
                core.close(Reason::NO_ERROR);
            }
        }
        if this.is_orphaned() {
            this.driver.core.borrow_mut().close(Reason::NO_ERROR);
        }
        let written = this.driver.poll_write(cx);
        this.driver.core.borrow_mut().rest();
        if let Poll::Ready(read) = read {
            return Poll::Ready(read);
        }
        ready!(written)?;
        let core = this.driver.core.borrow();
        if core.closing.is_none() {
            return Poll::Pending;
        }
        drop(core);
        let _ = ready!(this.driver.poll_shutdown(cx));
        this.shutdown = true;
        Poll::Ready(Ok(()))
    }
}
