//! The way to the app: connecting, the per-worker [`Pool`], and sending a request again where that is safe.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep};

use crate::config::{Upstream, UpstreamConfig, UpstreamProtocol};
use crate::http2::Reason;
use crate::metrics::{Shard, UpstreamFailure};
use crate::proxy_protocol::{self, Preamble};

mod body;
mod conn;
mod http2;
mod idle;
mod lease;
mod link;
mod response;
mod stream;
mod translate;

pub use body::{Asked, BodyError, Gate, Incoming, RequestBody, Upload};
use conn::Conn;
pub use http2::{Direct, NoAnswer, Place, Repeated};
use http2::{Failed, Mux};
use idle::{Bare, Idle};
pub use lease::Lease;
pub use link::Replay;
use link::{Lane, Link};
use response::Driven;
pub use response::ResponseBody;
pub use stream::{Reach, Stream, reach};

/// What the app said.
#[derive(Debug)]
pub enum Answer {
    /// A response; its body brings the connection back to the pool at its end.
    Response(Response<ResponseBody>),
    /// 101: from here on the connection carries something that is not HTTP.
    Upgraded {
        /// The head of the 101.
        response: Response<()>,
        /// The connection.
        stream: Stream,
        /// What the app has already said after the 101.
        unread: Bytes,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The app's fault.
    App(UpstreamFailure),
    /// The client broke its request's body off.
    Client,
    /// The client's: its `Host` is no host.
    Host,
    /// The app has reset the stream, with this code.
    Reset(Reason),
}

/// A request that has been sent by other means: the connection it is on and what has been read of the response, or why
/// it could not be sent.
pub type Sent = Result<(Lease, Bytes), UpstreamFailure>;

/// A worker's connections to one app.
#[derive(Debug)]
pub struct Pool {
    target: Rc<Upstream>,
    config: UpstreamConfig,
    shard: Arc<Shard>,
    builder: http1::Builder,
    mux: Rc<Mux>,
    /// With `--send-proxy`, one for each client that speaks HTTP/2.
    own_muxes: RefCell<HashMap<Preamble, Rc<Mux>>>,
    idle: RefCell<Idle>,
    /// The pool is not empty any more.
    filled: Notify,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(target: &Upstream, config: UpstreamConfig, shard: Arc<Shard>) -> Rc<Self> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_BUFFER).preserve_header_case(true);
        let target = Rc::new(target.clone());
        Rc::new(Self {
            mux: Rc::new(Mux::new(&target, config, &shard)),
            own_muxes: RefCell::default(),
            target,
            config,
            shard,
            builder,
            idle: RefCell::default(),
            filled: Notify::new(),
        })
    }

    /// Where the app is.
    #[must_use]
    pub fn target(&self) -> &Upstream {
        &self.target
    }

    /// The PROXY protocol header that connections to the app begin with, if they do.
    #[must_use]
    pub fn send_proxy(&self) -> Option<proxy_protocol::Version> {
        self.config.send_proxy
    }

    /// Sends a request over HTTP/2 and waits for the head of the response; over HTTP/1.1 after all, if the app turns out
    /// to speak nothing else. Otherwise as [`Pool::send`].
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send_http2(
        self: &Rc<Self>,
        request: Request<RequestBody>,
        replay: Replay,
        preamble: Option<&Preamble>,
    ) -> Result<Answer, SendError> {
        match self.mux_for(preamble).send(request, replay).await {
            Ok(response) => Ok(Answer::Response(response.map(ResponseBody::from))),
            Err(Failed::NotSpoken(request)) => Box::pin(self.send(*request, replay, preamble)).await,
            Err(Failed::Send(error)) => {
                if let SendError::App(failure) = error {
                    self.shard.upstream_failures[failure as usize].inc();
                }
                Err(error)
            }
        }
    }

    /// Waits for the head of the response to a request that has been `sent`, and takes the exchange over.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn take_over(
        self: &Rc<Self>,
        request: Request<RequestBody>,
        sent: Sent,
    ) -> Result<Answer, SendError> {
        let upload = request.body().upload().clone();
        let answered = match sent {
            Ok((lease, begun)) => {
                let adopted = self.adopt(lease.into_stream(), None).await;
                match adopted {
                    Ok(conn) => {
                        conn.lane.take_over(begun);
                        self.exchange_on(conn, request, &upload).await
                    }
                    Err(failure) => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        };
        answered.map_err(|failure| self.fail(failure))
    }

    /// Sends a request over HTTP/1.1 and waits for the head of the response.
    ///
    /// `replay` says in which cases it may be sent a second time, on a fresh connection, when a pooled one
    /// turns out to have been closed by the app. The connection begins, or began, with `preamble`.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send(
        self: &Rc<Self>,
        request: Request<RequestBody>,
        replay: Replay,
        preamble: Option<&Preamble>,
    ) -> Result<Answer, SendError> {
        let mut request = request;
        translate::to_http1(&mut request);
        let upload = request.body().upload().clone();
        self.exchange(request, replay, preamble, &upload).await.map_err(|failure| {
            if upload.is_broken() {
                return SendError::Client;
            }
            self.fail(failure)
        })
    }

    fn fail(&self, failure: UpstreamFailure) -> SendError {
        self.shard.upstream_failures[failure as usize].inc();
        SendError::App(failure)
    }

    fn mux_for(&self, preamble: Option<&Preamble>) -> Rc<Mux> {
        let Some(preamble) = preamble else { return Rc::clone(&self.mux) };
        let mut own = self.own_muxes.borrow_mut();
        let mux = own.entry(preamble.clone()).or_insert_with(|| {
            self.filled.notify_one();
            Rc::new(self.mux.of_client(preamble))
        });
        Rc::clone(mux)
    }

    /// Whether a request of this version goes to the app over HTTP/2.
    #[must_use]
    pub fn speaks_http2(&self, version: Version) -> bool {
        match self.config.protocol {
            Some(UpstreamProtocol::Http1) => false,
            Some(UpstreamProtocol::H2c) => true,
            None => version == Version::HTTP_2 && !self.mux.is_not_spoken(),
        }
    }

    async fn exchange(
        self: &Rc<Self>,
        request: Request<RequestBody>,
        replay: Replay,
        preamble: Option<&Preamble>,
        upload: &Upload,
    ) -> Result<Answer, UpstreamFailure> {
        let conn = match self.checkout(preamble) {
            Some(conn) => {
                conn.lane.arm(replay);
                conn
            }
            // Boxed: it is rare, and would make the future of every request twice as large.
            None => Box::pin(self.find(preamble, replay)).await?,
        };
        self.exchange_on(conn, request, upload).await
    }

    async fn exchange_on(
        self: &Rc<Self>,
        mut conn: Box<Conn>,
        request: Request<RequestBody>,
        upload: &Upload,
    ) -> Result<Answer, UpstreamFailure> {
        let mut response = pin!(conn.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            let over = conn.drive(cx).is_ready();
            match response.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                // The connection has ended and nobody will answer any more.
                Poll::Pending if over => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        conn.lane.disarm();
        let response = match answered {
            Some(Ok(response)) => response,
            Some(Err(error)) if error.error().is_parse() => return Err(UpstreamFailure::Invalid),
            Some(Err(_)) | None => return Err(conn.lane.failure().unwrap_or(UpstreamFailure::Reset)),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (stream, unread) = conn.into_stream().ok_or(UpstreamFailure::Invalid)?;
            return Ok(Answer::Upgraded { response: response.map(drop), stream, unread });
        }
        Ok(Answer::Response(response.map(|incoming| self.body_of(incoming, conn, upload))))
    }

    /// Decides who drives the connection while the response's body comes in.
    fn body_of(
        self: &Rc<Self>,
        incoming: hyper::body::Incoming,
        conn: Box<Conn>,
        upload: &Upload,
    ) -> ResponseBody {
        use http_body::Body as _;
        // A short response: all of it is here already. Or an early one: whoever reads the body must not be the
        // one who keeps the upload going, for a client that sends everything before it reads would wait for us
        // while we wait for it.
        let early = upload.is_open() && !upload.is_held();
        if conn.sender.is_ready() || incoming.is_end_stream() || early {
            self.release(conn, upload);
            return Driven::new(incoming, None, self, upload).into();
        }
        Driven::new(incoming, Some(conn), self, upload).into()
    }

    /// Takes a connection back, now or when what is still under way on it has come to its end.
    fn release(self: &Rc<Self>, conn: Box<Conn>, upload: &Upload) {
        if conn.sender.is_ready() {
            self.put(conn);
        } else if !upload.is_held() {
            let (pool, settling) = (Rc::clone(self), upload.settling());
            tokio::task::spawn_local(async move {
                let settled = conn.settle().await;
                drop(settling);
                if let Some(conn) = settled {
                    pool.put(conn);
                }
            });
        }
    }

    /// The most recently used connection that the app has not closed.
    fn checkout(&self, preamble: Option<&Preamble>) -> Option<Box<Conn>> {
        loop {
            let conn = self.idle.borrow_mut().pop(preamble)?;
            self.shard.upstream_idle.add(-1);
            if conn.is_usable(self.config.idle) {
                conn.lane.count_active(&self.shard);
                return Some(conn);
            }
        }
    }

    /// Takes a connection back.
    fn put(&self, mut conn: Box<Conn>) {
        conn.lane.count_idle();
        conn.idle_since = Instant::now();
        self.shard.upstream_idle.add(1);
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            self.filled.notify_one();
        }
        idle.push(conn);
    }

    /// A connection without hyper's state: the most recently used one that the app has not closed. The system is not asked
    /// about those of which, by when they were used last, it is `enough` that they seem to be quiet.
    fn checkout_bare(&self, enough: impl Fn(Instant) -> bool, now: Instant) -> Option<Stream> {
        loop {
            let Bare { stream, since } = self.pop_bare()?;
            let fresh = now.saturating_duration_since(since) < self.config.idle;
            if fresh && ((enough(since) && stream.seems_quiet()) || stream.is_quiet()) {
                return Some(stream);
            }
        }
    }

    fn pop_bare(&self) -> Option<Bare> {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let bare = idle.pop_bare();
        // One that could not be stripped is gone as well.
        self.count_dropped(before - idle.len());
        bare
    }

    fn put_bare(&self, stream: Stream, since: Instant) {
        self.shard.upstream_idle.add(1);
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            self.filled.notify_one();
        }
        idle.push_bare(Bare { stream, since });
    }

    /// A client has gone: connections that began with its header are of no use to anybody else.
    pub fn forget(&self, preamble: &Preamble) {
        let dropped = self.idle.borrow_mut().forget(preamble);
        self.count_dropped(dropped);
        let mux = self.own_muxes.borrow_mut().remove(preamble);
        if let Some(mux) = mux {
            mux.close();
        }
    }

    /// Drops the connections that nobody has needed for `--upstream-idle`. Never returns; an empty pool
    /// has no timer.
    pub async fn keep_fresh(self: Rc<Self>) {
        let interval = (self.config.idle / 2).clamp(EXPIRY.0, EXPIRY.1);
        loop {
            while self.is_empty() {
                tokio::select! {
                    () = self.filled.notified() => {}
                    () = self.mux.filled() => {}
                }
            }
            sleep(interval).await;
            self.expire(Instant::now());
        }
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.mux.is_empty() && self.own_muxes.borrow().is_empty()
    }

    fn expire(&self, now: Instant) {
        self.mux.expire(now);
        self.own_muxes.borrow().values().for_each(|mux| mux.expire(now));
        let dropped = self.idle.borrow_mut().expire(now, self.config.idle);
        self.count_dropped(dropped);
    }

    fn count_dropped(&self, conns: usize) {
        self.shard.upstream_idle.add(-i64::try_from(conns).unwrap_or(0));
    }

    /// Opens a connection that is to carry something other than HTTP. It begins with `preamble`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(&self, preamble: Option<&Preamble>) -> Result<Stream, UpstreamFailure> {
        let connected = stream::connect(&self.target, self.config.connect_timeout, preamble).await;
        connected.map_err(|error| {
            let failure = failure_of(&error);
            self.shard.upstream_failures[failure as usize].inc();
            failure
        })
    }

    /// A connection for a request that may be sent again as `replay` says: one from the pool that has no state of hyper's
    /// yet, or a new one.
    async fn find(
        self: &Rc<Self>,
        preamble: Option<&Preamble>,
        replay: Replay,
    ) -> Result<Box<Conn>, UpstreamFailure> {
        if preamble.is_none()
            && let Some(stream) = self.checkout_bare(|_| false, Instant::now())
        {
            let conn = self.adopt(stream, None).await?;
            conn.lane.arm(replay);
            return Ok(conn);
        }
        let stream = stream::connect(&self.target, self.config.connect_timeout, preamble).await;
        self.adopt(stream.map_err(|error| failure_of(&error))?, preamble).await
    }

    async fn adopt(
        self: &Rc<Self>,
        stream: Stream,
        preamble: Option<&Preamble>,
    ) -> Result<Box<Conn>, UpstreamFailure> {
        let target = Rc::clone(&self.target);
        let lane = Lane::new(stream, target, self.config.connect_timeout, preamble.cloned());
        lane.count_active(&self.shard);
        let link = TokioIo::new(Link::new(Rc::clone(&lane)));
        let (sender, driver) = self.builder.handshake(link).await.map_err(|_| UpstreamFailure::Reset)?;
        Ok(Box::new(Conn::new(sender, driver, lane)))
    }
}

/// The bounds of how often the pool is looked through.
const EXPIRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The largest response head, and the most of a body that is read at a time.
const MAX_BUFFER: usize = 256 << 10;

/// Why a connection does not come about.
fn failure_of(error: &io::Error) -> UpstreamFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => UpstreamFailure::Refused,
        io::ErrorKind::TimedOut => UpstreamFailure::Timeout,
        _ => UpstreamFailure::Unreachable,
    }
}
