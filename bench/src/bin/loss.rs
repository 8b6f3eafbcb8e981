//! What each proxy loses when it is told to go in the middle of a load.
#![allow(clippy::print_stdout, reason = "the tables are what this prints")]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ebb_bench::peer::{Drained, Kind, Peer, Setup};
use ebb_bench::table::{Table, median, range};
use ebb_bench::{App, Load, Origin, Tally};
use tokio::time::{sleep, timeout};

/// The load goes on for this long after the drain and the first refusal, to see that everybody is refused.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// ebb does not answer the last attempts before its refusal; the kernel repeats them after one second and, when
/// that comes too early as well, two more.
const FIRST_REFUSAL: Duration = Duration::from_secs(4);

/// Measures what is lost in a drain
#[derive(Debug, Parser)]
struct Args {
    /// Drains of each proxy
    #[arg(long, default_value_t = 20)]
    runs: usize,

    /// Which proxies, in turn
    #[arg(long, default_value = "ebb,nginx,haproxy", value_delimiter = ',')]
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

    /// Clients with one request per connection, without pause
    #[arg(long, default_value_t = 64)]
    one_shot: usize,

    /// Clients with many requests per connection and 5-35 ms between two
    #[arg(long, default_value_t = 200)]
    keep_alive: usize,

    /// Bytes in a response's body
    #[arg(long, default_value_t = 2048)]
    body: usize,

    /// Milliseconds of load before the drain
    #[arg(long, default_value_t = 500)]
    before: u64,
}

/// One drain of one proxy.
struct Run {
    kind: Kind,
    workers: usize,
    tally: Tally,
    drained: Drained,
    exit_ok: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args).await {
        Ok(runs) => {
            println!("{}", totals(&args, &runs));
            println!("Each run:\n\n{}", each(&runs));
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
                eprintln!("run {n}, {name} with {workers} workers: {}, {took:.2} s", run.tally);
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
    let ebb = args.ebb.clone().map_or_else(next_to_this_one, Ok)?;
    let setup = Setup { kind, upstream: origin.addr(), workers, ebb, unprivileged: args.unprivileged };
    let mut peer = Peer::start(&setup).await?;
    let load =
        Load { one_shot: args.one_shot, keep_alive: args.keep_alive, ..Load::new(peer.addr(), args.body) };
    let load = load.start();
    sleep(Duration::from_millis(args.before)).await;
    let drained = peer.drain().await?;
    // A proxy that refuses nobody shows in the tally.
    let _ = timeout(FIRST_REFUSAL, load.refused()).await;
    sleep(AFTERWARDS).await;
    let tally = load.stop().await;
    let exit_ok = peer.stop().await?.success();
    Ok(Run { kind, workers, tally, drained, exit_ok })
}

fn next_to_this_one() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("ebb"))
}

impl Run {
    /// What ebb promises: nothing lost; after the refusal nothing but refusals; a clean exit.
    fn kept_its_word(&self) -> bool {
        let Tally { not_connected, accepted_after_refusal, first_refusal, .. } = self.tally;
        self.tally.lost() + not_connected + accepted_after_refusal == 0
            && first_refusal.is_some()
            && self.exit_ok
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

const COLUMNS: [&str; 13] = [
    "proxy",
    "workers",
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
    columns.insert(2, "lost per run");
    let mut table = Table::new(&columns);
    for &workers in &args.workers {
        for &kind in &args.peers {
            let same: Vec<&Run> =
                runs.iter().filter(|run| run.kind == kind && run.workers == workers).collect();
            let mut total = Tally::default();
            same.iter().for_each(|run| total.merge(&run.tally));
            let rescued: Vec<u64> = same.iter().filter_map(|run| run.rescued()).collect();
            let took: Vec<f64> = same.iter().map(|run| run.drained.took.as_secs_f64()).collect();
            let mut cells = cells(kind, workers, &total, range(rescued), median(&took));
            cells.insert(2, range(same.iter().map(|run| run.tally.lost())));
            table.row(cells);
        }
    }
    table
}

fn each(runs: &[Run]) -> Table {
    let mut table = Table::new(&COLUMNS);
    for run in runs {
        let (rescued, took) = (range(run.rescued()), run.drained.took.as_secs_f64());
        table.row(cells(run.kind, run.workers, &run.tally, rescued, took));
    }
    table
}

fn cells(kind: Kind, workers: usize, tally: &Tally, rescued: String, took: f64) -> Vec<String> {
    let mut cells = vec![kind.name().to_owned(), workers.to_string()];
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
    cells.extend([rescued, format!("{took:.2}")]);
    cells
}
