//! A request and its response on a stream of a connection to the app.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body as _;

use super::{Failed, Slot};
use crate::http2::{Broken, Error, Head, Reason, Receiving, RecvStream, SendStream, Sending};
use crate::metrics::UpstreamFailure;
use crate::upstream::SendError;
use crate::upstream::body::{Asked, RequestBody, Upload};
use crate::upstream::link::Replay;

/// A request on its stream, with its head for a second time.
#[derive(Debug)]
pub(super) struct Call<H> {
    slot: Slot,
    head: H,
    response: RecvStream,
    outgoing: Outgoing,
    asked: Option<Asked>,
}

/// A request of which nothing has been sent, or nothing that counts.
#[derive(Debug)]
pub(super) struct Unsent<H> {
    pub(super) head: H,
    pub(super) body: RequestBody,
}

/// The request's side of a stream. Dropped, it tells the app why the client has given the exchange up, if it has.
#[derive(Debug)]
struct Outgoing {
    state: Going,
    upload: Upload,
}

#[derive(Debug)]
enum Going {
    /// There is no body; it is kept for a second time.
    Bodyless(RequestBody, SendStream),
    Sending(Sending<RequestBody>),
    /// What is left is the handle to reset the stream with.
    Sent(SendStream),
    /// Somebody else has it.
    Taken,
}

impl Outgoing {
    fn take(&mut self) -> Going {
        std::mem::replace(&mut self.state, Going::Taken)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(reason) = self.upload.reset() {
            match &mut self.state {
                Going::Bodyless(_, stream) | Going::Sent(stream) => stream.reset(reason),
                Going::Sending(sending) => sending.reset(reason),
                Going::Taken => {}
            }
        }
    }
}

impl Call<Request<()>> {
    /// Sends the head. Gives the request back if the connection has ended.
    pub(super) fn new(
        slot: Slot,
        mut head: Request<()>,
        body: RequestBody,
    ) -> Result<Self, Box<Unsent<Request<()>>>> {
        let asked = head.extensions_mut().remove::<Asked>();
        let Ok(stream) = slot.conn.sender.send_request(&head, body.is_end_stream()) else {
            slot.mux.forget(&slot.conn);
            return Err(Box::new(Unsent { head, body }));
        };
        Ok(Self { asked, ..Self::sent(slot, head, stream, body) })
    }

    /// Waits for the head of the response.
    pub(super) async fn answer(mut self) -> Result<Response<Streamed>, Unanswered<Request<()>>> {
        let head = match poll_fn(|cx| self.poll_head(cx)).await {
            Ok(head) => head.into_response().map_err(Some),
            Err(error) => Err(error),
        };
        match head {
            Ok(head) => {
                let body = self.into_body();
                Ok(head.map(|()| body))
            }
            Err(error) => Err(self.into_unanswered(error)),
        }
    }
}

impl<H> Call<H> {
    /// A request whose head has been sent on this stream.
    pub(super) fn sent(
        slot: Slot,
        head: H,
        (response, stream): (RecvStream, SendStream),
        body: RequestBody,
    ) -> Self {
        let upload = body.upload().clone();
        let end = body.is_end_stream();
        let state =
            if end { Going::Bodyless(body, stream) } else { Going::Sending(Sending::new(body, stream)) };
        Self { slot, head, response, outgoing: Outgoing { state, upload }, asked: None }
    }

    /// There is no head, or no proper one.
    pub(super) fn into_unanswered(mut self, error: Option<Error>) -> Unanswered<H> {
        let body = match self.outgoing.take() {
            Going::Bodyless(body, _) => Some(body),
            Going::Sending(sending) => sending.into_untouched(),
            Going::Sent(_) | Going::Taken => None,
        };
        if matches!(error, Some(Error::Unprocessed(_))) {
            self.slot.mux.forget(&self.slot.conn);
        }
        let broken = self.outgoing.upload.is_broken();
        Unanswered { error, head: self.head, body, broken }
    }

