//! The clients, in a pod of their own: they begin and end when they are told to, and tell what became of their requests.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ebb_bench::client::After;
use ebb_bench::http2::{self, Call};
use ebb_bench::mix::websockets;
use ebb_bench::{Connection, Load, Running, Tally};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::{BODY, control};

/// So many answers in a row mean that the Service leads to the app: right after a change it may not.
const STEADY: u32 = 20;

/// What became of a kind's requests: every attempt is in exactly one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// The whole response came, and it was the right one.
    pub(crate) ok: u64,
    /// There was no connection: the kernel said no.
    pub(crate) refused: u64,
    /// There was no connection, or no response, in time.
    pub(crate) timed_out: u64,
    /// Accepted, and ended before the response began.
    pub(crate) reset: u64,
    /// Ended in the middle of the response, or a WebSocket without a Close frame.
    pub(crate) cut: u64,
    /// There was a response, but not the right one.
    pub(crate) wrong: u64,
}

/// The kinds of clients, in the table's order, with what became of their requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Count(pub(crate) Vec<(String, Counts)>);

impl Counts {
    /// What a user would have noticed, by name.
    pub(crate) fn failures(&self) -> [(&'static str, u64); 5] {
        let Self { ok: _, refused, timed_out, reset, cut, wrong } = *self;
        [("refused", refused), ("timed out", timed_out), ("reset", reset), ("cut", cut), ("wrong", wrong)]
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures().iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn all(&self) -> u64 {
        self.ok + self.failed()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.refused += other.refused;
        self.timed_out += other.timed_out;
        self.reset += other.reset;
        self.cut += other.cut;
        self.wrong += other.wrong;
    }
}

impl From<&Tally> for Counts {
    fn from(tally: &Tally) -> Self {
        Self {
            ok: tally.ok,
            refused: tally.refused,
            timed_out: tally.not_connected + tally.stuck,
            reset: tally.lost_fresh + tally.lost_reused,
            cut: tally.cut,
            wrong: tally.bad,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed of {}", self.failed(), self.all())?;
        for (name, count) in self.failures().into_iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        Ok(())
    }
}

impl Count {
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.0.iter().for_each(|(_, counts)| total.add(counts));
        total
    }

    /// Adds another's, kind by kind.
    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, counts) in &other.0 {
            match self.0.iter_mut().find(|(known, _)| known == kind) {
                Some((_, sum)) => sum.add(counts),
                None => self.0.push((kind.clone(), *counts)),
            }
        }
    }
}

/// Waits to be told, until the pod ends.
pub(crate) async fn serve() -> io::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    let mut running: Vec<(&'static str, Running)> = Vec::new();
    let control = control::listen(async |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        match words[..] {
            ["start", pages, slow] => {
                let addr = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
                let (pages, slow) = (addr(pages)?, addr(slow)?);
                timeout(Duration::from_secs(60), steady(pages)).await.map_err(|_| "no steady answer")?;
                running = start(pages, slow);
                Ok("started".to_owned())
            }
            ["stop"] => {
                let mut count = Count::default();
                for (kind, running) in std::mem::take(&mut running) {
                    count.0.push((kind.to_owned(), Counts::from(&running.stop().await)));
                }
                serde_json::to_string(&count).map_err(|error| error.to_string())
            }
            _ => Err(format!("{words:?}?")),
        }
    });
    tokio::select! {
        ended = control => ended,
        _ = told.recv() => Ok(()),
    }
}

/// Waits until the app has answered for a while.
async fn steady(addr: SocketAddr) {
    let mut answers = 0;
    while answers < STEADY {
        let answer = async { Connection::connect(addr).await?.get("/ready", After::Close).await };
        let well = answer.await.is_ok_and(|response| response.status() == 200);
        answers = if well { answers + 1 } else { 0 };
        sleep(Duration::from_millis(50)).await;
    }
}

/// Starts all of them: about as many as keep a small machine busy, but not so many that it notices nothing else.
fn start(pages: SocketAddr, slow: SocketAddr) -> Vec<(&'static str, Running)> {
    let http1 = |addr, one_shot, keep_alive| Load { one_shot, keep_alive, ..Load::new(addr, BODY) }.start();
    let grpc = |call, connections, streams| {
        let think = Duration::from_millis(60);
        http2::Load { addr: pages, call, connections, streams, one_shot: false, think }.start()
    };
    vec![
        ("one-shot", http1(pages, 6, 0)),
        ("keep-alive", http1(pages, 0, 12)),
        ("long requests", http1(slow, 8, 8)),
        ("gRPC unary", grpc(Call::Unary, 4, 2)),
        ("gRPC streams", grpc(Call::Stream, 4, 2)),
        ("WebSocket", websockets(pages, 12)),
    ]
}
