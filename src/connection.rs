//! One client connection, from accept to lingering close. It is always in exactly one state:
//!
//! ```text
//!  handshake              (first, where TLS is spoken)
//!    ▼
//!            first byte            idle 1 s
//!  parked ───────────────▶ serving ────────▶ parked ─ ─ ▶ …      (a new connection begins as parked)
//!    │                      │    │
//!    │ idle too long,       │    └─ 101 ──▶ tunnel ──▶ closed
//!    │ told to go           │ last response, error of ours
//!    └──────▶ lingering ◀───┘
//! ```
//!
//! Parked, only the socket and a small future remain: hyper's state is torn down whenever it is idle, and
//! built anew at the next byte. So closing an idle connection is a decision about a plain socket, and an upgrade
//! is nothing but the next state. A connection of a `tcp://` forward is a tunnel from the beginning (`tcp`).
//!
//! With `--accept-proxy` the first state comes after the connection's PROXY protocol header (`proxy_header`).

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hyper::server::conn::http1 as hyper_http1;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout};

use crate::config::{Config, Scheme, UpstreamProtocol};
use crate::date::Date;
use crate::drain::arrivals::{Arrivals, Probers};
use crate::metrics::{End, Protocol};
use crate::origin::Origin;
use crate::proxy::{self, Begun, Caller, Exchange, Route};
use crate::proxy_protocol::Ends;
use crate::tls::Current;
use crate::upstream::Stream;

mod fast;
mod heads;
mod http1;
mod http2;
mod linger;
mod parked;
mod peer;
mod proxy_header;
mod roster;
mod sniff;
mod stream;
mod tcp;
pub(crate) mod tls;
mod tunnel;
mod wire;

pub use roster::Roster;
use roster::{Member, Order, Stage};
use stream::ClientStream;
use tunnel::Tunnel;

/// What the connections of one worker on one forward share.
#[derive(Debug)]
pub struct Site {
    /// What is spoken on it.
    scheme: Scheme,
    /// Where their requests go.
    pub route: Rc<Route>,
    /// The worker's connections.
    pub roster: Rc<Roster>,
    /// Where new ones are noted in a drain.
    pub arrivals: Arc<Arrivals>,
    /// Whose connections are not noted.
    pub probers: Rc<Probers>,
    /// What its handshakes begin with, on an `https://` forward.
    tls: Option<Current>,
    /// Requests may go to the app nearly as they come: it speaks HTTP/1.1 with everybody.
    fast: bool,
    max_header_bytes: usize,
    date: Date,
    builder: hyper_http1::Builder,
    refusing: Cell<usize>,
    accept_proxy: bool,
}

/// Connections over the limit that are answered with a 503 at a time; more than these are just closed.
const REFUSING_MAX: usize = 64;

/// What a refused client has to show what it speaks.
const REFUSING_PATIENCE: Duration = Duration::from_millis(200);

/// What a refused client has to read its 503 and close.
const REFUSING_TIMEOUT: Duration = Duration::from_secs(1);

impl Site {
    /// For one worker and forward.
    #[must_use]
    pub fn new(
        scheme: Scheme,
        route: Rc<Route>,
        roster: &Rc<Roster>,
        arrivals: &Arc<Arrivals>,
        probers: &Rc<Probers>,
        config: &Config,
        tls: Option<Current>,
    ) -> Rc<Self> {
        let (limits, upstream) = (&config.limits, &config.upstream);
        let mut builder = hyper_http1::Builder::new();
        builder
            // A client may shut its sending side down after the request; nothing of the response is lost.
            .half_close(true)
            // As on the fast path: names reach the other side as they were written.
            .preserve_header_case(true)
            .max_header_size(limits.max_header_bytes)
            .max_buf_size(limits.max_header_bytes.max(MAX_BODY_BUFFER));
        Rc::new(Self {
            scheme,
            route,
            roster: Rc::clone(roster),
            arrivals: Arc::clone(arrivals),
            probers: Rc::clone(probers),
            tls,
            fast: upstream.protocol != Some(UpstreamProtocol::H2c) && upstream.send_proxy.is_none(),
            max_header_bytes: limits.max_header_bytes,
            date: Date::default(),
            builder,
            refusing: Cell::new(0),
            accept_proxy: config.accept_proxy,
        })
    }

    /// Takes a connection that was just accepted, as a task of its own. `rescued`: out of the accept queue of
    /// a listener that is about to close.
    pub fn take(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, rescued: bool) {
        let Some(member) = self.roster.admit(&self.route.shard, rescued) else {
            match self.scheme {
                Scheme::Tcp => ClientStream::Plain(stream).abort(),
                _ => self.refuse(stream),
            }
            return;
        };
        let caller = Caller::new(&self.route.pool, peer);
        if self.accept_proxy {
            tokio::task::spawn_local(proxy_header::read(Rc::clone(self), member, caller, stream));
        } else if self.introduce(&caller, &stream, None) {
            self.begin(stream, member, caller);
        }
    }

