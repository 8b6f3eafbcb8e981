//! The flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ebb_bench::peer::Kind;

use crate::workload::Workload;

/// Measures what a proxy costs, ebb and its peers in alternation
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// How thoroughly
    #[arg(default_value = "full")]
    pub(crate) mode: Mode,

    /// What to measure: workloads, latency (of those workloads), memory, start, drain [default: everything; with quick:
    /// the workloads that have a target, and the rest]
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Part>,

    /// Which proxies, in turn [default: ebb,nginx,haproxy,envoy,caddy,relay, and ebb2 with --ebb2]
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<Kind>,

    /// ebb's binary [default: next to this one]
    #[arg(long)]
    pub(crate) ebb: Option<PathBuf>,

    /// Another build of ebb, which takes part as "ebb2"
    #[arg(long)]
    pub(crate) ebb2: Option<PathBuf>,

    /// Where the peers' binaries are that are not in PATH [default: target/peers]
    #[arg(long, value_name = "DIR")]
    pub(crate) peers_dir: Option<PathBuf>,

    /// ebb's static binary, of which the size is shown [default: where `just static` puts it]
    #[arg(long = "static", value_name = "FILE")]
    pub(crate) static_binary: Option<PathBuf>,

    /// Workers of each
    #[arg(long, default_value_t = 2)]
    pub(crate) workers: usize,

    /// How often each proxy has its turn [default: 7; quick: 3]
    #[arg(long)]
    rounds: Option<usize>,

    /// How long a turn is, in seconds, after a warm-up of a quarter of that [default: 3; quick: 0.6]
    #[arg(long)]
    seconds: Option<f64>,

    /// Latency: requests per second [default: half of what the slowest good peer can do]
    #[arg(long)]
    pub(crate) rate: Option<f64>,

    /// HTTP/1.1, WebSocket, TCP: connections with small messages
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,

    /// HTTP/2: connections
    #[arg(long, default_value_t = 8)]
    pub(crate) h2_connections: usize,

    /// HTTP/2: requests at a time on each connection
    #[arg(long, default_value_t = 16)]
    pub(crate) streams: usize,

    /// Small bodies and messages, in bytes
    #[arg(long, default_value_t = 128)]
    pub(crate) body: usize,

    /// Memory: connections that are left idle, or have a request each [default: 3000; quick: 1000]
    #[arg(long)]
    held: Option<usize>,

    /// Memory: it has settled when it has not shrunk for so many seconds; ebb puts idle connections aside after one
    /// [default: 3; quick: 1.5]
    #[arg(long)]
    settled: Option<f64>,

    /// Where RESULTS.md and RESULTS.svg are written [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// How thoroughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// An hour on an otherwise idle machine.
    Full,
    /// Under five minutes.
    Quick,
}

/// One of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Workload(Workload),
    Latency,
    Memory,
    Start,
    Drain,
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latency" => Ok(Self::Latency),
            "memory" => Ok(Self::Memory),
            "start" => Ok(Self::Start),
            "drain" => Ok(Self::Drain),
            _ => match Workload::ALL.into_iter().find(|workload| workload.flag() == text) {
                Some(workload) => Ok(Self::Workload(workload)),
                None => {
                    let all = Workload::ALL.map(Workload::flag).join(", ");
                    Err(format!("write {all}, latency, memory, start, or drain"))
                }
            },
        }
    }
}

impl Args {
    /// One of two, by the mode.
    fn by_mode<T>(&self, full: T, quick: T) -> T {
        match self.mode {
            Mode::Full => full,
            Mode::Quick => quick,
        }
    }

    pub(crate) fn quick(&self) -> bool {
        self.by_mode(false, true)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(self.by_mode(7, 3)).max(1)
    }

    pub(crate) fn turn(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(self.by_mode(3.0, 0.6));
        // Neither nothing nor for ever.
        Duration::from_secs_f64(seconds.clamp(0.01, 3600.0))
    }

    pub(crate) fn warm_up(&self) -> Duration {
        self.turn() / 4
    }

    pub(crate) fn held(&self) -> usize {
        self.held.unwrap_or(self.by_mode(3000, 1000)).max(1)
    }

    pub(crate) fn memory_rounds(&self) -> usize {
        self.rounds().min(self.by_mode(3, 1))
    }

    /// How long memory must not have shrunk.
    pub(crate) fn settled(&self) -> Duration {
        Duration::from_secs_f64(self.settled.unwrap_or(self.by_mode(3.0, 1.5)).clamp(0.0, 60.0))
    }

    pub(crate) fn starts(&self) -> usize {
        self.rounds.unwrap_or(self.by_mode(21, 5)).max(1)
    }

    pub(crate) fn drains(&self) -> usize {
        self.rounds.unwrap_or(self.by_mode(10, 1)).max(1)
    }

    /// What is measured.
    pub(crate) fn parts(&self) -> Vec<Part> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        let workloads = Workload::ALL.into_iter().filter(|workload| !self.quick() || workload.in_short());
        let rest = [Part::Latency, Part::Memory, Part::Start, Part::Drain];
        workloads.map(Part::Workload).chain(rest).collect()
    }
}
