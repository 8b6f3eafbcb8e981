//! TCP: bytes per second of processor time in bulk, and processor time per round trip.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use ebb_bench::bulk::{Bulk, Direction};
use ebb_bench::peer::{Kind, Peer, Serve};
use ebb_bench::ping_pong;
use ebb_bench::table::{Table, median};
use ebb_bench::usage::{cpu, family};
use ebb_bench::{App, Origin};
use tokio::time::{Instant, sleep};

use crate::cpu::{ratios, spread};
use crate::{Args, peers, setup};

const WARM_UP: Duration = Duration::from_secs(1);

/// Connections that carry bytes in bulk.
const BULK: usize = 4;

/// What one turn of one proxy is about.
#[derive(Debug, Clone, Copy)]
enum What {
    Bulk(Direction),
    /// A message of 64 bytes to and fro on each of the connections.
    PingPong,
}

/// One turn of one proxy.
struct Turn {
    /// GB per second of processor time, or microseconds of it per round trip.
    cost: f64,
    /// GB or round trips per second.
    rate: f64,
}

impl What {
    fn title(self) -> &'static str {
        match self {
            Self::Bulk(Direction::Up) => "bulk to the app, GB",
            Self::Bulk(Direction::Down) => "bulk to the client, GB",
            Self::PingPong => "round trips",
        }
    }

    fn columns(self) -> [&'static str; 6] {
        match self {
            Self::Bulk(_) => ["proxy", "GB per CPU second", "min-max", "times HAProxy", "min-max", "GB/s"],
            Self::PingPong => {
                ["proxy", "us per round trip", "min-max", "times HAProxy", "min-max", "round trips/s"]
            }
        }
    }
}

pub(crate) async fn measure(args: &Args) -> io::Result<()> {
    println!(
        "TCP: {BULK} connections in bulk, {} with round trips of 64 bytes; {} workers, {} rounds of {} s",
        args.connections, args.workers, args.rounds, args.seconds
    );
    for what in [What::Bulk(Direction::Up), What::Bulk(Direction::Down), What::PingPong] {
        println!("\n{}\n\n{}", what.title(), rounds(args, what).await?);
    }
    Ok(())
}

async fn rounds(args: &Args, what: What) -> io::Result<Table> {
    let peers = peers(args, &Serve::Tcp);
    let mut turns: Vec<Vec<Turn>> = peers.iter().map(|_| Vec::new()).collect();
    for round in 0..args.rounds {
        for n in 0..peers.len() {
            let i = (round + n) % peers.len();
            let turn = turn(args, peers[i], what).await?;
            let (title, name) = (what.title(), peers[i].name());
            eprintln!("{title}, round {}, {name}: {:.2}, {:.2}/s", round + 1, turn.cost, turn.rate);
            turns[i].push(turn);
        }
    }
    let mut table = Table::new(&what.columns());
    let base = peers.iter().position(|kind| *kind == Kind::Haproxy);
    for (kind, own) in peers.iter().zip(&turns) {
        let costs: Vec<f64> = own.iter().map(|turn| turn.cost).collect();
        let rates: Vec<f64> = own.iter().map(|turn| turn.rate).collect();
        let (ratio, ratio_spread) = ratios(&costs, base.map(|base| turns[base].iter().map(|turn| turn.cost)));
        let median_cost = format!("{:.2}", median(&costs));
        let rate = format!("{:.2}", median(&rates));
        table.row(vec![kind.name().to_owned(), median_cost, spread(&costs, 2), ratio, ratio_spread, rate]);
    }
    Ok(table)
}

async fn turn(args: &Args, kind: Kind, what: What) -> io::Result<Turn> {
    match what {
        What::Bulk(direction) => {
            let app = Bulk::start(direction)?;
            let peer = Peer::start(&setup(args, kind, app.addr(), &Serve::Tcp)?).await?;
            let connect = |_| app.connect(peer.addr(), direction);
            let streams = (0..BULK).map(connect).collect::<io::Result<Vec<_>>>()?;
            let (bytes, used, seconds) = interval(args, &peer, || app.received()).await?;
            streams.iter().try_for_each(|stream| stream.shutdown(Shutdown::Both))?;
            let gigabytes = bytes as f64 / 1e9;
            Ok(Turn { cost: gigabytes / used, rate: gigabytes / seconds })
        }
        What::PingPong => {
            let origin = Origin::start(App::default())?;
            let peer = Peer::start(&setup(args, kind, origin.tcp_addr(), &Serve::Tcp)?).await?;
            let (load, count) = ping_pong::start(peer.addr(), args.connections);
            let (trips, used, seconds) = interval(args, &peer, || count.get()).await?;
            let tally = load.stop().await;
            if tally.lost() + tally.refused + tally.not_connected > 0 {
                return Err(io::Error::other(format!("{}: {tally}", kind.name())));
            }
            Ok(Turn { cost: used * 1e6 / trips as f64, rate: trips as f64 / seconds })
        }
    }
}

/// What was counted within the turn, the processor time that the proxy used, and the time that passed, in seconds.
async fn interval(args: &Args, peer: &Peer, count: impl Fn() -> u64) -> io::Result<(u64, f64, f64)> {
    sleep(WARM_UP).await;
    let pids = family(peer.pid());
    let (start, cpu_before, before) = (Instant::now(), cpu(&pids)?, count());
    sleep(Duration::from_secs(args.seconds)).await;
    let (used, counted) = (cpu(&pids)? - cpu_before, count() - before);
    Ok((counted, used.as_secs_f64(), start.elapsed().as_secs_f64()))
}