    /// Says between whom a connection is, by its header or as the socket has it; false when the socket is gone.
    fn introduce(&self, caller: &Caller, stream: &TcpStream, header: Option<Ends>) -> bool {
        if header.is_none() && self.route.pool.send_proxy().is_none() {
            return true; // nobody asks, and asking costs a system call
        }
        let own = || Some(Ends { client: caller.addr(), server: stream.local_addr().ok()? });
        header.or_else(own).inspect(|&ends| caller.between(ends)).is_some()
    }

    /// Begins with a connection, as a task of its own, when it is known whose it is.
    fn begin(self: &Rc<Self>, stream: TcpStream, member: Member, caller: Rc<Caller>) {
        if self.scheme == Scheme::Tcp {
            member.speaks(Protocol::Tcp);
            tokio::task::spawn_local(tcp::serve(
                Rc::clone(self),
                member,
                caller,
                ClientStream::Plain(stream),
            ));
            return;
        }
        let client = Client {
            site: Rc::clone(self),
            member,
            caller,
            exchange: OnceCell::new(),
            idle_since: Cell::new(Instant::now()),
            asked: Cell::new(false),
            kept: Cell::new(0),
            fresh: Cell::new(true),
        };
        tokio::task::spawn_local(client.live(ClientStream::Plain(stream)));
    }

    /// Too many connections: says so, as long as that does not itself take up too much.
    fn refuse(self: &Rc<Self>, mut stream: TcpStream) {
        if self.refusing.get() >= REFUSING_MAX {
            return;
        }
        self.refusing.set(self.refusing.get() + 1);
        let site = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let error = proxy::Error::Overloaded;
            let (protocol, words) = site.words_of_refusal(&stream, error).await;
            site.route.shard.refused(protocol, error.status().as_u16());
            let _ = timeout(REFUSING_TIMEOUT, async {
                stream.write_all(&words).await?;
                linger::discard(&mut ClientStream::Plain(stream)).await
            })
            .await;
            site.refusing.set(site.refusing.get() - 1);
        });
    }
}

impl Site {
    /// What a client that is not served is told, in the words of what it speaks.
    async fn words_of_refusal(&self, stream: &TcpStream, error: proxy::Error) -> (Protocol, Vec<u8>) {
        if self.tls.is_some() {
            // A handshake, and only then the 503, would cost more than serving it.
            return (Protocol::Http1, tls::NOT_SERVED.to_vec());
        }
        let mut first = [0; 3];
        let peeked = timeout(REFUSING_PATIENCE, stream.peek(&mut first)).await;
        if matches!(peeked, Ok(Ok(3))) && first == *b"PRI" {
            return (Protocol::Http2, http2::OVERLOADED.to_vec());
        }
        (Protocol::Http1, error.raw_response())
    }
}

/// The most of a body that is held at a time, in either direction.
const MAX_BODY_BUFFER: usize = 64 << 10;

/// What stays with a connection through all its states.
#[derive(Debug)]
struct Client {
    site: Rc<Site>,
    member: Member,
    caller: Rc<Caller>,
    /// Only while it is not parked.
    exchange: OnceCell<Rc<Exchange>>,
    /// When the last exchange ended, or the connection came, while there is no exchange.
    idle_since: Cell<Instant>,
    /// It has sent a request.
    asked: Cell<bool>,
    /// Responses on which it was not told to go because more of its requests were already here.
    kept: Cell<u32>,
    /// Nothing is known yet of what it speaks.
    fresh: Cell<bool>,
}

/// What a connection turns into when it leaves the serving state.
#[derive(Debug)]
enum Next {
    /// New, on an `https://` forward.
    Handshake(ClientStream),
    /// Idle: only the socket is kept.
    Park(ClientStream),
    /// It was parked until now.
    Wake(ClientStream, parked::Wake),
    /// A request is here, or part of one.
    Fast(ClientStream, Bytes),
    /// The same, for hyper; the first request may have begun already.
    Serve(ClientStream, Bytes, Option<Box<Begun>>),
    /// The first bytes are those of an HTTP/2 client, as far as they go.
    Sniff(ClientStream, Vec<u8>),
    /// The client speaks HTTP/2; its first bytes.
    Http2(ClientStream, Bytes),
    /// Everything has been said.
    Linger(ClientStream),
    /// After a 101.
    Tunnel(Box<Upgraded>),
    /// The socket is gone, or not worth more.
    Closed,
}

/// The two sides after a 101, and what was read past the heads.
#[derive(Debug)]
struct Upgraded {
    client: ClientStream,
    from_client: Bytes,
    app: Stream,
    from_app: Bytes,
    /// What the two have agreed on.
    protocol: Protocol,
}

