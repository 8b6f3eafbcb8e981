//! The body of every response, ours or the app's. The in-flight guard rides in it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Error;
use super::error::is_grpc;
use super::events::Events;
use super::grpc::Messages;
use super::in_flight::Guard;
use crate::http2;
use crate::media;
use crate::metrics::UpstreamFailure;
use crate::upstream::{self, ResponseBody, Stream};

/// A response's body.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    guard: Option<Guard>,
    ending: Ending,
    events: Option<Box<Events>>,
}

/// What a response that is not over can end with.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// Nothing: it has to be cut, so that half of it does not look whole.
    Cut,
    /// As if it were whole: it has no end of its own.
    Clean,
    /// Trailers with a status that has the client try elsewhere: after a whole message, since not every client looks at
    /// the status behind half of one.
    Grpc(Messages),
}

#[derive(Debug)]
enum Kind {
    Empty,
    Text(Bytes),
    App(ResponseBody),
    /// After a 101: no body, but the connection to the app and what it has already said.
    Upgrade(Stream, Bytes),
}

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The app's connection broke.
    #[error("the app's response broke off")]
    App(#[from] upstream::BodyError),
    /// The drain's deadline has come.
    #[error("the drain's deadline has come")]
    Deadline,
}

impl Body {
    /// A body of our own.
    #[must_use]
    pub fn text(text: Bytes) -> Self {
        Self::of(Kind::Text(text))
    }

    /// The app's body, on its way to a client that speaks `version`.
    pub(super) fn app(body: ResponseBody, head: &HeaderMap, version: Version) -> Self {
        let content_type = head.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let encodings = head.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        Self::described(body, content_type, encodings, version)
    }

    /// The body of a response with this head, on its way from HTTP/2 to HTTP/2.
    #[must_use]
    pub fn of_http2(body: ResponseBody, head: &http2::Head) -> Self {
        let content_type = head.all(b"content-type").next().unwrap_or_default();
        Self::described(body, content_type, head.all(b"content-encoding"), Version::HTTP_2)
    }

    fn described<'a>(
        body: ResponseBody,
        content_type: &[u8],
        encodings: impl Iterator<Item = &'a [u8]>,
        version: Version,
    ) -> Self {
        let media_type = media::type_of(content_type);
        let ending = if version == Version::HTTP_2 && is_grpc(content_type) {
            Ending::Grpc(Messages::default())
        } else if media::is_stream(media_type) {
            Ending::Clean
        } else {
            Ending::Cut
        };
        let is_events = media_type.eq_ignore_ascii_case(media::EVENTS) && body.size_hint().exact().is_none();
        let events = is_events.then(|| Box::new(Events::of(encodings)));
        Self { ending, events, ..Self::of(Kind::App(body)) }
    }

    pub(super) fn upgrade(stream: Stream, unread: Bytes) -> Self {
        Self::of(Kind::Upgrade(stream, unread))
    }

    /// Something of it could not be sent: it does not end as if it were whole, and nothing more of it is waited for.
    pub fn damaged(&mut self) {
        match &mut self.ending {
            Ending::Clean => self.ending = Ending::Cut,
            Ending::Grpc(messages) => *messages = Messages::default(),
            Ending::Cut => {}
        }
    }

    /// Ends a gRPC response with trailers of our own.
    fn end_grpc(&mut self, error: Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.kind = Kind::Empty;
        Some(Ok(Frame::trailers(error.grpc_status())))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, guard: None, ending: Ending::Cut, events: None }
    }

    /// In flight until it is over.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Gives a stream of events its place among those that a drain ends one after the other; false when this is none.
    /// When its turn has come it must be polled.
    pub fn spread(&mut self, place: f64) -> bool {
        if let Some(events) = &mut self.events {
            events.place = Some(place);
        }
        self.events.is_some()
    }

    /// Takes the upgraded connection out, if this is the body of a 101.
    pub fn take_upgrade(&mut self) -> Option<(Stream, Bytes)> {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Upgrade(stream, unread) => Some((stream, unread)),
            other => {
                self.kind = other;
                None
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Kind::App(body) = &mut this.kind else {
            let text = match std::mem::replace(&mut this.kind, Kind::Empty) {
                Kind::Text(text) if !text.is_empty() => Some(Ok(Frame::data(text))),
                _ => None,
            };
            return Poll::Ready(text);
        };
        let late = this.guard.as_ref().is_some_and(Guard::deadline_passed);
        if late {
            let whole = body.size_hint().exact().is_some();
            match this.ending {
                Ending::Clean if !whole => return Poll::Ready(None),
                Ending::Grpc(messages)
                    if messages.is_between() || this.guard.as_ref().is_some_and(Guard::hurries) =>
                {
                    return Poll::Ready(this.end_grpc(Error::DrainDeadline));
                }
                // The rest of a message is waited for, a little.
                Ending::Grpc(_) => {}
                _ => return Poll::Ready(Some(Err(BodyError::Deadline))),
            }
        }
        if let (Some(events), Some(guard)) = (&this.events, &this.guard)
            && events.is_between()
            && events.place.is_some_and(|place| guard.ends_events(place))
        {
            return Poll::Ready(None);
        }
        let mut frame = ready!(Pin::new(body).poll_frame(cx));
        if let (Some(Ok(frame)), Ending::Grpc(messages)) = (&mut frame, &mut this.ending)
            && let Some(data) = frame.data_mut()
        {
            data.truncate(messages.follow(data, late));
        }
        if let (Some(Ok(frame)), Some(guard)) = (&frame, &mut this.guard) {
            let data = frame.data_ref().map_or(&b""[..], |data| data);
            guard.sent(data.len());
            if let Some(events) = &mut this.events {
                events.sent(data);
            }
        }
        match frame {
            // A reset is passed on as it is; the end of the whole connection is not the app's answer.
            Some(Err(error)) if matches!(this.ending, Ending::Grpc(_)) && error.reset().is_none() => {
                Poll::Ready(this.end_grpc(Error::Upstream(UpstreamFailure::Reset)))
            }
            frame => Poll::Ready(frame.map(|result| result.map_err(BodyError::App))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty | Kind::Upgrade(..) => true,
            Kind::Text(text) => text.is_empty(),
            Kind::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty | Kind::Upgrade(..) => SizeHint::with_exact(0),
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::App(body) => body.size_hint(),
        }
    }
}
