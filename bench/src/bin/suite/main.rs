//! What each proxy costs, ebb and its peers in alternation: processor time per request and per byte, latency, memory, the
//! time to start, what a drain loses. The tables and the chart are made from the data alone.
#![allow(clippy::print_stdout, reason = "the tables are what this prints")]

use std::io;
use std::process::ExitCode;

use clap::Parser;

mod args;
mod context;
mod cpu;
mod report;
mod series;
mod workload;

use args::Args;
use context::Context;

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
    let mut cx = Context::new(args)?;
    for workload in cx.workloads() {
        let measured = cpu::measure(&mut cx, workload).await;
        print!("\n{}\n\n{}", workload.title(), report::cpu(&measured));
    }
    for note in &cx.notes {
        println!("\n- {note}");
    }
    Ok(())
}
