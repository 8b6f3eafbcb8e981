//! What both sides of HTTP/2 have in common: a body that comes in on a stream, and one that goes out on it.
//!
//! Flow control is end to end: what has come in is acknowledged when somebody asks for more, and nothing is
//! asked for before the other side has room for it. So a slow reader stops the sender, and what is held in between
//! is bounded by one stream's window.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::{Error, Reason, RecvStream, SendStream};

/// Fields that HTTP/2 has no place for.
const CONNECTION_SPECIFIC: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// A body that comes in.
#[derive(Debug)]
pub struct Receiving {
    stream: RecvStream,
    /// Handed out, not yet acknowledged.
    owed: usize,
    ended: bool,
}

impl Receiving {
    /// The body of a request or response.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, owed: 0, ended: false }
    }
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.owed > 0 {
            this.stream.release(std::mem::take(&mut this.owed));
        }
        match ready!(this.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                this.owed = data.len();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                this.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.ended = true;
                Poll::Ready(this.stream.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// Why a body did not reach its end.
#[derive(Debug)]
pub enum Broken<E> {
    /// The receiver does not want any more of it.
    Reset(Reason),
    /// The connection is gone.
    Gone,
    /// It broke off where it comes from.
    Source(E),
}

/// A body that goes out.
#[derive(Debug)]
pub struct Sending<B> {
    body: B,
    stream: SendStream,
    /// What the receiver has no room for yet.
    chunk: Bytes,
    /// Something of the body has been taken.
    touched: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `body` on `stream`.
    pub fn new(body: B, stream: SendStream) -> Self {
        Self { body, stream, chunk: Bytes::new(), touched: false }
    }

    /// Ends the stream at once.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.reset(reason);
    }

    /// Whether nothing has been taken from the body.
    pub fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Gives the body back, if nothing has been taken from it.
    pub fn into_untouched(self) -> Option<B> {
        (!self.touched).then_some(self.body)
    }

    /// Forgets what the receiver has no room for; none when there is no such thing. What comes after it in the body
    /// can be sent all the same.
    pub fn forget_chunk(&mut self) -> Option<&mut B> {
        (!std::mem::take(&mut self.chunk).is_empty()).then_some(&mut self.body)
    }

    /// Gives the stream back.
    pub fn into_stream(self) -> SendStream {
        self.stream
    }

    /// Sends as much as there is and as there is room for; ready at the end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        loop {
            if !self.chunk.is_empty() {
                if ready!(self.poll_send_chunk(cx))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // Before that nothing is taken from the body: its end, or its trailers, could not be sent.
            ready!(self.stream.poll_open(cx))?;
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.touched = true;
            match frame {
                None => {
                    self.stream.send_data(&[], true);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.chunk = data,
                    Err(frame) => {
                        if let Ok(mut trailers) = frame.into_trailers() {
                            // An HTTP/1.1 message's may name anything; here they would make it malformed (RFC 9113,
                            // section 8.2.2).
                            for name in CONNECTION_SPECIFIC {
                                trailers.remove(name);
                            }
                            return Poll::Ready(self.stream.send_trailers(&trailers).map_err(Broken::from));
                        }
                    }
                },
            }
        }
    }

    /// Sends what fits of the chunk; true when that was the end of the body.
    fn poll_send_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken<B::Error>>> {
        let room = ready!(self.stream.poll_room(cx))?;
        let len = room.min(self.chunk.len());
        let last = len == self.chunk.len() && self.body.is_end_stream();
        self.stream.send_data(&self.chunk[..len], last);
        self.chunk.advance(len);
        Poll::Ready(Ok(last))
    }
}

impl<E> From<Error> for Broken<E> {
    fn from(error: Error) -> Self {
        match error {
            Error::Reset(reason) => Self::Reset(reason),
            _ => Self::Gone,
        }
    }
}
