//! What each proxy loses when it is told to go in the middle of a load.
#![allow(clippy::print_stdout, reason = "the tables are what this prints")]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ebb_bench::mix::{Mix, Protocol};
use ebb_bench::peer::{Binaries, Drained, Kind, Peer, Serve, Setup};
use ebb_bench::table::{Table, median, range};
use ebb_bench::tls::Identity;
use ebb_bench::{App, Load, Origin, Tally};

/// Measures what is lost in a drain
#[derive(Debug, Parser)]
struct Args {
    /// Drains of each proxy
    #[arg(long, default_value_t = 20)]
    runs: usize,

    /// What the clients speak
    #[arg(long, default_value = "http1")]
    mix: Speak,

    /// With --mix all: only these
    #[arg(long, default_value = "http1,tls,http2,grpc,websocket,tcp", value_delimiter = ',')]
    protocols: Vec<Protocol>,

    /// Which proxies, in turn [default: ebb,nginx,haproxy; with --mix all: ebb,haproxy]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Kind>,

    /// With how many workers
    #[arg(long, default_value = "2", value_delimiter = ',')]
    workers: Vec<usize>,

    /// Runs ebb as user 65534 with no-new-privs (needs root)
    #[arg(long)]
    unprivileged: bool,

    /// ebb's binary [default: next to this one]
    #[arg(long)]
    ebb: Option<PathBuf>,

    /// With http1: clients with one request per connection, without pause
    #[arg(long, default_value_t = 64)]
    one_shot: usize,

    /// With http1: clients with many requests per connection and 5-35 ms between two
    #[arg(long, default_value_t = 200)]
    keep_alive: usize,

    /// Bytes in a response's body
    #[arg(long, default_value_t = 2048)]
    body: usize,

    /// Milliseconds of load before the drain [default: 500; with --mix all: 1500]
    #[arg(long)]
    before: Option<u64>,
}

/// What the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Speak {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 with and without TLS, HTTP/2, gRPC, WebSocket, TCP.
    All,
}

