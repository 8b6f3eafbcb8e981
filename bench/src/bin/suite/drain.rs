//! What is lost when a proxy is told to go, and how long ebb waits when nothing is left to wait for.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ebb_bench::client::{After, Failure};
use ebb_bench::peer::{Kind, Serve};
use ebb_bench::{App, Connection, Load, Origin, Tally};
use tokio::time::{Instant, sleep, timeout};

use crate::context::Context;
use crate::series::Series;

/// Bytes in a response's body.
const BODY: usize = 2048;

/// No phase lasts longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One drain of one proxy.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) tally: Tally,
    pub(crate) seconds: f64,
    /// Milliseconds from the end of the last connection to the answer to `/drain`, in a drain of its own; ebb's alone.
    pub(crate) after_last: Option<f64>,
}

pub(crate) async fn measure(cx: &mut Context) -> Series<Turn> {
    let kinds = cx.proxies();
    let mut turns = Series::new(&kinds);
    for round in 0..cx.args.drains() {
        for kind in Series::<Turn>::order(&kinds, round) {
            let turn = turn(cx, kind).await;
            match &turn {
                Ok(turn) => eprintln!("drain {}, {}: {}", round + 1, kind.name(), turn.tally),
                Err(error) => cx.failed(kind, "drain", error),
            }
            turns.push(kind, turn.ok());
        }
    }
    turns
}

async fn turn(cx: &Context, kind: Kind) -> io::Result<Turn> {
    // The app takes 0 to 3 ms, so that requests are under way when the drain begins.
    let delay = Duration::ZERO..=Duration::from_millis(3);
    let origin = Origin::start(App { body: BODY, delay, ..App::default() })?;
    let mut peer = cx.start(kind, origin.addr(), Serve::Http1).await?;
    let load = Load::new(peer.addr(), BODY).start();
    let drained = peer.drain_under(Duration::from_millis(500), load.refused()).await?;
    let tally = load.stop().await;
    peer.stop().await?;
    let after_last =
        if matches!(kind, Kind::Ebb | Kind::Ebb2) { Some(after_last(cx, kind).await?) } else { None };
    Ok(Turn { tally, seconds: drained.took.as_secs_f64(), after_last })
}

/// Drains while one request is under way, ends that when nothing else is left, and sees how much later the answer to
/// `/drain` comes. In milliseconds.
async fn after_last(cx: &Context, kind: Kind) -> io::Result<f64> {
    let origin = Origin::start(App::default())?;
    let mut peer = cx.start(kind, origin.addr(), Serve::Http1).await?;
    let addr = peer.addr();
    let mut client = Connection::connect(addr).await.map_err(io::Error::other)?;
    client.get("/", After::KeepAlive).await.map_err(io::Error::other)?;
    let half = b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 2\r\n\r\nx";
    client.send(half).await.map_err(io::Error::other)?;
    let drain = async {
        let drained = peer.drain().await;
        drained.map(|_| Instant::now())
    };
    let finish = async {
        timeout(PATIENCE, refuses(addr)).await.map_err(io::Error::other)?;
        client.send(b"x").await.map_err(io::Error::other)?;
        let response = client.receive().await.map_err(io::Error::other)?;
        drop(client);
        let last = Instant::now();
        if response.status() == 200 { Ok(last) } else { Err(io::Error::other("its last request failed")) }
    };
    let (answered, last) = tokio::join!(drain, finish);
    let after = answered?.saturating_duration_since(last?);
    peer.stop().await?;
    Ok(after.as_secs_f64() * 1e3)
}

/// Waits until ebb has closed its listeners. While it does that, attempts get no answer at all, and would wait for a
/// second until they are repeated.
async fn refuses(addr: SocketAddr) {
    loop {
        let attempt = timeout(Duration::from_millis(20), Connection::connect(addr)).await;
        if let Ok(Err(Failure::Refused)) = attempt {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}
