//! Serving: a hyper connection, driven by hand so that it gives the socket back.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming as Http1Body;
use hyper::server::conn::http1::Connection;
use hyper_util::rt::TokioIo;
use tower::Service as _;

use super::roster::{Order, Stage};
use super::stream::ClientStream;
use super::wire::{Io, Wire};
use super::{Client, Next, Upgraded};
use crate::drain::Phase;
use crate::metrics::{End, Protocol};
use crate::proxy::{self, Begun, Body, Error};
use crate::sys;
use crate::upstream::{Incoming, Stream};

/// A client that pipelines without pause is told to go after this many more responses.
pub(super) const KEPT_MAX: u32 = 100;

/// Why hyper's connection is not driven any further.
enum Ended {
    Over(hyper::Result<()>),
    Ordered(Order),
    /// What there was to do for hyper is done.
    Idle,
    /// We have ended a stream of events: the client is to ask for it elsewhere.
    Told,
    /// The client has reset the connection.
    Gone,
}

/// Serves requests until the connection is idle, upgraded or at its end.
///
/// The first request may have `begun` already, in the short way.
pub(super) async fn serve(
    client: &Client,
    stream: ClientStream,
    unread: Bytes,
    begun: Option<Box<Begun>>,
) -> Next {
    let seat = &client.member.seat;
    if begun.is_none() {
        seat.enter(Stage::Waiting, client.idle_since());
    }
    let wire = Wire::new(stream, unread, seat, client.exchange(), begun.is_some());
    let upgrade = Rc::new(RefCell::new(None));
    let session = Session {
        stack: RefCell::new(proxy::stack(client.exchange(), client.caller.ip(), begun.map(|begun| *begun))),
        client,
        wire: Rc::clone(&wire),
        upgrade: Rc::clone(&upgrade),
        old: std::cell::Cell::new(false),
    };
    let mut http = client.site.builder.serve_connection(TokioIo::new(Io(Rc::clone(&wire))), session);
    let ended = poll_fn(|cx| poll_serving(client, &wire, &mut http, cx)).await;
    let mid_upload = client.exchange().upload().is_open();
    let parts = http.into_parts();
    let unread = wire.take_unread(parts.read_buf);
    let (Some(mut stream), mut unread) = (wire.take_stream(), unread) else { return Next::Closed };
    if matches!(ended, Ended::Ordered(_)) && unread.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
        unread = Bytes::new(); // empty lines before a request (RFC 9112, section 2.2)
    }
    match ended {
        Ended::Over(Ok(())) => match upgrade.take() {
            Some((app, from_app, protocol)) => {
                let from_client = unread;
                Next::Tunnel(Box::new(Upgraded { client: stream, from_client, app, from_app, protocol }))
            }
            None if wire.eof() && !stream.owes_goodbye() && sys::unacknowledged(stream.as_fd()) == 0 => {
                Next::Closed
            }
            None => Next::Linger(stream),
        },
        Ended::Over(Err(error)) => fail(client, &wire, stream, &error, parts.service.old.get()),
        Ended::Ordered(order @ (Order::HeadTimeout | Order::HeadCutShort)) => {
            if order == Order::HeadCutShort {
                client.member.ends(End::Cut);
            }
            refuse(client, stream, Error::HeaderTimeout)
        }
        Ended::Ordered(Order::Close) if mid_upload => {
            if client.member.view().phase() != Phase::Serving {
                client.member.ends(End::Cut);
            }
            Next::Linger(stream)
        }
        Ended::Ordered(Order::Close) if !unread.is_empty() => {
            client.member.ends(End::Cut);
            refuse(client, stream, Error::DrainDeadline)
        }
        Ended::Ordered(Order::Close | Order::Park) if unread.is_empty() => Next::Park(stream),
        Ended::Ordered(Order::Close | Order::Park) => Next::Serve(stream, unread, None),
        Ended::Idle => Next::Fast(stream, unread),
        Ended::Ordered(Order::Cut) => {
            client.member.ends(End::Cut);
            Next::Closed
        }
        Ended::Told if unread.is_empty() && !stream.has_bytes() => {
            client.member.ends(End::Told);
            Next::Linger(stream)
        }
        // It has asked for something else already; the answer to that will tell it.
        Ended::Told => Next::Serve(stream, unread, None),
        Ended::Gone | Ended::Ordered(Order::Probe | Order::Tell | Order::Ping | Order::Goodbye) => {
            Next::Closed
        }
    }
}

