//! `ebb demo`: a rolling update on this machine, with real processes, sockets and signals.
//!
//! Nothing is replayed and nothing is computed: [`pod`] starts the pods as child processes and ends them as the
//! kubelet does, [`cluster`] lets each node learn of an endpoint change after a delay drawn by [`delays`], and
//! the [`client`]s of the nodes count what becomes of their requests, calls, connections and streams. [`rollout`] puts them together for one
//! [`strategy`], [`report`] says how it went.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

mod app;
mod client;
mod cluster;
mod delays;
mod error;
mod events;
mod frames;
mod load;
mod messages;
mod page;
mod pod;
mod process;
mod progress;
mod report;
mod rollout;
mod strategy;
mod tally;

pub(crate) use app::AppArgs;

use delays::Delays;
use error::DemoError;
use progress::Progress;
use report::{Intro, Report, Table};
use rollout::{Outcome, Plan, roll};
use strategy::Strategy;

/// Pods of the service, each of which is replaced once.
const PODS: usize = 3;
/// Nodes with clients.
const NODES: usize = 20;
/// The demo is over by then, one way or another.
const AT_MOST: Duration = Duration::from_secs(90);

/// The flags of `ebb demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Three pods are replaced one by one while clients on twenty nodes send HTTP/1.1 requests, make gRPC calls, and keep \
WebSockets and streams of events open. Each node learns of each endpoint change after its own delay: 0.35 s + exponential with mean 0.8 s, at most 4.5 s (half of the nodes \
within 0.9 s, 99% within 4.0 s). Each sixtieth of the distribution is drawn from once in a run. Real \
clusters take longer, and the usual preStop sleep is longer: both are scaled down to 60%.

The exit code is 0 when ebb lost nothing, 1 when it did, 2 when the demo could not be run.")]
pub(crate) struct DemoArgs {
    /// Repeats the draw of another run [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Only this way to end a pod; may be given several times [default: all four]
    #[arg(long = "strategy", value_enum, value_delimiter = ',', value_name = "STRATEGY")]
    strategies: Vec<Strategy>,

    /// Prints one JSON document instead of the table
    #[arg(long)]
    json: bool,
}

impl DemoArgs {
    /// Runs the demo to its end.
    pub(crate) fn run(self) -> ExitCode {
        let runtime = runtime().map_err(DemoError::Process);
        match runtime.and_then(|runtime| runtime.block_on(self.watch_over())) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(2)
            }
        }
    }

    /// Runs the demo unless it takes too long or is interrupted: whichever way, no child stays behind.
    async fn watch_over(self) -> Result<ExitCode, DemoError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::Process)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Process)?;
        tokio::select! {
            done = timeout(AT_MOST, self.demo()) => done.unwrap_or(Err(DemoError::TooLong(AT_MOST))),
            _ = interrupt.recv() => Ok(ExitCode::from(130)),
            _ = terminate.recv() => Ok(ExitCode::from(143)),
        }
    }

    async fn demo(self) -> Result<ExitCode, DemoError> {
        // Short enough to be typed again.
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..100_000));
        let plan = Plan { seed, delays: Delays::draw(&mut Rng::with_seed(seed)) };
        let strategies = if self.strategies.is_empty() { &Strategy::ALL[..] } else { &self.strategies };
        if !self.json {
            print(&Intro(&plan))?;
        }
        let outcomes = roll_all(strategies, &plan).await?;
        if self.json {
            let report = serde_json::to_string_pretty(&Report::new(&plan, &outcomes));
            let mut report = report.map_err(|error| DemoError::Output(error.into()))?;
            report.push('\n');
            print(&report)?;
        } else {
            let color = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&Table { outcomes: &outcomes, color })?;
        }
        let ebb_lost = |outcome: &Outcome| outcome.strategy == Strategy::Ebb && outcome.total.failed > 0;
        Ok(ExitCode::from(u8::from(outcomes.iter().any(ebb_lost))))
    }
}

async fn roll_all(strategies: &[Strategy], plan: &Plan) -> Result<Vec<Outcome>, DemoError> {
    let mut progress = Progress::new();
    let mut outcomes = Vec::with_capacity(strategies.len());
    for (i, strategy) in strategies.iter().enumerate() {
        progress.strategy(i + 1, strategies.len(), &strategy.title());
        outcomes.push(roll(*strategy, plan, &mut progress).await?);
    }
    Ok(outcomes)
}

fn print(text: &dyn std::fmt::Display) -> Result<(), DemoError> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(DemoError::Output)
}

/// One thread is plenty for what one machine's clients do, and for an app.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
