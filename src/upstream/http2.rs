//! HTTP/2 to the app: few connections, each with many streams.
//!
//! A request that the app has not processed (RFC 9113, sections 6.8 and 8.7: a stream above the GOAWAY's last, or one
//! reset with `REFUSED_STREAM`) is sent again, once, as long as nothing of its body has been taken from the client.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout};

use super::body::RequestBody;
use super::link::Replay;
use super::stream;
use super::{SendError, failure_of, translate};
use crate::config::{Upstream, UpstreamConfig, UpstreamProtocol};
use crate::http2::STREAM_WINDOW;
use crate::http2::client::{self, SendRequest};
use crate::metrics::{Shard, UpstreamFailure};
use crate::proxy_protocol::Preamble;

mod call;
mod direct;
mod greeting;

pub(super) use call::Streamed;
use call::{Call, Unsent};
pub use direct::{Direct, NoAnswer, Place, Repeated};
use greeting::{Greeted, Greeting};

/// Streams on one connection; beyond that another one is opened. An app may allow less.
const STREAMS: usize = 100;

/// For how long an app that has answered in HTTP/1.1 is not asked in HTTP/2 again.
const NOT_SPOKEN: Duration = Duration::from_secs(60);

/// The windows of all streams of a connection to the app together. Less than this, and clients that read nothing would
/// hold up the others: their streams share the connection.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const APP_CONNECTION_WINDOW: u32 = STREAMS as u32 * STREAM_WINDOW;

/// A worker's HTTP/2 connections to one app.
#[derive(Debug)]
pub(super) struct Mux {
    target: Rc<Upstream>,
    config: UpstreamConfig,
    shard: Arc<Shard>,
    /// What its connections begin with: then they are for one client only.
    preamble: Option<Preamble>,
    conns: RefCell<Vec<Rc<Conn>>>,
    /// Counts attempts to connect; odd while one is under way.
    attempts: Cell<u64>,
    /// What became of the last attempt that failed, and which it was.
    failed: Cell<(u64, NoConn)>,
    /// An attempt is over.
    changed: Notify,
    not_spoken: Rc<Cell<Option<Instant>>>,
}

struct Conn {
    sender: SendRequest,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    /// New streams may be opened on it.
    open: Cell<bool>,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Failed {
    /// As for HTTP/1.1.
    Send(SendError),
    /// The app does not speak HTTP/2; the request is as it was.
    NotSpoken(Box<Request<RequestBody>>),
}

/// A stream's place on its connection.
#[derive(Debug)]
struct Slot {
    conn: Rc<Conn>,
    mux: Rc<Mux>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let streams = self.conn.streams.get() - 1;
        self.conn.streams.set(streams);
        if streams == 0 {
            self.conn.idle_since.set(Instant::now());
            self.mux.shard.upstream_active.add(-1);
            self.mux.shard.upstream_idle.add(i64::from(self.conn.open.get()));
        }
    }
}

impl Mux {
    pub(super) fn new(target: &Rc<Upstream>, config: UpstreamConfig, shard: &Arc<Shard>) -> Self {
        Self {
            target: Rc::clone(target),
            config,
            shard: Arc::clone(shard),
            preamble: None,
            conns: RefCell::default(),
            attempts: Cell::new(0),
            failed: Cell::new((0, NoConn::NotSpoken)),
            changed: Notify::new(),
            not_spoken: Rc::default(),
        }
    }

    /// One of its own for the client whose connections begin with `preamble`.
    pub(super) fn of_client(&self, preamble: &Preamble) -> Self {
        Self {
            preamble: Some(preamble.clone()),
            not_spoken: Rc::clone(&self.not_spoken),
            ..Self::new(&self.target, self.config, &self.shard)
        }
    }

    /// Nobody needs the connections any more.
    pub(super) fn close(&self) {
        let conns = self.conns.take();
        for conn in conns {
            conn.open.set(false);
            if conn.streams.get() == 0 {
                self.shard.upstream_idle.add(-1);
            }
        }
    }

