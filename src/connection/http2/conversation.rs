//! One stream: a request and its response.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use tower::Service as _;

use super::direct::{Answer, Asking};
use super::websocket::{self, StreamSide};
use crate::connection::Site;
use crate::http2::{Broken, Error, Reason, RecvStream, SendStream, Sending};
use crate::proxy::{self, Begun, Body, BodyError, Exchange, Form, Guard};
use crate::upstream::{Direct, Incoming, Stream};

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
    /// The request has been sent with its head as it came.
    Asking(Box<Asking>),
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

    /// A request that has been sent already.
    pub(super) fn of_direct(
        direct: Direct,
        guard: Guard,
        form: Form,
        respond: SendStream,
        exchange: Rc<Exchange>,
        place: f64,
    ) -> Self {
        let state = State::Asking(Box::new(Asking { direct, guard: Some(guard), form }));
        Self { state, respond: Some(respond), exchange, whole: false, offer: None, place }
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
        if let Some(reason) = parts.extensions.remove::<Reason>() {
            self.respond.take()?.reset(reason);
            return None;
        }
        let head = Response::from_parts(parts, ());
        self.begin(body, |stream, end| stream.send_response(&head, end))
    }

    /// Sends the head of the response with this body; none when that was all of it.
    fn begin(
        &mut self,
        mut body: Body,
        send_head: impl FnOnce(&mut SendStream, bool) -> Result<(), Error>,
    ) -> Option<Sending<Body>> {
        body.spread(self.place);
        let mut stream = self.respond.take()?;
        let end = body.is_end_stream();
        // Fails only when the client has reset the stream, or is gone.
        send_head(&mut stream, end).ok()?;
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

impl Conversation {
    /// Whether the client has given up the request, as long as there is no response.
    fn poll_unwanted(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(respond) = &mut self.respond else { return Poll::Pending };
        let reason = match ready!(respond.poll_error(cx)) {
            Error::Reset(reason) => reason,
            _ => Reason::CANCEL,
        };
        self.exchange.upload().set_reset(reason);
        Poll::Ready(Outcome::Unwanted)
    }

    /// Goes the way of all other requests.
    fn ask_again(&mut self, request: Request<Incoming>, guard: Guard) {
        let exchange = &self.exchange;
        let begun = Begun { guard, sent: None };
        let answering = proxy::stack(exchange, exchange.caller().ip(), Some(begun)).call(request);
        self.state = State::Answering(answering);
    }
}

impl Future for Conversation {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        loop {
            // First: a request's body that breaks off with it would look like the client's mistake, and be answered.
            if let Poll::Ready(outcome) = this.poll_unwanted(cx) {
                return Poll::Ready(outcome);
            }
            match &mut this.state {
                State::Asking(asking) => {
                    let answer = match asking.poll(this.exchange.deadline_passed(), cx) {
                        Poll::Ready(answer) => answer,
                        Poll::Pending => return Poll::Pending,
                    };
                    let sending = match answer {
                        Answer::Direct(head, body) => {
                            this.begin(body, |stream, end| stream.send_head_of(&head, end))
                        }
                        Answer::Response(response) => this.send_head(response),
                        Answer::Again(request, guard) => {
                            this.ask_again(request, guard);
                            continue;
                        }
                    };
                    match sending {
                        Some(sending) => this.state = State::Sending(sending),
                        None => return Poll::Ready(Outcome::Answered),
                    }
                }
                State::Answering(answering) => {
                    let Ok(response) = ready!(Pin::new(answering).poll(cx));
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