fn poll_serving(
    client: &Client,
    wire: &Wire,
    http: &mut Connection<TokioIo<Io>, Session<'_>>,
    cx: &mut Context<'_>,
) -> Poll<Ended> {
    let seat = &client.member.seat;
    seat.register(cx.waker());
    if matches!(seat.stage.get(), Stage::Exchange | Stage::Upload) && client.member.view().ended() {
        client.member.ends(End::Cut);
    }
    match http.poll_without_shutdown(cx) {
        // hyper calls a connection done when the last byte is in its own buffer.
        Poll::Ready(Ok(())) if wire.unflushed() => {}
        Poll::Ready(result) => return Poll::Ready(Ended::Over(result)),
        Poll::Pending => {}
    }
    let idle = wire.is_idle();
    if idle && client.exchange().take_ended_by_us() {
        return Poll::Ready(Ended::Told);
    }
    if idle && matches!(seat.stage.get(), Stage::Exchange | Stage::Upload) {
        seat.enter(Stage::Waiting, client.idle_since());
        if client.site.fast && wire.is_between() {
            return Poll::Ready(Ended::Idle);
        }
    } else if seat.stage.get() == Stage::Exchange && wire.only_uploads() {
        seat.enter(Stage::Upload, client.idle_since());
    }
    // Between an order and its arrival a request may have come: then the order is void.
    match seat.take_order() {
        Some(Order::Cut) => Poll::Ready(Ended::Ordered(Order::Cut)),
        Some(Order::Probe) if wire.client_is_gone() => Poll::Ready(Ended::Gone),
        Some(Order::Probe) => {
            if wire.note_client_sends() {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
        Some(order @ Order::Close) if seat.stage.get() == Stage::Upload => Poll::Ready(Ended::Ordered(order)),
        Some(order @ (Order::HeadTimeout | Order::HeadCutShort))
            if idle && seat.stage.get() == Stage::Head =>
        {
            Poll::Ready(Ended::Ordered(order))
        }
        Some(order @ (Order::Park | Order::Close)) if idle && !wire.swallowed() => {
            Poll::Ready(Ended::Ordered(order))
        }
        _ => Poll::Pending,
    }
}

/// hyper has given up.
fn fail(client: &Client, wire: &Wire, stream: ClientStream, error: &hyper::Error, old: bool) -> Next {
    if wire.swallowed() || (error.is_parse() && !wire.unflushed()) {
        let answer = if error.is_parse_too_large() {
            Error::HeaderTooLarge
        } else {
            Error::BadRequest("this is not an HTTP/1.1 request")
        };
        return refuse(client, stream, answer);
    }
    tracing::debug!(client = %client.caller.addr(), %error, cause = error.source().map(tracing::field::display), "a connection broke");
    if client.member.view().ended() {
        client.member.ends(End::Cut);
    }
    if old {
        // The end of an HTTP/1.0 response is the end of the connection: after a FIN, half of it would look
        // whole. A RST can't be taken for an end.
        stream.abort();
    }
    Next::Closed
}

/// Says why, on a connection that has no HTTP state any more, and closes it. Nothing else is waiting to be
/// written, so a few bytes fit into the socket at once; where they don't, the client reads nothing anyway.
pub(super) fn refuse(client: &Client, stream: ClientStream, error: Error) -> Next {
    client.member.shard.refused(Protocol::Http1, error.status().as_u16());
    say(stream, error)
}

/// The same for a request that is counted already.
pub(super) fn say(mut stream: ClientStream, error: Error) -> Next {
    match stream.try_write(&error.raw_response()) {
        Ok(()) => Next::Linger(stream),
        Err(_) => Next::Closed,
    }
}

/// The proxy's stack as a hyper service, with what concerns the connection rather than the request.
struct Session<'a> {
    stack: RefCell<proxy::Stack>,
    client: &'a Client,
    wire: Rc<Wire>,
    /// Filled by a 101.
    upgrade: Rc<RefCell<Option<(Stream, Bytes, Protocol)>>>,
    /// The last request was HTTP/1.0.
    old: std::cell::Cell<bool>,
}

impl<'a> hyper::service::Service<Request<Http1Body>> for Session<'a> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Reply<'a>;

    fn call(&self, request: Request<Http1Body>) -> Reply<'a> {
        self.old.set(request.version() == Version::HTTP_10);
        self.wire.request_begins(!request.body().is_end_stream());
        if request.version() == Version::HTTP_10
            || request.headers().get_all(CONNECTION).iter().any(says_close)
        {
            self.wire.set_last();
        }
        if !self.client.asked.replace(true) {
            note_arrival(self.client, user_agent(request.headers()));
        }
        let answering = self.stack.borrow_mut().call(request.map(Incoming::Http1));
        self.client.member.seat.held.set(self.client.exchange().upload().is_held());
        Reply {
            answering,
            client: self.client,
            wire: Rc::clone(&self.wire),
            upgrade: Rc::clone(&self.upgrade),
        }
    }
}

