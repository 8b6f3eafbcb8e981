//! The response on its way to the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::ask::Asking;
use super::{Ended, Fast, State, Step, poll_unsent};
use crate::connection::http1::KEPT_MAX;
use crate::connection::roster::Stage;
use crate::gather;
use crate::http1::{Chunks, Framing, Response};
use crate::metrics::End;
use crate::proxy::Guard;
use crate::upstream::Lease;

/// A response that has begun to go out.
pub(super) struct Answering {
    /// Where the rest comes from; none when nothing more is to be read.
    app: Option<Lease>,
    rest: Rest,
    guard: Guard,
    /// How the connection to the client ends with it, if it does.
    ends: Option<Ended>,
    /// The connection to the app does not.
    keep_app: bool,
}

/// How much of a body is still to come.
enum Rest {
    Length(u64),
    Chunks(Chunks),
}

impl Rest {
    fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_over(),
        }
    }

    /// How many of the bytes belong to the body; none when they can't be one.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= n as u64;
                Some(n)
            }
            Self::Chunks(chunks) => chunks.follow(bytes).ok(),
        }
    }
}

impl Fast<'_> {
    /// The app has said something, which is the head of the response, or not for here.
    pub(super) fn answer(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Step {
        let client = self.client;
        let State::Asking(asking) = &self.state else { return Poll::Pending };
        let (is_head, close, quits) = (asking.is_head, asking.close, asking.quits());
        let told = client.member.told() && !self.keeps();
        let mut out = client.member.tools().head();
        let date = |out: &mut Vec<u8>| client.site.date.put(out);
        let Some(response) = Response::rewrite(bytes, is_head, close || told, date, &mut out) else {
            return self.leave_to_hyper(bytes);
        };
        let mut rest = match response.framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunks(Chunks::default()),
        };
        let body = &bytes[response.len..];
        let Some(here) = rest.take(body) else { return self.leave_to_hyper(bytes) };
        let Some(Asking { way, mut guard, deaf, .. }) = self.take_asking() else { return Poll::Pending };
        if told {
            client.member.ends(End::Told);
        }
        guard.answered(response.status);
        guard.sent(here);
        // What comes behind the response answers nobody.
        let keep_app = !response.close && !deaf && here == body.len();
        let app = way.into_lease();
        let ends = (close || told).then_some(if quits { Ended::Quits } else { Ended::Over });
        self.state = State::Answering(Answering { app, rest, guard, ends, keep_app });
        if here <= gather::SMALL {
            out.extend_from_slice(&body[..here]);
            self.pass_on(&out, &[], cx)
        } else {
            self.pass_on(&out, &body[..here], cx)
        }
    }

    /// Whether the client has to be answered more before it can be told to go: it has sent more requests already, which a
    /// response that says "close" would leave unanswered.
    fn keeps(&mut self) -> bool {
        let kept = &self.client.kept;
        let more = !self.inbox.is_empty() || self.stream.has_bytes() || self.stream.mid_record();
        let keeps = more && kept.get() < KEPT_MAX && !self.client.member.view().ended();
        kept.set(kept.get() + u32::from(keeps));
        keeps
    }

    /// Writes two parts of a response to the client, and keeps what the socket does not take.
    fn pass_on(&mut self, first: &[u8], second: &[u8], cx: &mut Context<'_>) -> Step {
        let stream = Pin::new(&mut self.stream);
        let written = if second.is_empty() {
            stream.poll_write(cx, first)
        } else {
            stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
        };
        let written = match written {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(error)) => return self.broken(&error),
            Poll::Pending => 0,
        };
        if written < first.len() + second.len() {
            self.unsent.extend_from_slice(&first[written.min(first.len())..]);
            self.unsent.extend_from_slice(&second[written.saturating_sub(first.len())..]);
        }
        Poll::Ready(Ok(()))
    }

    fn broken(&self, error: &io::Error) -> Step {
        tracing::debug!(client = %self.client.caller.addr(), %error, "a connection broke");
        Poll::Ready(Err(Ended::Broken))
    }

    /// Passes the rest of the response on.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Step {
        let written = match poll_unsent(&mut self.unsent, &mut self.stream, cx) {
            Poll::Ready(Ok(())) => ready!(Pin::new(&mut self.stream).poll_flush(cx)),
            Poll::Ready(error) => error,
            Poll::Pending => return Poll::Pending,
        };
        if let Err(error) = written {
            return self.broken(&error);
        }
        let State::Answering(answering) = &mut self.state else { return Poll::Pending };
        if answering.rest.is_over() {
            return Poll::Ready(self.finish(cx));
        }
        if self.client.member.view().ended() {
            // Half of it must not look whole.
            return Poll::Ready(Err(Ended::Broken));
        }
        let Some(app) = &mut answering.app else { return Poll::Ready(Err(Ended::Broken)) };
        let client = self.client;
        let mut buffer = client.member.tools().buffer();
        let mut room = ReadBuf::new(&mut buffer);
        let came = ready!(Pin::new(app).poll_read(cx, &mut room)).map(|()| room.filled());
        let bytes = match came {
            Ok(bytes) if !bytes.is_empty() => bytes,
            // The client gets to know it the same way.
            _ => return Poll::Ready(Err(Ended::Broken)),
        };
        let Some(here) = answering.rest.take(bytes) else { return Poll::Ready(Err(Ended::Broken)) };
        answering.keep_app &= here == bytes.len();
        answering.guard.sent(here);
        self.pass_on(&bytes[..here], &[], cx)
    }

    /// The response is over, and the client's socket has all of it.
    fn finish(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let State::Answering(answering) = std::mem::replace(&mut self.state, State::Waiting) else {
            return Ok(());
        };
        let Answering { app, guard, ends, keep_app, .. } = answering;
        drop(guard);
        let now = self.client.idle_since();
        if let Some(app) = app.filter(|_| keep_app) {
            app.give_back(now);
        }
        self.client.member.seat.enter(Stage::Waiting, now);
        // A slow reader's is large.
        if self.unsent.capacity() > gather::SMALL {
            self.unsent = Vec::new();
        }
        match ends {
            None => Ok(()),
            // A task that has had its share is told that nothing is ready.
            Some(Ended::Quits)
                if !self.inbox.is_empty()
                    || self.stream.poll_readable(cx).is_ready()
                    || !coop::has_budget_remaining() =>
            {
                Err(Ended::Over)
            }
            Some(ends) => Err(ends),
        }
    }
}
