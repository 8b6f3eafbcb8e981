//! What each proxy costs: processor time per request, memory, and the time to start.
#![allow(clippy::print_stdout, reason = "the tables are what this prints")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use ebb_bench::peer::{Kind, Serve, Setup};
use tokio::process::Command;

mod cpu;
mod memory;
mod start;
mod tcp;

/// Measures what a proxy costs, ebb and its peers in alternation
#[derive(Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(long, default_value = "cpu,h2,tcp,memory,memory-h2,start", value_delimiter = ',')]
    only: Vec<Part>,

    /// Which proxies, in turn; ratios are against haproxy, and nginx is measured with HTTP/1.1 only
    #[arg(long, default_value = "ebb,haproxy,nginx", value_delimiter = ',')]
    peers: Vec<Kind>,

    /// Workers of each
    #[arg(long, default_value_t = 2)]
    workers: usize,

    /// ebb's binary [default: next to this one]
    #[arg(long)]
    ebb: Option<PathBuf>,

    /// CPU, HTTP/2, TCP: how often each proxy has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// CPU, HTTP/2, TCP: how long a turn is, after a second of warm-up
    #[arg(long, default_value_t = 4)]
    seconds: u64,

    /// CPU: what makes the load [default: wrk when it is installed]
    #[arg(long)]
    load: Option<Generator>,

    /// CPU: keep-alive connections
    #[arg(long, default_value_t = 64)]
    connections: usize,

    /// HTTP/2: connections
    #[arg(long, default_value_t = 8)]
    h2_connections: usize,

    /// HTTP/2: requests at a time on each connection
    #[arg(long, default_value_t = 16)]
    streams: usize,

    /// CPU, HTTP/2: bytes in a response's body
    #[arg(long, default_value_t = 128)]
    body: usize,

    /// Memory: connections that are left idle
    #[arg(long, default_value_t = 3000)]
    parked: usize,

    /// Start: how often
    #[arg(long, default_value_t = 11)]
    starts: usize,
}

/// One of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Processor time per request of HTTP/1.1.
    Cpu,
    /// Processor time per request of HTTP/2.
    H2,
    /// Bytes of TCP per second of processor time, and processor time per round trip.
    Tcp,
    /// Memory when idle, and per idle connection of HTTP/1.1.
    Memory,
    /// Memory per idle connection of HTTP/2.
    MemoryH2,
    /// From exec to the first accepted connection.
    Start,
}

/// What makes the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Generator {
    /// The tool of that name, with one thread: it takes least from the two processors.
    Wrk,
    /// The client of this crate, which also verifies every byte.
    Own,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure(args: &Args) -> io::Result<()> {
    let command: Vec<String> = std::iter::once("cost".to_owned()).chain(std::env::args().skip(1)).collect();
    println!("`{}`\n", command.join(" "));
    for &kind in &args.peers {
        println!(
            "- {}",
            version(&binary(args, kind)?, if kind == Kind::Ebb { "--version" } else { "-v" }).await
        );
    }
    for part in &args.only {
        println!();
        match part {
            Part::Cpu => cpu::measure(args, &Serve::Http1).await?,
            Part::H2 => cpu::measure(args, &Serve::Http2).await?,
            Part::Tcp => tcp::measure(args).await?,
            Part::Memory => memory::measure(args, &Serve::Http1).await?,
            Part::MemoryH2 => memory::measure(args, &Serve::Http2).await?,
            Part::Start => start::measure(args).await?,
        }
    }
    Ok(())
}

/// The proxies that can be measured so.
fn peers(args: &Args, serve: &Serve) -> Vec<Kind> {
    let all = args.peers.iter().copied();
    all.filter(|kind| *kind != Kind::Nginx || matches!(serve, Serve::Http1)).collect()
}

/// How one of the proxies is to be run in front of this app.
fn setup(args: &Args, kind: Kind, upstream: SocketAddr, serve: &Serve) -> io::Result<Setup> {
    let ebb = binary(args, Kind::Ebb)?;
    Ok(Setup { kind, upstream, workers: args.workers, ebb, unprivileged: false, serve: serve.clone() })
}

fn binary(args: &Args, kind: Kind) -> io::Result<PathBuf> {
    match (&args.ebb, kind) {
        (_, Kind::Nginx | Kind::Haproxy) => Ok(Path::new("/usr/sbin").join(kind.name())),
        (Some(ebb), Kind::Ebb) => Ok(ebb.clone()),
        (None, Kind::Ebb) => Ok(std::env::current_exe()?.with_file_name("ebb")),
    }
}

/// The first line of what a tool says of itself.
async fn version(tool: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(tool).arg(flag).output().await else {
        return format!("{} cannot be run", tool.display());
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("no version").to_owned()
}
