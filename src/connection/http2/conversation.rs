//! One stream: a request and its response.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;

use super::websocket::{self, StreamSide};
use crate::connection::Site;
use crate::http2::{Broken, Error, Reason, RecvStream, SendStream, Sending};
use crate::proxy::{self, Body, BodyError, Exchange, Form};
use crate::upstream::{Incoming, Stream};

type Answering = <proxy::Stack as tower::Service<Request<Incoming>>>::Future;

/// How a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a response, or with a reset of ours.
    Answered,
    /// The client has given it up before there was a response.
    Unwanted,
}

/// A stream, from its request to the end of its response.
pub(super) struct Conversation {
    state: State,
    /// Where to answer, until that has begun.
    respond: Option<SendStream>,
    exchange: Rc<Exchange>,
    /// All of the response has been handed over.
    whole: bool,
    /// The request is for a WebSocket.
    offer: Option<Box<Offer>>,
    /// Its connection's place among others, for a stream of events.
    place: f64,
}

enum State {
    Answering(Answering),
    Sending(Sending<Body>),
}

impl Conversation {
    pub(super) fn new(
        answering: Answering,
        respond: SendStream,
        exchange: Rc<Exchange>,
        place: f64,
        offer: Option<Box<Offer>>,
    ) -> Self {
        Self {
            state: State::Answering(answering),
            respond: Some(respond),
            exchange,
            whole: false,
            offer,
            place,
        }
    }

    /// Answers a request that nobody looks at, if the client still wants to know.
    pub(super) fn refused(error: proxy::Error, respond: SendStream, exchange: Rc<Exchange>) -> Option<Self> {
        let (parts, body) = error.response(Form::Text).into_parts();
        let mut stream = respond;
        stream.send_response(&Response::from_parts(parts, ()), false).ok()?;
        let state = State::Sending(Sending::new(body, stream));
        Some(Self { state, respond: None, exchange, whole: false, offer: None, place: 0.0 })
    }

    /// Sends the head of the response; none when that was all of it.
    fn send_head(&mut self, response: Response<Body>) -> Option<Sending<Body>> {
        let (mut parts, mut body) = response.into_parts();
        if let Some((app, from_app)) = body.take_upgrade() {
            return self.switch(parts.headers, app, from_app);
        }
        body.spread(self.place);
        let mut stream = self.respond.take()?;
        if let Some(reason) = parts.extensions.remove::<Reason>() {
            stream.reset(reason);
            return None;
        }
        let end = body.is_end_stream();
        // Fails only when the client has reset the stream, or is gone.
        stream.send_response(&Response::from_parts(parts, ()), end).ok()?;
        self.whole = end;
        (!end).then(|| Sending::new(body, stream))
    }
}

/// What a stream needs to become a WebSocket.
pub(super) struct Offer {
    pub(super) incoming: RecvStream,
    pub(super) site: Rc<Site>,
}

impl Conversation {
    /// The app has agreed to a WebSocket: hands the stream over. None, unless that has to be refused.
    fn switch(&mut self, headers: HeaderMap, app: Stream, from_app: Bytes) -> Option<Sending<Body>> {
        let Offer { incoming, site } = *self.offer.take()?;
        let Some(member) = site.roster.admit(&site.route.shard, false) else {
            return self.send_head(proxy::Error::Overloaded.response(Form::Text));
        };
        let mut outgoing = self.respond.take()?;
        outgoing.send_response(&websocket::accepted(headers), false).ok()?;
        self.whole = true;
        websocket::carry(member, StreamSide::new(incoming, outgoing), app, from_app);
        None
    }
}

impl Future for Conversation {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Answering(answering) => {
                    let response = match Pin::new(answering).poll(cx) {
                        Poll::Ready(Ok(response)) => response,
                        Poll::Pending => {
                            let Some(respond) = &mut this.respond else { return Poll::Pending };
                            let reset = match ready!(respond.poll_error(cx)) {
                                Error::Reset(reason) => reason,
                                _ => Reason::CANCEL,
                            };
                            this.exchange.upload().set_reset(reset);
                            return Poll::Ready(Outcome::Unwanted);
                        }
                    };
                    match this.send_head(response) {
                        Some(sending) => this.state = State::Sending(sending),
                        None => return Poll::Ready(Outcome::Answered),
                    }
                }
                State::Sending(sending) => {
                    // Last words do not wait for a client that has no room for those before them.
                    if this.exchange.deadline_passed()
                        && let Some(body) = sending.forget_chunk()
                    {
                        body.damaged();
                    }
                    match ready!(sending.poll(cx)) {
                        // At the deadline it only looks whole.
                        Ok(()) => this.whole = !this.exchange.deadline_passed(),
                        Err(Broken::Gone) => {}
                        Err(Broken::Reset(reason)) => this.exchange.upload().set_reset(reason),
                        Err(Broken::Source(error)) => sending.reset(reason_for(&error)),
                    }
                    return Poll::Ready(Outcome::Answered);
                }
            }
        }
    }
}

impl Drop for Conversation {
    /// Nobody waits for the rest: the app hears so, whatever it is doing.
    fn drop(&mut self) {
        let upload = self.exchange.upload();
        if !self.whole && upload.reset().is_none() {
            upload.set_reset(Reason::CANCEL);
        }
    }
}

/// The code that says why a response breaks off.
fn reason_for(error: &BodyError) -> Reason {
    match error {
        BodyError::App(error) => error.reset().unwrap_or(Reason::INTERNAL_ERROR),
        BodyError::Deadline => Reason::CANCEL,
    }
}