/// A new connection in a drain says that somebody still finds us, unless it is a prober's.
pub(super) fn note_arrival(client: &Client, user_agent: &[u8]) {
    if client.member.view().phase() == Phase::Serving {
        return;
    }
    if !client.site.probers.matches(user_agent) {
        client.site.arrivals.note(client.member.seat.accepted);
    }
}

pub(super) fn user_agent(head: &HeaderMap) -> &[u8] {
    head.get(USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes)
}

/// The response on its way to hyper.
struct Reply<'a> {
    answering: <proxy::Stack as tower::Service<Request<Incoming>>>::Future,
    client: &'a Client,
    wire: Rc<Wire>,
    upgrade: Rc<RefCell<Option<(Stream, Bytes, Protocol)>>>,
}

impl Future for Reply<'_> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.answering).poll(cx))?;
        let seat = &self.client.member.seat;
        seat.events.set(response.body_mut().spread(seat.place));
        if let Some((app, from_app)) = response.body_mut().take_upgrade() {
            // Told or not: a 101 without `Connection: upgrade` would be rejected.
            *self.upgrade.borrow_mut() = Some((app, from_app, agreed(response.headers())));
        } else if self.client.member.told() && !self.keeps() {
            self.close_with(&mut response);
            self.client.member.ends(End::Told);
        } else if self.client.exchange().upload().is_held() {
            // The app has answered without asking for the body. The client may take that as "don't send it" or
            // send it all the same; only closing makes the end of this request unmistakable.
            self.close_with(&mut response);
        }
        Poll::Ready(Ok(response))
    }
}

/// Whether a `Connection` field ends the connection.
fn says_close(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// What a 101 switches to.
fn agreed(head: &HeaderMap) -> Protocol {
    let is_websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    if head.get_all(UPGRADE).iter().any(is_websocket) { Protocol::WebSocket } else { Protocol::Upgrade }
}

impl Reply<'_> {
    fn close_with(&self, response: &mut Response<Body>) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self.wire.set_last();
    }

    /// Whether the client has to be answered more before it can be told to go.
    fn keeps(&self) -> bool {
        let kept = &self.client.kept;
        let keeps =
            kept.get() < KEPT_MAX && !self.client.member.view().ended() && self.wire.more_requests_are_here();
        kept.set(kept.get() + u32::from(keeps));
        keeps
    }
}