    /// Waits for the head of the response; meanwhile the request's body goes out.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Option<Error>>> {
        if self.response.take_continue()
            && let Some(asked) = self.asked.take()
        {
            asked.tell();
        }
        if let Going::Sending(sending) = &mut self.outgoing.state {
            match sending.poll(cx) {
                Poll::Ready(Err(Broken::Source(error))) => {
                    sending.reset(error.reset().unwrap_or(Reason::CANCEL));
                    return Poll::Ready(Err(None));
                }
                // What the app says to that is in its response. If it has refused the stream before anything of the
                // body was taken, that is still here to be sent again.
                Poll::Ready(Err(Broken::Reset(_) | Broken::Gone)) if sending.is_untouched() => {}
                Poll::Ready(Ok(()) | Err(Broken::Reset(_) | Broken::Gone)) => {
                    if let Going::Sending(sending) = self.outgoing.take() {
                        self.outgoing.state = Going::Sent(sending.into_stream());
                    }
                }
                Poll::Pending => {}
            }
        }
        self.response.poll_head(cx).map_err(Some)
    }

    /// The response's body. What is left of the request's goes on by itself: whoever reads the one must not be the
    /// one who moves the other.
    pub(super) fn into_body(self) -> Streamed {
        let Self { slot, response, mut outgoing, .. } = self;
        let slot = Rc::new(slot);
        let upload = outgoing.upload.clone();
        let sent = match outgoing.take() {
            Going::Sending(sending) => {
                tokio::task::spawn_local(send_on(sending, upload, Rc::clone(&slot)));
                None
            }
            Going::Bodyless(_, stream) | Going::Sent(stream) => Some(Sent { stream, upload }),
            Going::Taken => None,
        };
        Streamed { incoming: Receiving::new(response), _sent: sent, _slot: slot }
    }
}

/// Why there is no response, and what is left of the request.
pub(super) struct Unanswered<H> {
    /// None when the request's body broke off, or the stream ended without a word.
    error: Option<Error>,
    head: H,
    /// If nothing of it has been taken.
    body: Option<RequestBody>,
    /// The client broke its body off.
    broken: bool,
}

impl<H> Unanswered<H> {
    /// The request, if it may be sent again; it had been sent on a connection that was `pooled`, or on one opened for it.
    pub(super) fn into_unsent(mut self, pooled: bool, replay: Replay) -> Result<Unsent<H>, Failed> {
        let again = self.error.as_ref().is_some_and(|error| {
            unprocessed(error) || (matches!(error, Error::Gone(_)) && pooled && replay == Replay::Unanswered)
        });
        match self.body.take() {
            Some(body) if again && !self.broken => Ok(Unsent { head: self.head, body }),
            _ => Err(self.failed()),
        }
    }

    /// What that means for the client.
    pub(super) fn failed(self) -> Failed {
        match self.error {
            _ if self.broken => Failed::Send(SendError::Client),
            Some(error) => Failed::Send(failure(&error)),
            None => Failed::Send(SendError::App(UpstreamFailure::Reset)),
        }
    }
}

/// Sends the rest of a request's body, unless the client gives the exchange up.
async fn send_on(mut sending: Sending<RequestBody>, upload: Upload, slot: Rc<Slot>) {
    let settling = upload.settling();
    let given_up = poll_fn(|cx| match sending.poll(cx) {
        Poll::Ready(Err(Broken::Source(error))) => Poll::Ready(Some(error.reset().unwrap_or(Reason::CANCEL))),
        Poll::Ready(Ok(()) | Err(Broken::Reset(_) | Broken::Gone)) => Poll::Ready(None),
        Poll::Pending => upload.poll_reset(cx).map(Some),
    })
    .await;
    if let Some(reason) = given_up {
        sending.reset(reason);
    }
    drop((slot, settling));
}

/// The body of a response that comes on a stream.
#[derive(Debug)]
pub(in crate::upstream) struct Streamed {
    pub(in crate::upstream) incoming: Receiving,
    _sent: Option<Sent>,
    _slot: Rc<Slot>,
}

/// What is left of a request that has been sent. Like [`Outgoing`] it tells the app why, in less room.
#[derive(Debug)]
struct Sent {
    stream: SendStream,
    upload: Upload,
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(reason) = self.upload.reset() {
            self.stream.reset(reason);
        }
    }
}

/// The app has not looked at the request.
fn unprocessed(error: &Error) -> bool {
    matches!(error, Error::Unprocessed(_) | Error::Reset(Reason::REFUSED_STREAM))
}

fn failure(error: &Error) -> SendError {
    match *error {
        Error::Reset(reason) => SendError::Reset(reason),
        // Not processed, but the body is gone: the client may send it again.
        Error::Unprocessed(_) => SendError::Reset(Reason::REFUSED_STREAM),
        Error::Breach(_) => SendError::App(UpstreamFailure::Invalid),
        Error::Gone(_) => SendError::App(UpstreamFailure::Reset),
    }
}
