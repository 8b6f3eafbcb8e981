//! Processor time: per request, per message, or per GiB, with as much load as the proxy takes.

use std::io;
use std::net::{Shutdown, SocketAddr};

use ebb_bench::ask::{Answered, Asking, PATIENCE};
use ebb_bench::bulk::{Bulk, Direction};
use ebb_bench::peer::{Kind, Peer};
use ebb_bench::usage::{cpu, family};
use ebb_bench::{App, Origin};
use tokio::time::{Instant, sleep};

use crate::context::Context;
use crate::series::Series;
use crate::workload::{Unit, Workload};

/// Connections that carry bytes in bulk.
const BULK: usize = 4;

const GIB: f64 = (1 << 30) as f64;

/// One turn of one proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Microseconds of user and system time per request or message, or seconds per GiB.
    pub(crate) cost: f64,
    /// Requests, messages or GiB per second.
    pub(crate) rate: f64,
}

/// All turns with one workload.
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    pub(crate) turns: Series<Turn>,
}

impl Measured {
    /// What each can do at most.
    pub(crate) fn rates(&self) -> Vec<(Kind, f64)> {
        let rate = |kind| Some((kind, self.turns.summary(kind, |turn| turn.rate)?.median));
        self.turns.kinds().into_iter().filter_map(rate).collect()
    }
}

/// Where the app takes such a load.
pub(crate) fn upstream(origin: &Origin, workload: Workload) -> SocketAddr {
    if workload == Workload::PingPong { origin.tcp_addr() } else { origin.addr() }
}

pub(crate) async fn measure(cx: &mut Context, workload: Workload) -> Measured {
    let kinds = cx.able(workload);
    let mut turns = Series::new(&kinds);
    for round in 0..cx.args.rounds() {
        for kind in Series::<Turn>::order(&kinds, round) {
            let (name, flag, unit) = (kind.name(), workload.flag(), workload.unit());
            let turn = turn(cx, kind, workload).await;
            match &turn {
                Ok(Turn { cost, rate }) => {
                    let (costs, rates) = (unit.cost(), unit.rate());
                    eprintln!("{flag}, round {}, {name}: {cost:.2} {costs}, {rate:.2} {rates}", round + 1);
                }
                Err(error) => cx.failed(kind, flag, error),
            }
            turns.push(kind, turn.ok());
        }
    }
    Measured { workload, turns }
}

async fn turn(cx: &Context, kind: Kind, workload: Workload) -> io::Result<Turn> {
    match workload.bulk() {
        Some(direction) => bulk(cx, kind, workload, direction).await,
        None => asking(cx, kind, workload).await,
    }
}

async fn asking(cx: &Context, kind: Kind, workload: Workload) -> io::Result<Turn> {
    let origin = Origin::start(App { body: workload.body(&cx.args), ..App::default() })?;
    let peer = cx.start(kind, upstream(&origin, workload), workload.serve(&cx.identity)).await?;
    let clients = workload.clients(&cx.args, &peer, &cx.identity).await.map_err(io::Error::other)?;
    let asking = Asking::start(clients);
    let count = asking.count();
    let turn = interval(cx, &peer, workload.unit(), || count.get()).await;
    // Whoever was answered wrongly or not at all says so here.
    asking.stop().await.map_err(io::Error::other)?;
    turn
}

async fn bulk(cx: &Context, kind: Kind, workload: Workload, direction: Direction) -> io::Result<Turn> {
    let app = Bulk::start(direction)?;
    let peer = cx.start(kind, app.addr(), workload.serve(&cx.identity)).await?;
    let connect = |_| app.connect(peer.addr(), direction);
    let streams = (0..BULK).map(connect).collect::<io::Result<Vec<_>>>()?;
    let count = || Answered { answers: 0, bytes: app.received() };
    let turn = interval(cx, &peer, workload.unit(), count).await;
    for stream in &streams {
        // A proxy that has ended the connection shows in what was received.
        let _ = stream.shutdown(Shutdown::Both);
    }
    turn
}

/// What was counted within the turn, and what the proxy used for it.
async fn interval(cx: &Context, peer: &Peer, unit: Unit, count: impl Fn() -> Answered) -> io::Result<Turn> {
    sleep(cx.args.warm_up()).await;
    let pids = family(peer.pid());
    let (start, cpu_before, before) = (Instant::now(), cpu(&pids)?, count());
    sleep(cx.args.turn()).await;
    // On a very slow machine a turn may be too short for anything.
    while count() == before && start.elapsed() < PATIENCE {
        sleep(cx.args.turn()).await;
    }
    let (used, after, seconds) = (cpu(&pids)? - cpu_before, count(), start.elapsed().as_secs_f64());
    let (done, scale) = match unit {
        Unit::GiB => ((after.bytes - before.bytes) as f64 / GIB, 1.0),
        Unit::Request | Unit::Message => ((after.answers - before.answers) as f64, 1e6),
    };
    if done <= 0.0 {
        return Err(io::Error::other("nothing was answered"));
    }
    Ok(Turn { cost: used.as_secs_f64() * scale / done, rate: done / seconds })
}
