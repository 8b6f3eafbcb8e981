//! What each proxy costs, ebb and its peers in alternation: processor time per request and per byte, latency, memory, the
//! time to start, what a drain loses. The tables and the chart are made from the data alone.
#![allow(clippy::print_stdout, reason = "the tables are what this prints")]

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

mod args;
mod chart;
mod context;
mod cpu;
mod drain;
mod latency;
mod machine;
mod memory;
mod report;
mod results;
mod series;
mod start;
mod targets;
mod workload;

use args::Args;
use context::Context;
use results::Results;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure(args: Args) -> io::Result<()> {
    let out = args.out.clone().map_or_else(default_out, Ok)?;
    // Not at the end of an hour.
    fs::create_dir_all(&out)?;
    let mut cx = Context::new(args)?;
    let results = Results::measure(&mut cx).await?;
    let page = report::page(&cx, &results);
    fs::write(out.join("RESULTS.md"), &page)?;
    fs::write(out.join("RESULTS.svg"), chart::svg(&chart::groups(&results)))?;
    println!("{page}");
    eprintln!("written to {}", out.display());
    Ok(())
}

/// `target/bench`, beside the directory of this program.
fn default_out() -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    this.ancestors().nth(2).map(|target| target.join("bench")).ok_or_else(|| io::ErrorKind::NotFound.into())
}
