//! Memory: of an idle proxy, and of each connection that waits for its next request, or for its answer.

use std::io;
use std::time::Duration;

use ebb_bench::client::After;
use ebb_bench::http2::Idle;
use ebb_bench::origin::NEVER;
use ebb_bench::peer::{Kind, Peer, Serve};
use ebb_bench::usage::{family, memory};
use ebb_bench::{App, Connection, Origin};
use tokio::time::{Instant, sleep};

use crate::context::Context;
use crate::series::Series;

/// Connections that come and go before the memory per connection is measured.
const WARM_UP: usize = 64;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(250);

/// Nobody tidies up later than this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections with a request each: less than those that are idle, as each is one to the app as well.
const ACTIVE: usize = 1000;

/// One turn of one proxy, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Since the start, without a connection.
    pub(crate) rest: f64,
    /// With all idle keep-alive connections.
    pub(crate) total: f64,
    /// Per idle keep-alive connection.
    pub(crate) idle: f64,
    /// Per connection with a request that the app has not answered.
    pub(crate) active: f64,
    /// Per idle HTTP/2 connection; none where HTTP/2 cannot be passed on.
    pub(crate) http2: Option<f64>,
}

pub(crate) async fn measure(cx: &mut Context) -> Series<Turn> {
    let kinds = cx.proxies();
    let mut turns = Series::new(&kinds);
    for round in 0..cx.args.memory_rounds() {
        for kind in Series::<Turn>::order(&kinds, round) {
            let turn = turn(cx, kind).await;
            match &turn {
                Ok(Turn { rest, idle, active, http2, .. }) => eprintln!(
                    "memory, round {}, {}: {rest:.0} bytes at rest, each idle {idle:.0}, active {active:.0}, \
                     idle HTTP/2 {:.0}",
                    round + 1,
                    kind.name(),
                    http2.unwrap_or(f64::NAN)
                ),
                Err(error) => cx.failed(kind, "memory", error),
            }
            turns.push(kind, turn.ok());
        }
    }
    turns
}

async fn turn(cx: &Context, kind: Kind) -> io::Result<Turn> {
    let held = cx.args.held();
    let idle = held_by(cx, kind, Held::Idle, held).await?;
    let active = held_by(cx, kind, Held::Active, held.min(ACTIVE)).await?;
    // nginx has no HTTP/2 to the app, but can have it from the client.
    let can = kind.can(&Serve::Http2) || kind.can(&Serve::Http2ToHttp1);
    let http2 = if can { Some(held_by(cx, kind, Held::Http2, held).await?.each) } else { None };
    Ok(Turn { rest: idle.rest, total: idle.total, idle: idle.each, active: active.each, http2 })
}

/// What holds a connection open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Idle,
    Active,
    Http2,
}

/// Bytes.
struct Bytes {
    rest: f64,
    total: f64,
    each: f64,
}

async fn held_by(cx: &Context, kind: Kind, held: Held, count: usize) -> io::Result<Bytes> {
    let origin = Origin::start(App { body: cx.args.body, ..App::default() })?;
    let serve = match held {
        Held::Http2 if kind.can(&Serve::Http2) => Serve::Http2,
        Held::Http2 => Serve::Http2ToHttp1,
        _ => Serve::Http1,
    };
    let peer = cx.start(kind, origin.addr(), serve).await?;
    // nginx listens before it has workers.
    sleep(cx.args.settled() / 2).await;
    let pids = family(peer.pid());
    let rest = memory(&pids)?;
    // The first connections touch code and tables that all later ones share.
    let kept = if held == Held::Http2 { Held::Http2 } else { Held::Idle };
    drop(connect(&peer, WARM_UP, kept, &origin).await?);
    let warm = settle(cx, &pids).await?;
    let mut clients = connect(&peer, count, held, &origin).await?;
    let total = settle(cx, &pids).await?;
    for client in &mut clients {
        if client.closed().await {
            return Err(io::Error::other("a connection that was held open was closed"));
        }
    }
    let (total, warm) = (total as f64, warm as f64);
    Ok(Bytes { rest: rest as f64, total, each: (total - warm) / count as f64 })
}

/// A connection that has had a response, or waits for one.
enum Client {
    Http1(Connection),
    Http2(Idle),
}

impl Client {
    async fn connect(peer: &Peer, held: Held) -> io::Result<Self> {
        if held == Held::Http2 {
            return Idle::connect(peer.addr()).await.map(Self::Http2).map_err(io::Error::other);
        }
        let mut client = Connection::connect(peer.addr()).await.map_err(io::Error::other)?;
        if held == Held::Active {
            let request = format!("GET {NEVER} HTTP/1.1\r\nhost: app\r\n\r\n");
            client.send(request.as_bytes()).await.map_err(io::Error::other)?;
            return Ok(Self::Http1(client));
        }
        let response = client.get("/", After::KeepAlive).await.map_err(io::Error::other)?;
        if response.status() != 200 || response.close() {
            return Err(io::Error::other("a connection is not kept"));
        }
        Ok(Self::Http1(client))
    }

    async fn closed(&mut self) -> bool {
        match self {
            Self::Http1(client) => client.closed_within(Duration::ZERO).await != Ok(false),
            Self::Http2(client) => client.closed().await,
        }
    }
}

/// Opens connections one after the other, and waits until the app has the requests that it does not answer.
async fn connect(peer: &Peer, count: usize, held: Held, origin: &Origin) -> io::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for n in 1..=count {
        clients.push(Client::connect(peer, held).await?);
        let start = Instant::now();
        while held == Held::Active && origin.held() < n as u64 {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("a request does not reach the app"));
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(clients)
}

/// Waits until the memory no longer shrinks.
async fn settle(cx: &Context, pids: &[u32]) -> io::Result<u64> {
    let start = Instant::now();
    let (mut least, mut since) = (memory(pids)?, start);
    while since.elapsed() < cx.args.settled() && start.elapsed() < PATIENCE {
        sleep(LOOK).await;
        let now = memory(pids)?;
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    memory(pids)
}
