//! Processor time per request.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ebb_bench::http2::{self, Call};
use ebb_bench::peer::{Kind, Peer, Serve};
use ebb_bench::table::{Table, median};
use ebb_bench::usage::{cpu, family};
use ebb_bench::{App, Load, Origin, Running};
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::{Args, Generator, peers, setup, version};

const WARM_UP: Duration = Duration::from_secs(1);

/// wrk's own end of the run: it prints its counts of errors as numbers.
const SUMMARY: &str = "done = function(summary)
    local e = summary.errors
    io.stderr:write(string.format('%d %d', summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
";

/// One turn of one proxy.
struct Turn {
    /// Microseconds per request, user and system.
    micros: f64,
    /// Requests per second.
    rate: f64,
}

pub(crate) async fn measure(args: &Args, serve: &Serve) -> io::Result<()> {
    let generator = match (serve, args.load) {
        (Serve::Http1, Some(generator)) => generator,
        (Serve::Http1, None) if Command::new("wrk").arg("-v").output().await.is_ok() => Generator::Wrk,
        _ => Generator::Own,
    };
    let load = match generator {
        Generator::Wrk => version(Path::new("wrk"), "-v").await,
        Generator::Own => "the client of this crate".to_owned(),
    };
    let clients = match serve {
        Serve::Http1 => format!("{} keep-alive connections, HTTP/1.1", args.connections),
        _ => format!(
            "{} connections with {} streams each, HTTP/2 on both sides",
            args.h2_connections, args.streams
        ),
    };
    let peers = peers(args, serve);
    let mut turns: Vec<Vec<Turn>> = peers.iter().map(|_| Vec::new()).collect();
    for round in 0..args.rounds {
        for n in 0..peers.len() {
            // Each begins a round in turn, so that none always follows the same other one.
            let i = (round + n) % peers.len();
            let turn = turn(args, peers[i], generator, serve).await?;
            let name = peers[i].name();
            eprintln!("round {}, {name}: {:.1} us, {:.0} requests/s", round + 1, turn.micros, turn.rate);
            turns[i].push(turn);
        }
    }
    println!(
        "CPU: {clients}, {} byte bodies, {} workers; {} rounds of {} s; load: {load}\n",
        args.body, args.workers, args.rounds, args.seconds
    );
    print!("{}", table(&peers, &turns));
    Ok(())
}

fn table(peers: &[Kind], turns: &[Vec<Turn>]) -> Table {
    let mut table =
        Table::new(&["proxy", "us per request", "min-max", "times HAProxy", "min-max", "requests/s"]);
    let base = peers.iter().position(|kind| *kind == Kind::Haproxy);
    for (kind, own) in peers.iter().zip(turns) {
        let micros: Vec<f64> = own.iter().map(|turn| turn.micros).collect();
        let rates: Vec<f64> = own.iter().map(|turn| turn.rate).collect();
        let (median_ratio, ratio_spread) =
            ratios(&micros, base.map(|base| turns[base].iter().map(|turn| turn.micros)));
        table.row(vec![
            kind.name().to_owned(),
            format!("{:.1}", median(&micros)),
            spread(&micros, 1),
            median_ratio,
            ratio_spread,
            format!("{:.0}", median(&rates)),
        ]);
    }
    table
}

/// The median of a proxy's ratios to HAProxy, and their range. Within a round both ran on the same machine in the same
/// mood.
pub(crate) fn ratios(own: &[f64], base: Option<impl Iterator<Item = f64>>) -> (String, String) {
    let Some(base) = base else { return ("-".to_owned(), "-".to_owned()) };
    let ratios: Vec<f64> = own.iter().zip(base).map(|(own, base)| own / base).collect();
    (format!("{:.2}", median(&ratios)), spread(&ratios, 2))
}

pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{min:.digits$}-{max:.digits$}")
}

async fn turn(args: &Args, kind: Kind, generator: Generator, serve: &Serve) -> io::Result<Turn> {
    let origin = Origin::start(App { body: args.body, ..App::default() })?;
    let peer = Peer::start(&setup(args, kind, origin.addr(), serve)?).await?;
    let length = Duration::from_secs(args.seconds);
    let load = Generating::start(args, generator, &peer, serve)?;
    sleep(WARM_UP).await;
    let pids = family(peer.pid());
    let (start, cpu_before, served_before) = (Instant::now(), cpu(&pids)?, origin.served());
    sleep(length).await;
    // The app counts the requests, so that they belong to the same interval as the processor time.
    let (used, served) = (cpu(&pids)? - cpu_before, origin.served() - served_before);
    let seconds = start.elapsed().as_secs_f64();
    load.finish(kind).await?;
    Ok(Turn { micros: used.as_secs_f64() * 1e6 / served as f64, rate: served as f64 / seconds })
}

/// A load under way.
enum Generating {
    Wrk { child: Child, _script: NamedTempFile },
    Own(Running),
}

impl Generating {
    fn start(args: &Args, generator: Generator, peer: &Peer, serve: &Serve) -> io::Result<Self> {
        if let Serve::Http2 = serve {
            let (connections, streams, call) = (args.h2_connections, args.streams, Call::Get(args.body));
            let think = Duration::ZERO;
            let load = http2::Load { addr: peer.addr(), call, connections, streams, one_shot: false, think };
            return Ok(Self::Own(load.start()));
        }
        if generator == Generator::Own {
            let load =
                Load { one_shot: 0, keep_alive: args.connections, ..Load::new(peer.addr(), args.body) };
            return Ok(Self::Own(Load { think: Duration::ZERO..=Duration::ZERO, ..load }.start()));
        }
        let mut script = tempfile::Builder::new().suffix(".lua").tempfile()?;
        script.write_all(SUMMARY.as_bytes())?;
        // It must outlast the turn, and takes whole seconds.
        let seconds = args.seconds + WARM_UP.as_secs() + 1;
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{}", args.connections), &format!("-d{seconds}s"), "-s"]);
        command.arg(script.path()).arg(format!("http://{}/", peer.addr()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        Ok(Self::Wrk { child, _script: script })
    }

    /// Ends it, and complains when not every response was right.
    async fn finish(self, kind: Kind) -> io::Result<()> {
        let (requests, wrong) = match self {
            Self::Own(running) => {
                let tally = running.stop().await;
                (tally.requests(), tally.lost() + tally.not_connected + tally.refused)
            }
            Self::Wrk { child, .. } => {
                let output = child.wait_with_output().await?;
                let text = String::from_utf8_lossy(&output.stderr);
                let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
                (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
            }
        };
        if requests == 0 || wrong > 0 {
            let name = kind.name();
            return Err(io::Error::other(format!(
                "{name}: {wrong} of {requests} requests went wrong under load"
            )));
        }
        Ok(())
    }
}