    /// Whether the app is known to speak HTTP/1.1 only.
    pub(super) fn is_not_spoken(&self) -> bool {
        self.not_spoken.get().is_some_and(|since| since.elapsed() < NOT_SPOKEN)
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// What is rare is boxed: it would make the future of every request several times as large.
    pub(super) async fn send(
        self: &Rc<Self>,
        request: Request<RequestBody>,
        replay: Replay,
    ) -> Result<Response<Streamed>, Failed> {
        let mut request = request;
        if request.extensions_mut().remove::<Repeated>().is_some() {
            let (parts, body) = request.into_parts();
            let Some(head) = translate::to_http2(parts) else { return Err(Failed::Send(SendError::Host)) };
            return Box::pin(self.send_again(Unsent { head, body }, replay, false, false)).await;
        }
        let (slot, pooled) = match self.find() {
            Some(slot) => (slot, true),
            None => match Box::pin(self.checkout()).await {
                Ok(found) => found,
                Err(NoConn::Failed(failure)) => return Err(app(failure)),
                Err(NoConn::NotSpoken) => return Err(Failed::NotSpoken(Box::new(request))),
            },
        };
        let (parts, body) = request.into_parts();
        let Some(head) = translate::to_http2(parts) else { return Err(Failed::Send(SendError::Host)) };
        match Call::new(slot, head, body) {
            Ok(call) => match call.answer().await {
                Ok(response) => Ok(response),
                Err(unanswered) => {
                    let unsent = unanswered.into_unsent(pooled, replay)?;
                    Box::pin(self.send_again(unsent, replay, false, false)).await
                }
            },
            // The connection has ended meanwhile; nothing has been sent.
            Err(unsent) => Box::pin(self.send_again(*unsent, replay, true, !pooled)).await,
        }
    }

    /// Sends a request on other connections. Once it has been sent it is repeated `once` at most; on connections that
    /// turn out to have ended nothing is sent, but a second one of those that were opened for it is the app's answer.
    async fn send_again(
        self: &Rc<Self>,
        mut unsent: Unsent<Request<()>>,
        replay: Replay,
        mut once: bool,
        mut fresh_ended: bool,
    ) -> Result<Response<Streamed>, Failed> {
        loop {
            let (slot, pooled) = self.another().await?;
            match Call::new(slot, unsent.head, unsent.body) {
                Ok(call) => match call.answer().await {
                    Ok(response) => return Ok(response),
                    Err(unanswered) if !std::mem::take(&mut once) => return Err(unanswered.failed()),
                    Err(unanswered) => unsent = unanswered.into_unsent(pooled, replay)?,
                },
                Err(_) if !pooled && std::mem::replace(&mut fresh_ended, true) => {
                    return Err(app(UpstreamFailure::Reset));
                }
                Err(same) => unsent = *same,
            }
        }
    }

    /// A second connection for a request whose first one did not do.
    async fn another(self: &Rc<Self>) -> Result<(Slot, bool), Failed> {
        match self.checkout().await {
            Ok(found) => Ok(found),
            Err(NoConn::Failed(failure)) => Err(app(failure)),
            Err(NoConn::NotSpoken) => Err(app(UpstreamFailure::Invalid)),
        }
    }

    /// A place on a connection, and whether that had been there before.
    async fn checkout(self: &Rc<Self>) -> Result<(Slot, bool), NoConn> {
        let mut waited = false;
        loop {
            if let Some(slot) = self.find() {
                return Ok((slot, !waited));
            }
            waited = true;
            let attempt = self.attempts.get();
            if attempt % 2 == 1 {
                // Somebody is connecting; all who wait share what comes of it.
                let changed = self.changed.notified();
                changed.await;
                if let (failed, no_conn) = self.failed.get()
                    && failed == attempt
                {
                    return Err(no_conn);
                }
                continue;
            }
            if self.is_not_spoken() {
                return Err(NoConn::NotSpoken); // found out since this request was taken
            }
            let attempt = Attempt::begin(self);
            // Boxed: it is rare, and would make the future of every request larger.
            let connected = Box::pin(self.connect()).await;
            attempt.end(&connected);
            connected?;
        }
    }

    /// The first connection with room, so that there are no more than needed.
    fn find(self: &Rc<Self>) -> Option<Slot> {
        let conns = self.conns.borrow();
        let has_room = |conn: &&Rc<Conn>| {
            let max = usize::try_from(conn.sender.streams_max()).unwrap_or(STREAMS);
            conn.streams.get() < STREAMS.min(max).max(1) && !conn.sender.is_congested()
        };
        let conn = Rc::clone(conns.iter().find(has_room)?);
        let streams = conn.streams.get();
        conn.streams.set(streams + 1);
        if streams == 0 {
            self.shard.upstream_idle.add(-1);
            self.shard.upstream_active.add(1);
        }
        Some(Slot { conn, mux: Rc::clone(self) })
    }

    async fn connect(self: &Rc<Self>) -> Result<(), NoConn> {
        let limit = self.config.connect_timeout;
        let stream = stream::connect(&self.target, limit, self.preamble.as_ref()).await;
        let stream = stream.map_err(|error| NoConn::Failed(failure_of(&error)))?;
        let (io, greeted) = Greeting::new(stream);
        let (sender, mut driver) = client::connect(io, APP_CONNECTION_WINDOW, MAX_HEADERS);
        let greeting = poll_fn(|cx| {
            let over = Pin::new(&mut driver).poll(cx).is_ready();
            match greeted.get() {
                Greeted::NotYet if !over => Poll::Pending,
                greeted => Poll::Ready(greeted),
            }
        });
        match timeout(limit, greeting).await {
            Ok(Greeted::Yes) => {}
            // An app that knows HTTP/1.1 only may answer without a status line, as Python's `http.server` does.
            Ok(Greeted::Http1 | Greeted::Other) => return Err(self.cannot_speak()),
            // Closed without a word: what an app does that knows HTTP/1.1 only, or one that is going away, so this says
            // nothing about the next request.
            Ok(Greeted::NotYet) if self.config.protocol.is_none() => return Err(NoConn::NotSpoken),
            Ok(Greeted::NotYet) => return Err(NoConn::Failed(UpstreamFailure::Reset)),
            Err(_) => return Err(NoConn::Failed(UpstreamFailure::Timeout)),
        }
        let conn = Rc::new(Conn {
            sender,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            open: Cell::new(true),
        });
        self.conns.borrow_mut().push(Rc::clone(&conn));
        self.shard.upstream_idle.add(1);
        let mux = Rc::clone(self);
        let weak = Rc::downgrade(&conn);
        tokio::task::spawn_local(async move {
            // Its errors reach whoever waits for a response.
            let _ = driver.await;
            if let Some(conn) = weak.upgrade() {
                mux.forget(&conn);
            }
        });
        Ok(())
    }

    /// Notes that the app speaks HTTP/1.1 only, unless we were told otherwise.
    fn cannot_speak(&self) -> NoConn {
        if self.config.protocol == Some(UpstreamProtocol::H2c) {
            return NoConn::Failed(UpstreamFailure::Invalid);
        }
        if self.not_spoken.replace(Some(Instant::now())).is_none() {
            tracing::info!(app = %self.target, "the app does not speak HTTP/2: HTTP/2 clients' requests go to it in HTTP/1.1");
        }
        NoConn::NotSpoken
    }

    /// Nothing new goes to this connection; what is under way on it goes on.
    fn forget(&self, conn: &Rc<Conn>) {
        let mut conns = self.conns.borrow_mut();
        if let Some(at) = conns.iter().position(|other| Rc::ptr_eq(other, conn)) {
            conns.swap_remove(at);
            conn.open.set(false);
            if conn.streams.get() == 0 {
                self.shard.upstream_idle.add(-1);
            }
        }
    }

    /// Drops the connections that have carried nothing for `--upstream-idle`; they say GOAWAY.
    pub(super) fn expire(&self, now: Instant) {
        self.conns.borrow_mut().retain(|conn| {
            let keep = conn.streams.get() > 0 || now.duration_since(conn.idle_since.get()) < self.config.idle;
            if !keep {
                self.shard.upstream_idle.add(-1);
            }
            keep
        });
    }

    /// Waits for a connection.
    pub(super) async fn filled(&self) {
        self.changed.notified().await;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conns.borrow().is_empty()
    }
}

/// The largest response head from the app.
const MAX_HEADERS: usize = 256 << 10;

/// Why there is no connection.
#[derive(Debug, Clone, Copy)]
enum NoConn {
    Failed(UpstreamFailure),
    NotSpoken,
}

/// One attempt to connect at a time; those who wait hear of its end, whatever ends it.
struct Attempt<'a>(&'a Mux);

impl<'a> Attempt<'a> {
    fn begin(mux: &'a Mux) -> Self {
        mux.attempts.set(mux.attempts.get() + 1);
        Self(mux)
    }

    fn end(self, outcome: &Result<(), NoConn>) {
        if let Err(no_conn) = outcome {
            self.0.failed.set((self.0.attempts.get(), *no_conn));
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.attempts.set(self.0.attempts.get() + 1);
        self.0.changed.notify_waiters();
    }
}

fn app(failure: UpstreamFailure) -> Failed {
    Failed::Send(SendError::App(failure))
}
