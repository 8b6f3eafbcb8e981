//! A request is in flight from its head to the end of its response's body: the guard rides in the body.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;
use tower::Service;

use super::error::Form;
use super::{Body, Caller, Error, Route};
use crate::drain::notice;
use crate::drain::watch::View;
use crate::metrics::{Protocol, Shard};
use crate::telemetry::LogLine;
use crate::upstream::{Incoming, Pool, Upload};

/// The status that a request is counted with when the client went away before the response (as nginx does).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What a connection and the exchange on it know of each other.
#[derive(Debug)]
pub struct Exchange {
    route: Rc<Route>,
    view: Rc<View>,
    caller: Rc<Caller>,
    busy: Busy,
    /// The connection's first, which counts for all that are beside it.
    first: Option<Rc<Self>>,
    upload: Upload,
    /// We have ended the response before the app did.
    ended_by_us: Cell<bool>,
}

/// How much is under way on a connection.
#[derive(Debug)]
struct Busy {
    protocol: Protocol,
    /// Exchanges: one at a time over HTTP/1.1, any number over HTTP/2.
    exchanges: Cell<u32>,
    idle_since: Cell<Instant>,
}

impl Busy {
    fn new(protocol: Protocol, since: Instant) -> Self {
        Self { protocol, exchanges: Cell::new(0), idle_since: Cell::new(since) }
    }

    fn begin(&self, shard: &Shard) {
        shard.in_flight.add(1);
        if self.exchanges.replace(self.exchanges.get() + 1) == 0 {
            shard.idle[self.protocol as usize].add(-1);
            shard.active[self.protocol as usize].add(1);
        }
    }

    fn end(&self, shard: &Shard, now: Instant) {
        shard.in_flight.add(-1);
        self.idle_since.set(now);
        self.exchanges.set(self.exchanges.get() - 1);
        if self.exchanges.get() == 0 {
            shard.active[self.protocol as usize].add(-1);
            shard.idle[self.protocol as usize].add(1);
        }
    }
}

impl Exchange {
    /// For a connection of `caller` that speaks `protocol`. Nothing has happened on it since `since`.
    #[must_use]
    pub fn new(
        route: &Rc<Route>,
        view: &Rc<View>,
        caller: &Rc<Caller>,
        protocol: Protocol,
        since: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            route: Rc::clone(route),
            view: Rc::clone(view),
            caller: Rc::clone(caller),
            busy: Busy::new(protocol, since),
            first: None,
            upload: Upload::default(),
            ended_by_us: Cell::new(false),
        })
    }

    /// What it is part of.
    #[must_use]
    pub fn route(&self) -> &Rc<Route> {
        &self.route
    }

    /// The way to the app.
    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.route.pool
    }

    /// Whose it is.
    #[must_use]
    pub fn caller(&self) -> &Rc<Caller> {
        &self.caller
    }

    /// For one of several exchanges on the connection that this one is of.
    #[must_use]
    pub fn beside(self: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self {
            route: Rc::clone(&self.route),
            view: Rc::clone(&self.view),
            caller: Rc::clone(&self.caller),
            busy: Busy::new(self.busy.protocol, self.busy.idle_since.get()),
            first: Some(Rc::clone(self)),
            upload: self.upload.beside(),
            ended_by_us: Cell::new(false),
        })
    }

    fn busy(&self) -> &Busy {
        self.first.as_ref().map_or(&self.busy, |first| &first.busy)
    }

    /// Whether a request is under way.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.busy().exchanges.get() > 0
    }

    /// When the last exchange ended (or the connection was accepted).
    #[must_use]
    pub fn idle_since(&self) -> Instant {
        self.busy().idle_since.get()
    }

    /// The drain's deadline has passed: last words only.
    #[must_use]
    pub fn deadline_passed(&self) -> bool {
        self.view.ended()
    }

    /// How far the body of the present request is.
    #[must_use]
    pub fn upload(&self) -> &Upload {
        &self.upload
    }

    /// The response was a stream of events that a drain has ended before the app did. Its client is to go: it would
    /// ask for the stream again. Says so once.
    #[must_use]
    pub fn take_ended_by_us(&self) -> bool {
        self.ended_by_us.take()
    }

    /// A request is in flight from now on; `line` makes the line of the access log, if there is one.
    pub fn begin(self: &Rc<Self>, line: impl FnOnce(SocketAddr) -> LogLine) -> Guard {
        self.busy().begin(&self.route.shard);
        let line = self.route.access_log.as_ref().map(|_| Box::new(line(self.caller.addr())));
        Guard {
            exchange: Rc::clone(self),
            started: Instant::now(),
            status: CLIENT_CLOSED_REQUEST,
            sent: 0,
            line,
        }
    }
}

