//! What both sides of HTTP/2 have in common: a body that comes in on a stream, and one that goes out on it.
//!
//! Flow control is end to end: what has come in is acknowledged when somebody asks for more, and nothing is
//! asked for before the other side has room for it. So a slow reader stops the sender, and what is held in between
//! is bounded by one stream's window.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};

/// The largest window of a stream, in bytes: what may be under way on it. Larger ones help only where the round trip
/// takes long; each stream may hold this much memory.
pub const STREAM_WINDOW: u32 = 128 << 10;

/// What may wait on a stream for a socket that takes nothing, however large the windows of the other side are.
pub const SEND_BUFFER: usize = 64 << 10;

/// The window of all streams of a client's connection together: so many uploads may be stuck in the app before others
/// on the same connection are held up, and so much memory one client can take up.
pub const CONNECTION_WINDOW: u32 = 32 * STREAM_WINDOW;

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
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.owed > 0 {
            // Fails only for a stream that is closed, which needs no window any more.
            let _ = this.stream.flow_control().release_capacity(std::mem::take(&mut this.owed));
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
                let trailers = ready!(this.stream.poll_trailers(cx));
                this.ended = true;
                Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
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
    stream: SendStream<Bytes>,
    /// What the receiver has no room for yet.
    chunk: Bytes,
    /// Something of the body has been taken.
    touched: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `body` on `stream`.
    pub fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, chunk: Bytes::new(), touched: false }
    }

    /// Ends the stream at once.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
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
    pub fn into_stream(self) -> SendStream<Bytes> {
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
            if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or(Broken::Gone, Broken::Reset)));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.touched = true;
            match frame {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(gone)),
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
                            return Poll::Ready(self.stream.send_trailers(trailers).map_err(gone));
                        }
                    }
                },
            }
        }
    }

    /// Sends what fits of the chunk; true when that was the end of the body.
    fn poll_send_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken<B::Error>>> {
        self.stream.reserve_capacity(self.chunk.len());
        let mut room = self.stream.capacity();
        if room == 0 {
            room = match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                // Closed: by a reset, or with the connection.
                Some(Err(_)) | None => {
                    let reset = ready!(self.stream.poll_reset(cx));
                    return Poll::Ready(Err(reset.map_or(Broken::Gone, Broken::Reset)));
                }
            };
        }
        let part = self.chunk.split_to(room.min(self.chunk.len()));
        let last = self.chunk.is_empty() && self.body.is_end_stream();
        Poll::Ready(self.stream.send_data(part, last).map(|()| last).map_err(gone))
    }
}

fn gone<E>(_: h2::Error) -> Broken<E> {
    Broken::Gone
}
