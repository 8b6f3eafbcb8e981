//! Requests that go on with their heads as they came: plain ones, to an app that speaks HTTP/2 and to which there is a
//! connection. Everything else takes the way through the [stack](proxy::stack), which this hands over to before the request has
//! been sent, or when it has to be sent again.

use std::task::{Context, Poll, ready};

use http::{Request, Response};

use super::Session;
use super::conversation::Conversation;
use crate::connection::http1;
use crate::http2::server::Accepted;
use crate::http2::{Head, Plain, Reason, Receiving};
use crate::proxy::{self, Body, Form, Guard};
use crate::telemetry::LogLine;
use crate::upstream::{Direct, Incoming, NoAnswer, Repeated, Replay, RequestBody};

impl Session<'_> {
    /// Sends a request on, or gives it back.
    pub(super) fn pass_on(&mut self, accepted: Accepted) -> Option<Accepted> {
        let Accepted { head: Some(head), body, respond } = accepted else { return Some(accepted) };
        let client = self.client;
        let begun = Plain::of(&head).and_then(|plain| {
            let place = client.site.route.pool.place()?;
            let end = body.is_end_stream();
            let stream = place.open(plain.is_head(), end, |out| plain.put(&self.origin, out))?;
            Some((plain, place, stream, end))
        });
        let Some((plain, place, stream, end)) = begun else {
            return Some(Accepted { head: Some(head), body, respond });
        };
        if !client.asked.replace(true) {
            http1::note_arrival(client, plain.user_agent().unwrap_or_default());
        }
        let replay = if end && plain.is_idempotent() { Replay::Unanswered } else { Replay::Unwritten };
        let form = Form::of_http2(plain.content_type());
        let exchange = client.exchange().beside();
        let guard = exchange.begin(|addr| LogLine::of_http2(&plain, addr));
        let body = RequestBody::new(Incoming::Http2(Receiving::new(body)), None, exchange.upload());
        let direct = place.wait(head, stream, body, replay);
        let seat_place = client.member.seat.place;
        self.streams.push(Conversation::of_direct(direct, guard, form, respond, exchange, seat_place));
        None
    }
}

/// A request that has been sent, waiting for its response.
pub(super) struct Asking {
    pub(super) direct: Direct,
    /// None after the end.
    pub(super) guard: Option<Guard>,
    pub(super) form: Form,
}

/// What becomes of it.
pub(super) enum Answer {
    /// The app's response.
    Direct(Head, Body),
    /// One of our own.
    Response(Response<Body>),
    /// It has to be sent again.
    Again(Request<Incoming>, Guard),
}

impl Asking {
    /// `late`: the drain's deadline has passed.
    pub(super) fn poll(&mut self, late: bool, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = match self.direct.poll_answer(cx) {
            Poll::Pending if late => Err(proxy::Error::DrainDeadline),
            answer => match ready!(answer) {
                Ok(answer) => Ok(answer),
                Err(NoAnswer::Unprocessed(unsent)) => {
                    let (head, body) = *unsent;
                    match head.into_request() {
                        Ok(mut request) => {
                            let Some(guard) = self.guard.take() else { return Poll::Pending };
                            request.extensions_mut().insert(Repeated);
                            return Poll::Ready(Answer::Again(request.map(|()| body.into_incoming()), guard));
                        }
                        // A plain request is always a proper one; if not, the client may try again.
                        Err(_) => Err(proxy::Error::Reset(Reason::REFUSED_STREAM)),
                    }
                }
                Err(NoAnswer::Failed(error)) => Err(error.into()),
            },
        };
        let Some(mut guard) = self.guard.take() else { return Poll::Pending };
        Poll::Ready(match answer {
            Ok((head, body)) => {
                guard.answered(head.status().unwrap_or_default());
                let body = Body::of_http2(body, &head).guarded(guard);
                Answer::Direct(head, body)
            }
            Err(error) => {
                let response = error.response(self.form);
                guard.answered(response.status().as_u16());
                Answer::Response(response.map(|body| body.guarded(guard)))
            }
        })
    }
}
