//! `ebb`: parse, dispatch; nothing else.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ebb::cli::Cli::parse().run()
}