impl Client {
    /// What it and the exchanges on it know of each other.
    fn exchange(&self) -> &Rc<Exchange> {
        self.exchange.get_or_init(|| {
            let (site, since) = (&self.site, self.idle_since.get());
            Exchange::new(&site.route, site.roster.view(), &self.caller, self.member.protocol(), since)
        })
    }

    /// Where its requests come from, as the app is told.
    fn origin(&self) -> Origin {
        let route = &self.site.route;
        Origin {
            forwarded: route.forwarded,
            client: self.caller.ip_text(),
            proto: if route.scheme == Scheme::Https { "https" } else { "http" },
        }
    }

    /// When the last exchange ended (or the connection was accepted).
    fn idle_since(&self) -> Instant {
        self.exchange.get().map_or_else(|| self.idle_since.get(), |exchange| exchange.idle_since())
    }

    /// The connection's task. It is as large as a parked connection needs; all else is in a box, which goes when the
    /// connection is parked.
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
    fn live(mut self, mut stream: ClientStream) -> impl Future<Output = ()> {
        async move {
            if self.site.tls.is_some() {
                match Box::pin(self.wake(Next::Handshake(stream))).await {
                    Some(parked) => stream = parked,
                    None => return,
                }
            }
            loop {
                self.idle_since.set(self.idle_since());
                // What is still on its way to the app is waited for when the connection has gone.
                if !self.is_settling() {
                    self.exchange.take();
                }
                self.member.seat.enter(Stage::Parked, self.idle_since.get());
                let wake = poll_fn(|cx| parked::poll(&self, &mut stream, cx)).await;
                match Box::pin(self.wake(Next::Wake(stream, wake))).await {
                    Some(parked) => stream = parked,
                    None => return,
                }
            }
        }
    }

    /// Goes from state to state until the connection is parked (then it is returned) or closed.
    async fn wake(&self, mut next: Next) -> Option<ClientStream> {
        loop {
            next = match next {
                Next::Handshake(stream) => match &self.site.tls {
                    Some(current) => Box::pin(tls::shake_hands(self, stream, current)).await,
                    None => Next::Park(stream),
                },
                Next::Park(stream) => return Some(stream),
                Next::Wake(stream, wake) => match wake {
                    parked::Wake::Readable if self.site.fast => Next::Fast(stream, Bytes::new()),
                    parked::Wake::Readable if self.fresh.get() => Next::Sniff(stream, Vec::new()),
                    parked::Wake::Readable => Next::Serve(stream, Bytes::new(), None),
                    parked::Wake::Close => {
                        self.member.ends(End::ClosedIdle);
                        linger::after_idle(&self.member, stream).await;
                        Next::Closed
                    }
                    parked::Wake::TooSlow(order) => sniff::too_slow(self, stream, order),
                    parked::Wake::Cut => Next::Closed,
                },
                // Boxed: each has a box of its own size.
                Next::Serve(stream, unread, begun) => {
                    Box::pin(http1::serve(self, stream, unread, begun)).await
                }
                Next::Fast(stream, unread) => Box::pin(fast::serve(self, stream, unread)).await,
                Next::Sniff(stream, begun) => Box::pin(sniff::sniff(self, stream, begun)).await,
                Next::Http2(stream, first) => Box::pin(http2::serve(self, stream, first)).await,
                Next::Linger(stream) => {
                    linger::after_response(&self.member, stream).await;
                    Next::Closed
                }
                Next::Tunnel(upgraded) => {
                    let Upgraded { client, from_client, app, from_app, protocol } = *upgraded;
                    self.member.speaks(protocol);
                    let mut tunnel = Tunnel::new(client, from_client, app, from_app, &self.member);
                    if protocol == Protocol::WebSocket {
                        tunnel = tunnel.follow();
                    }
                    Box::pin(tunnel.run(&self.member, || {})).await.map_or(Next::Closed, Next::Linger)
                }
                Next::Closed => {
                    self.settle().await;
                    return None;
                }
            }
        }
    }

    /// Whether the app has not taken everything yet that the client has sent.
    fn is_settling(&self) -> bool {
        self.exchange.get().is_some_and(|exchange| exchange.upload().is_settling())
    }

    /// What the client has sent must reach the app, even if the client has gone with its answer.
    async fn settle(&self) {
        if !self.is_settling() {
            return;
        }
        self.member.seat.enter(Stage::Lingering, Instant::now());
        poll_fn(|cx| {
            // The roster looks at a lingering connection at every tick.
            self.member.seat.register(cx.waker());
            let cut = self.member.seat.take_order() == Some(Order::Cut);
            if cut {
                self.member.ends(End::Cut);
            }
            if cut || !self.is_settling() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests;
