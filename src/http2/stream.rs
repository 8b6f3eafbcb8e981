//! The handles of a stream.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::core::{Core, Key, register};
use super::head::{self, Head};
use super::hpack::Encoder;
use super::reason::{Error, Reason};

/// A connection, as its streams see it.
pub(super) type Shared = Rc<RefCell<Core>>;

/// One handle. With the last one the stream ends, if it has not ended.
#[derive(Debug)]
struct Handle {
    core: Shared,
    key: Key,
}

impl Handle {
    fn new(core: &Shared, key: Key) -> Self {
        core.borrow_mut().slots[key].handles += 1;
        Self { core: Rc::clone(core), key }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut core = self.core.borrow_mut();
        let slot = &mut core.slots[self.key];
        slot.handles -= 1;
        if slot.handles == 0 {
            core.abandon(self.key);
        }
    }
}

/// What comes on a stream.
#[derive(Debug)]
pub struct RecvStream(Handle);

/// What goes out on a stream.
#[derive(Debug)]
pub struct SendStream(Handle);

/// Both handles of a stream.
pub(super) fn handles(core: &Shared, key: Key) -> (RecvStream, SendStream) {
    (RecvStream(Handle::new(core, key)), SendStream(Handle::new(core, key)))
}

impl RecvStream {
    /// Waits for the head of the response.
    ///
    /// # Errors
    /// There will be none.
    pub fn poll_head(&mut self, cx: &Context<'_>) -> Poll<Result<Head, Error>> {
        let slot = &mut self.0.core.borrow_mut().slots[self.0.key];
        match (slot.head.take(), slot.error) {
            (Some(Ok(head)), _) => Poll::Ready(Ok(head)),
            (_, Some(error)) => Poll::Ready(Err(error)),
            _ => {
                register(&mut slot.reader, cx);
                Poll::Pending
            }
        }
    }

    /// Whether a 100 (Continue) has come since the last call. Whoever waits for the head is woken for it.
    pub fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.0.core.borrow_mut().slots[self.0.key].continued)
    }

    /// Waits for more of the body. What is handed out has to be [released](RecvStream::release).
    ///
    /// # Errors
    /// The body breaks off.
    pub fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut core = self.0.core.borrow_mut();
        if let Some(data) = core.take_data(self.0.key) {
            return Poll::Ready(Some(Ok(data)));
        }
        let slot = &mut core.slots[self.0.key];
        if slot.received {
            return Poll::Ready(None);
        }
        if let Some(error) = slot.error {
            return Poll::Ready(Some(Err(error)));
        }
        register(&mut slot.reader, cx);
        Poll::Pending
    }

    /// What came behind the body.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.0.core.borrow_mut().slots[self.0.key].trailers.take()?.into_map().ok()
    }

    /// So many bytes have been passed on: the sender may go on with as many.
    pub fn release(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.0.core.borrow_mut().release(self.0.key, bytes);
    }

    /// Nothing more will come.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        let slot = &self.0.core.borrow().slots[self.0.key];
        slot.received && slot.inbox.is_empty() && slot.trailers.is_none()
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.0.core.borrow_mut().forget(self.0.key);
    }
}

impl SendStream {
    /// Another handle.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self(Handle::new(&self.0.core, self.0.key))
    }

    /// Answers.
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_response(&mut self, response: &Response<()>, end: bool) -> Result<(), Error> {
        self.send_head(end, |out| head::put_response(out, response))
    }

    /// Answers with a head as it came from the app.
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_head_of(&mut self, head: &Head, end: bool) -> Result<(), Error> {
        self.send_head(end, |out| head.put(out))
    }

    /// Says 100 (Continue).
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_continue(&mut self) -> Result<(), Error> {
        self.send_head(false, |out| Encoder::status(out, 100))
    }

    /// Says what comes behind the body.
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_trailers(&mut self, trailers: &HeaderMap) -> Result<(), Error> {
        self.send_head(true, |out| head::put_map(out, trailers))
    }

    fn send_head(&mut self, end: bool, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        self.0.core.borrow_mut().send_head(self.0.key, end, write)
    }

    /// Waits until the head has been sent: a request may have to wait for others. Then whoever has asked is woken when
    /// the stream is over before its end.
    ///
    /// # Errors
    /// The stream is over.
    pub fn poll_open(&mut self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let slot = &mut self.0.core.borrow_mut().slots[self.0.key];
        if let Some(error) = slot.error {
            return Poll::Ready(Err(error));
        }
        register(&mut slot.writer, cx);
        if slot.number > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// How many bytes may be sent now.
    ///
    /// # Errors
    /// The stream is over.
    pub fn poll_room(&mut self, cx: &Context<'_>) -> Poll<Result<usize, Error>> {
        self.0.core.borrow_mut().poll_room(self.0.key, cx)
    }

    /// Sends a part of the body for which there is room, or its end.
    pub fn send_data(&mut self, data: &[u8], end: bool) {
        self.0.core.borrow_mut().send_data(self.0.key, data, end);
    }

    /// Ends the stream at once.
    pub fn reset(&mut self, reason: Reason) {
        self.0.core.borrow_mut().reset(self.0.key, reason, Error::Reset(reason));
    }

    /// Waits until the stream is over before its end.
    pub fn poll_error(&mut self, cx: &Context<'_>) -> Poll<Error> {
        let slot = &mut self.0.core.borrow_mut().slots[self.0.key];
        match slot.error {
            Some(error) => Poll::Ready(error),
            None => {
                register(&mut slot.writer, cx);
                Poll::Pending
            }
        }
    }
}
