//! Whether anything grows with age: clients of every protocol come and go for half an hour, some of them rudely, and
//! after each wave memory and file descriptors have to be where they were.
#![allow(clippy::print_stdout, reason = "the table is what this prints")]

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ebb_bench::mix::{Mix, Protocol};
use ebb_bench::peer::{Binaries, Kind, Peer, Serve, Setup};
use ebb_bench::table::{Table, median};
use ebb_bench::tls::Identity;
use ebb_bench::{App, Origin, Tally, usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Watches ebb's memory and file descriptors while clients come and go
#[derive(Debug, Parser)]
struct Args {
    /// For how long
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    time: Duration,

    /// How long a wave of clients lasts
    #[arg(long, default_value = "8s", value_parser = humantime::parse_duration)]
    wave: Duration,

    /// ebb's binary [default: next to this one]
    #[arg(long)]
    ebb: Option<PathBuf>,
}

/// After a wave: ebb parks what is idle after a second, closes the app's connections after another, and gives memory
/// back when a second brings nothing new.
const REST: Duration = Duration::from_secs(4);

/// Clients in each wave that break off in the middle of something, and clients that fall silent.
const RUDE: u64 = 300;
const SILENT: usize = 300;

/// What may be between the middle third of the waves and the last, beside a twentieth: the allocator's pages.
const SLACK: u64 = 256 << 10;

/// How ebb is after a wave.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Sample {
    fn take(pid: u32, start: Instant) -> io::Result<Self> {
        let entries = |what: &str| Ok::<_, io::Error>(fs::read_dir(format!("/proc/{pid}/{what}"))?.count());
        let memory = usage::memory(&[pid])?;
        Ok(Self { at: start.elapsed(), memory, descriptors: entries("fd")?, threads: entries("task")? })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match soak(&Args::parse()).await {
        Ok((samples, lost)) => {
            println!("{}", table(&samples));
            let flat = is_flat(&samples);
            println!("{lost} requests lost; {}.", if flat { "nothing has grown" } else { "it has grown" });
            if flat && lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn soak(args: &Args) -> io::Result<(Vec<Sample>, u64)> {
    let delay = Duration::ZERO..=Duration::from_millis(3);
    let origin = Origin::start(App { body: 2048, delay, ..App::default() })?;
    let identity = Arc::new(Identity::new()?);
    let mut binaries = Binaries::next_to_this_one()?;
    if let Some(ebb) = &args.ebb {
        binaries.ebb.clone_from(ebb);
    }
    let binary = binaries.ebb;
    let serve = Serve::Everything { tcp: Some(origin.tcp_addr()), identity: Some(Arc::clone(&identity)) };
    let setup =
        Setup { kind: Kind::Ebb, upstream: origin.addr(), workers: 2, binary, unprivileged: false, serve };
    let peer = Peer::start(&setup).await?;
    let mix = Mix {
        http: peer.addr(),
        tls: peer.tls_addr(),
        tcp: peer.tcp_addr(),
        trust: identity.trust()?,
        body: 2048,
        protocols: Protocol::ALL.to_vec(),
    };
    let start = Instant::now();
    let (mut samples, mut lost) = (Vec::new(), 0);
    while start.elapsed() < args.time {
        lost += wave(&mix, args.wave).await?;
        sleep(REST).await;
        let sample = Sample::take(peer.pid(), start)?;
        eprintln!("{sample:?}, {lost} lost");
        samples.push(sample);
    }
    peer.stop().await?;
    Ok((samples, lost))
}

/// Clients come, and go; returns how many requests of those that behave were lost.
async fn wave(mix: &Mix, lasts: Duration) -> io::Result<u64> {
    let running = mix.start();
    let mut rude = JoinSet::new();
    for n in 0..RUDE {
        let addr = if n % 3 == 0 { mix.tls } else { mix.http };
        rude.spawn(be_rude(addr, lasts.mul_f64(fastrand::f64())));
    }
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(one_request(mix.http).await?);
    }
    sleep(lasts).await;
    // Whoever breaks off may find the connection closed before.
    let _ = rude.join_all().await;
    drop(silent);
    Ok(running.stop().await.iter().map(|(_, tally): &(Protocol, Tally)| tally.lost()).sum())
}

/// A client that has had one response.
async fn one_request(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"GET /silent HTTP/1.1\r\nHost: app\r\n\r\n").await?;
    let mut some = [0; 1024];
    match stream.read(&mut some).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(stream),
    }
}

/// A client that breaks off: at any byte of a request, with a RST or a FIN, or by sending what is no HTTP.
async fn be_rude(addr: SocketAddr, after: Duration) -> io::Result<()> {
    const WORDS: [&[u8]; 5] = [
        b"POST /rude HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\nsome of it",
        b"GET /rude HTTP/1.1\r\nHost: app\r\n\r\nGET /more HTTP/1.1\r\nHost: app\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"GET /ws HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03nonsense",
    ];
    sleep(after).await;
    let mut stream = TcpStream::connect(addr).await?;
    let words = WORDS[fastrand::usize(..WORDS.len())];
    stream.write_all(&words[..fastrand::usize(..=words.len())]).await?;
    sleep(Duration::from_millis(fastrand::u64(..20))).await;
    if fastrand::bool() {
        stream.set_zero_linger()?;
    }
    Ok(())
}

/// Ten lines for the whole time.
fn table(samples: &[Sample]) -> Table {
    let mut table = Table::new(&["after", "memory, MiB", "descriptors", "threads"]);
    for group in samples.chunks(samples.len().div_ceil(10).max(1)) {
        let of = |what: fn(&Sample) -> f64| median(&group.iter().map(what).collect::<Vec<_>>());
        let minutes = group.last().map_or(0.0, |last| last.at.as_secs_f64() / 60.0);
        table.row(vec![
            format!("{minutes:.1} min"),
            format!("{:.2}", of(|sample| sample.memory as f64 / f64::from(1 << 20))),
            format!("{:.0}", of(|sample| sample.descriptors as f64)),
            format!("{:.0}", of(|sample| sample.threads as f64)),
        ]);
    }
    table
}

/// Whether the last third is as the middle one; the first is for warming up.
fn is_flat(samples: &[Sample]) -> bool {
    let third = samples.len() / 3;
    if third == 0 {
        return true;
    }
    let of =
        |samples: &[Sample], what: fn(&Sample) -> f64| median(&samples.iter().map(what).collect::<Vec<_>>());
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let memory = |samples: &[Sample]| of(samples, |sample| sample.memory as f64);
    let descriptors = |samples: &[Sample]| of(samples, |sample| sample.descriptors as f64);
    let threads = |samples: &[Sample]| of(samples, |sample| sample.threads as f64);
    memory(last) <= memory(middle) * 1.05 + SLACK as f64
        && descriptors(last) <= descriptors(middle)
        && threads(last) <= threads(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64, descriptors: impl Fn(usize) -> usize) -> Vec<Sample> {
        let sample = |n: u64| Sample {
            at: Duration::from_secs(n),
            memory: memory(n),
            descriptors: descriptors(n as usize),
            threads: 4,
        };
        (0..30).map(sample).collect()
    }

    #[test]
    fn growth_is_noticed_and_warming_up_is_none() {
        assert!(is_flat(&samples(|n| (6 << 20) + (n % 3) * 1000, |n| 20 + n % 2)));
        assert!(is_flat(&samples(|n| if n < 5 { 1 << 20 } else { 6 << 20 }, |_| 20)));
        assert!(!is_flat(&samples(|n| (6 << 20) + n * (100 << 10), |_| 20)));
        assert!(!is_flat(&samples(|_| 6 << 20, |n| 20 + n / 5)));
    }
}
