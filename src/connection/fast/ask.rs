//! The request on its way to the app.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Ended, Fast, State, Step, poll_unsent};
use crate::http1::Request;
use crate::metrics::UpstreamFailure;
use crate::proxy::{Error, Guard};
use crate::upstream::{Lease, Pool};

/// A request that is under way.
pub(super) struct Asking {
    pub(super) way: Way,
    pub(super) guard: Guard,
    pub(super) is_head: bool,
    /// The client wants the connection to end with the response.
    pub(super) close: bool,
    has_body: bool,
    repeatable: bool,
    /// Something of it has been written.
    written: bool,
    /// The app does not read any more, but may have answered.
    pub(super) deaf: bool,
}

/// The way to the app.
pub(super) enum Way {
    Connecting(Pin<Box<dyn Future<Output = Result<Lease, UpstreamFailure>>>>),
    Up(Lease),
}

impl Asking {
    pub(super) fn new(pool: &Rc<Pool>, request: &Request<'_>, guard: Guard) -> Self {
        let repeatable = request.is_repeatable();
        let way = match Lease::checkout(pool, repeatable, guard.started()) {
            Some(lease) => Way::Up(lease),
            None => Way::connect(pool),
        };
        let (is_head, close) = (request.is_head(), request.close);
        let has_body = request.has_body;
        Self { way, guard, is_head, close, has_body, repeatable, written: false, deaf: false }
    }

    /// Whether the client has nothing more to say.
    pub(super) fn quits(&self) -> bool {
        self.close && !self.has_body
    }

    /// Whether all may begin anew on another connection: this one was pooled, and is found to be closed (RFC 9110,
    /// section 9.2.2). A second failure is the app's answer.
    fn may_repeat(&self) -> bool {
        let pooled = matches!(&self.way, Way::Up(lease) if lease.is_pooled());
        pooled && (self.repeatable || !self.written)
    }
}

impl Way {
    pub(super) fn into_lease(self) -> Option<Lease> {
        match self {
            Self::Up(lease) => Some(lease),
            Self::Connecting(_) => None,
        }
    }

    fn connect(pool: &Rc<Pool>) -> Self {
        Self::Connecting(Box::pin(Lease::connect(Rc::clone(pool))))
    }
}

impl Fast<'_> {
    /// Sends the request, in the form that the app is to have it, if the way is open already.
    pub(super) fn send(&mut self, request: &[u8], cx: &mut Context<'_>) {
        let State::Asking(asking) = &mut self.state else { return };
        let Way::Up(lease) = &mut asking.way else { return };
        match Pin::new(lease).poll_write(cx, request) {
            Poll::Ready(Ok(n)) => {
                asking.written = n > 0;
                self.unsent.extend_from_slice(&request[n..]);
            }
            Poll::Ready(Err(_)) => self.cannot_write(),
            Poll::Pending => self.unsent.extend_from_slice(request),
        }
    }

    /// Waits for the way, sends what is left of the request, and waits for the response.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Step {
        let late = self.client.member.view().ended();
        let State::Asking(asking) = &mut self.state else { return Poll::Pending };
        let lease = match &mut asking.way {
            Way::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Ready(Ok(lease)) => {
                    asking.way = Way::Up(lease);
                    self.send_anew(cx);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(failure)) => return self.give_up(failure),
                Poll::Pending if late => return self.refuse(),
                Poll::Pending => return Poll::Pending,
            },
            Way::Up(lease) => lease,
        };
        let unsent = self.unsent.len();
        let sent = poll_unsent(&mut self.unsent, &mut *lease, cx);
        asking.written |= self.unsent.len() < unsent;
        match sent {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.cannot_write();
                return Poll::Ready(Ok(()));
            }
            Poll::Pending if late => return self.refuse(),
            Poll::Pending => return Poll::Pending,
        }
        let client = self.client;
        let mut buffer = client.member.tools().buffer();
        let mut room = ReadBuf::new(&mut buffer);
        match Pin::new(lease).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) if !room.filled().is_empty() => self.answer(room.filled(), cx),
            Poll::Ready(_) if asking.may_repeat() => {
                asking.way = Way::connect(&client.site.route.pool);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => self.give_up(UpstreamFailure::Reset),
            // What there is to be said now is the same for all.
            Poll::Pending if late => self.leave_to_hyper(&[]),
            Poll::Pending => Poll::Pending,
        }
    }

    fn send_anew(&mut self, cx: &mut Context<'_>) {
        let mut out = self.client.member.tools().head();
        // It has been plain before, and has not changed.
        if Request::rewrite(&self.request, &self.origin, &mut out).is_some() {
            self.send(&out, cx);
        }
    }

    fn cannot_write(&mut self) {
        let State::Asking(asking) = &mut self.state else { return };
        self.unsent.clear();
        if asking.may_repeat() {
            asking.way = Way::connect(&self.client.site.route.pool);
        } else {
            // What the app said before it closed is still there to be read.
            asking.deaf = true;
        }
    }

    pub(super) fn take_asking(&mut self) -> Option<Asking> {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Asking(asking) => Some(asking),
            _ => None,
        }
    }

    /// There will be no response.
    fn give_up(&mut self, failure: UpstreamFailure) -> Step {
        let Some(asking) = self.take_asking() else { return Poll::Pending };
        Poll::Ready(Err(self.hand_over(Err(failure), asking.guard)))
    }

    /// Hands the exchange over as it is, with what has been read of the response.
    pub(super) fn leave_to_hyper(&mut self, begun: &[u8]) -> Step {
        let Some(Asking { way: Way::Up(lease), guard, .. }) = self.take_asking() else {
            return Poll::Pending;
        };
        Poll::Ready(Err(self.hand_over(Ok((lease, Bytes::copy_from_slice(begun))), guard)))
    }

    /// The deadline has come, and the app has not even got the request.
    fn refuse(&mut self) -> Step {
        let (Some(mut asking), error) = (self.take_asking(), Error::DrainDeadline) else {
            return Poll::Pending;
        };
        asking.guard.answered(error.status().as_u16());
        Poll::Ready(Err(Ended::Refused(error)))
    }
}