/// Says that a request is in flight until it is dropped, which counts and logs it.
#[derive(Debug)]
pub struct Guard {
    exchange: Rc<Exchange>,
    started: Instant,
    status: u16,
    sent: u64,
    line: Option<Box<LogLine>>,
}

impl Guard {
    /// When the request came.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The status of the response.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// So many more bytes of the response's body are on their way.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Whether it is the turn of the stream of events with this place to end; then it must.
    pub(super) fn ends_events(&self, place: f64) -> bool {
        let ends = notice::events_end(&self.exchange.view, place, Instant::now());
        self.exchange.ended_by_us.set(ends);
        ends
    }

    pub(super) fn deadline_passed(&self) -> bool {
        self.exchange.deadline_passed()
    }

    pub(super) fn hurries(&self) -> bool {
        self.exchange.view.hurries()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now - self.started;
        let exchange = &self.exchange;
        let shard = &exchange.route.shard;
        exchange.busy().end(shard, now);
        shard.request(exchange.busy.protocol, self.status, took);
        if let (Some(log), Some(line)) = (&exchange.route.access_log, self.line.take()) {
            log.write(&line, &exchange.route.forward, self.status, self.sent, took);
        }
    }
}

/// Counts requests and ends them at the drain's deadline.
#[derive(Debug)]
pub struct InFlight<S> {
    inner: S,
    exchange: Rc<Exchange>,
    /// Of the first request, if it is in flight already.
    begun: Option<Guard>,
}

impl<S> InFlight<S> {
    pub(super) fn new(inner: S, exchange: &Rc<Exchange>, begun: Option<Guard>) -> Self {
        Self { inner, exchange: Rc::clone(exchange), begun }
    }
}

impl<S> Service<Request<Incoming>> for InFlight<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Error>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let guard =
            self.begun.take().unwrap_or_else(|| self.exchange.begin(|client| LogLine::new(&request, client)));
        let form = Form::of(&request);
        Answering { inner: self.inner.call(request), guard: Some(guard), form }
    }
}

/// Waits for the response, or for the deadline: then it is a 503.
///
/// Nothing needs to wake it for that: the connection is woken, and polls it.
#[derive(Debug)]
pub struct Answering<F> {
    inner: F,
    guard: Option<Guard>,
    form: Form,
}

impl<F: Future<Output = Result<Response<Body>, Error>> + Unpin> Future for Answering<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let late = self.guard.as_ref().is_some_and(Guard::deadline_passed);
        let response = match Pin::new(&mut self.inner).poll(cx) {
            Poll::Ready(result) => result.unwrap_or_else(|error| error.response(self.form)),
            Poll::Pending if late => Error::DrainDeadline.response(self.form),
            Poll::Pending => return Poll::Pending,
        };
        let guard = self.guard.take().map(|mut guard| {
            guard.answered(response.status().as_u16());
            guard
        });
        Poll::Ready(Ok(response.map(|body| match guard {
            Some(guard) => body.guarded(guard),
            None => body,
        })))
    }
}
