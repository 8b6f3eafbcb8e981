//! The end-to-end test of ebb on a real Kubernetes: one static program, which is everything but ebb and the cluster.
//!
//! [`run`] does the test, from any machine with a kubectl. In the cluster the same program is the [`app`] behind ebb and
//! the clients ([`load`]). [`control`] is how these two are spoken to, by `kubectl exec`: the cluster's network need not be
//! reachable from where the test is run, and the images have no shell.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod app;
mod control;
/// WebSocket frames: the demo's, so that there is one of them.
#[path = "../../../src/cli/demo/frames.rs"]
#[expect(dead_code, reason = "only the server's end of it is used here")]
mod frames;
mod load;
/// gRPC messages: the demo's as well.
#[path = "../../../src/cli/demo/messages.rs"]
#[expect(dead_code, reason = "only the server's end of it is used here")]
mod messages;
mod run;

/// The size of the app's pages.
const BODY: usize = 512;

#[derive(Debug, Parser)]
#[command(about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Does the test: exit 0 passed, 1 failed, 2 it could not be done
    Run(Box<run::RunArgs>),
    /// The app in a pod
    App(app::AppArgs),
    /// The clients in a pod
    Load,
    /// Says something to the app or the clients, from within their container
    Ctl {
        /// What is said
        words: Vec<String>,
    },
    /// What a preStop hook needs where there is no shell
    Sleep {
        /// How long
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(dispatch(Cli::parse().command)));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

async fn dispatch(command: Command) -> io::Result<ExitCode> {
    match command {
        Command::Run(args) => return run::run(*args).await,
        Command::App(args) => app::serve(args).await?,
        Command::Load => load::serve().await?,
        Command::Ctl { words } => control::say(&words.join(" ")).await?,
        Command::Sleep { seconds } => tokio::time::sleep(Duration::from_secs(seconds)).await,
    }
    Ok(ExitCode::SUCCESS)
}