/// One drain of one proxy.
struct Run {
    kind: Kind,
    workers: usize,
    tallies: Vec<(Protocol, Tally)>,
    /// WebSockets that ended without a Close frame, or with a damaged message, as the app sees it.
    broken: u64,
    drained: Drained,
    exit_ok: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.peers.is_empty() {
        args.peers = match args.mix {
            Speak::Http1 => vec![Kind::Ebb, Kind::Nginx, Kind::Haproxy],
            Speak::All => vec![Kind::Ebb, Kind::Haproxy],
        };
    }
    match measure(&args).await {
        Ok(runs) => {
            println!("{}", totals(&args, &runs));
            println!("Each run:\n\n{}", each(&runs));
            if args.mix == Speak::All {
                println!("{}", at_the_app(&args, &runs));
            }
            let failed = runs.iter().filter(|run| run.kind == Kind::Ebb && !run.kept_its_word()).count();
            if failed > 0 {
                println!("ebb did not keep its word in {failed} runs.");
                return ExitCode::from(1);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure(args: &Args) -> io::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for n in 1..=args.runs {
        for &workers in &args.workers {
            for &kind in &args.peers {
                let run = one(args, kind, workers).await?;
                let (name, took) = (kind.name(), run.drained.took.as_secs_f64());
                for (protocol, tally) in &run.tallies {
                    eprintln!(
                        "run {n}, {name} with {workers} workers, {}: {tally}, {took:.2} s",
                        protocol.name()
                    );
                }
                runs.push(run);
            }
        }
    }
    Ok(runs)
}

async fn one(args: &Args, kind: Kind, workers: usize) -> io::Result<Run> {
    // The app takes 0 to 3 ms, so that requests are under way when the drain begins.
    let delay = Duration::ZERO..=Duration::from_millis(3);
    let origin = Origin::start(App { body: args.body, delay, ..App::default() })?;
    let mut binaries = Binaries::next_to_this_one()?;
    if let Some(ebb) = &args.ebb {
        binaries.ebb.clone_from(ebb);
    }
    let missing = || io::Error::other(format!("{} is not installed", kind.name()));
    let binary = binaries.find(kind).ok_or_else(missing)?;
    let identity = Arc::new(Identity::new()?);
    let serve = match args.mix {
        Speak::Http1 => Serve::Http1,
        Speak::All => {
            let has = |protocol| args.protocols.contains(&protocol);
            let tcp = has(Protocol::Tcp).then(|| origin.tcp_addr());
            Serve::Everything { tcp, identity: has(Protocol::Tls).then(|| Arc::clone(&identity)) }
        }
    };
    let setup =
        Setup { kind, upstream: origin.addr(), workers, binary, unprivileged: args.unprivileged, serve };
    let mut peer = Peer::start(&setup).await?;
    let (drained, tallies) = match args.mix {
        Speak::Http1 => http1(args, &mut peer).await?,
        Speak::All => all(args, &mut peer, &identity).await?,
    };
    let exit_ok = peer.stop().await?.success();
    Ok(Run { kind, workers, tallies, broken: origin.broken(), drained, exit_ok })
}

type Drive = (Drained, Vec<(Protocol, Tally)>);

async fn http1(args: &Args, peer: &mut Peer) -> io::Result<Drive> {
    let load =
        Load { one_shot: args.one_shot, keep_alive: args.keep_alive, ..Load::new(peer.addr(), args.body) };
    let load = load.start();
    let before = Duration::from_millis(args.before.unwrap_or(500));
    let drained = peer.drain_under(before, load.refused()).await?;
    Ok((drained, vec![(Protocol::Http1, load.stop().await)]))
}

async fn all(args: &Args, peer: &mut Peer, identity: &Identity) -> io::Result<Drive> {
    let (http, tls, tcp) = (peer.addr(), peer.tls_addr(), peer.tcp_addr());
    let protocols = args.protocols.clone();
    let load = Mix { http, tls, tcp, trust: identity.trust()?, body: args.body, protocols }.start();
    let before = Duration::from_millis(args.before.unwrap_or(1500));
    let drained = peer.drain_under(before, load.refused()).await?;
    Ok((drained, load.stop().await))
}

impl Run {
    /// What ebb promises: nothing lost; after the refusal nothing but refusals; a clean exit.
    fn kept_its_word(&self) -> bool {
        let kept = |(_, tally): &(Protocol, Tally)| {
            tally.lost() + tally.not_connected + tally.accepted_after_refusal == 0
                && tally.first_refusal.is_some()
        };
        self.tallies.iter().all(kept) && self.broken == 0 && self.exit_ok
    }

    fn tally(&self, protocol: Protocol) -> Tally {
        let own = self.tallies.iter().find(|(own, _)| *own == protocol);
        own.map_or_else(Tally::default, |(_, tally)| tally.clone())
    }

    fn rescued(&self) -> Option<u64> {
        self.drained.report.as_ref().map(rescued)
    }
}

/// Connections that ebb took out of the accept queue after it had turned new ones away.
fn rescued(report: &serde_json::Value) -> u64 {
    match report {
        serde_json::Value::Object(fields) => {
            let own = fields.get("rescued").and_then(serde_json::Value::as_u64);
            own.unwrap_or_else(|| fields.values().map(rescued).sum())
        }
        _ => 0,
    }
}

const COLUMNS: [&str; 14] = [
    "proxy",
    "workers",
    "protocol",
    "requests",
    "lost: new",
    "lost: reused",
    "cut",
    "wrong",
    "stuck",
    "closed idle",
    "refused",
    "accepted later",
    "rescued",
    "drain s",
];

fn totals(args: &Args, runs: &[Run]) -> Table {
    let mut columns = COLUMNS.to_vec();
    columns.insert(3, "lost per run");
    let mut table = Table::new(&columns);
    let protocols: &[Protocol] = match args.mix {
        Speak::Http1 => &[Protocol::Http1],
        Speak::All => &args.protocols,
    };
    for &workers in &args.workers {
        for &kind in &args.peers {
            let same: Vec<&Run> =
                runs.iter().filter(|run| run.kind == kind && run.workers == workers).collect();
            let took: Vec<f64> = same.iter().map(|run| run.drained.took.as_secs_f64()).collect();
            let rescued: Vec<u64> = same.iter().filter_map(|run| run.rescued()).collect();
            for &protocol in protocols {
                let of_protocol: Vec<Tally> = same.iter().map(|run| run.tally(protocol)).collect();
                let mut total = Tally::default();
                of_protocol.iter().for_each(|tally| total.merge(tally));
                let drain = (range(rescued.iter().copied()), median(&took));
                let mut cells = cells(kind, workers, protocol, &total, drain);
                cells.insert(3, range(of_protocol.iter().map(Tally::lost)));
                table.row(cells);
            }
        }
    }
    table
}

/// What the other end saw of the WebSockets.
fn at_the_app(args: &Args, runs: &[Run]) -> String {
    let of = |kind: &Kind| runs.iter().filter(|run| run.kind == *kind).map(|run| run.broken).sum::<u64>();
    let each = args.peers.iter().map(|kind| format!("{} {}", kind.name(), of(kind)));
    let each = each.collect::<Vec<_>>().join(", ");
    format!("WebSockets that the app saw end without a Close frame or with a damaged message: {each}")
}

fn each(runs: &[Run]) -> Table {
    let mut table = Table::new(&COLUMNS);
    for run in runs {
        for (protocol, tally) in &run.tallies {
            let drain = (range(run.rescued()), run.drained.took.as_secs_f64());
            table.row(cells(run.kind, run.workers, *protocol, tally, drain));
        }
    }
    table
}

fn cells(kind: Kind, workers: usize, protocol: Protocol, tally: &Tally, drain: (String, f64)) -> Vec<String> {
    let mut cells = vec![kind.name().to_owned(), workers.to_string(), protocol.name().to_owned()];
    let counts = [
        tally.requests(),
        tally.lost_fresh,
        tally.lost_reused,
        tally.cut,
        tally.bad,
        tally.stuck,
        tally.closed_idle,
        tally.refused,
        tally.accepted_after_refusal + tally.not_connected,
    ];
    cells.extend(counts.iter().map(u64::to_string));
    let (rescued, took) = drain;
    cells.extend([rescued, format!("{took:.2}")]);
    cells
}
