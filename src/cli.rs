//! The command line: one module a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod proxy;

/// A connection-draining sidecar: pods go away without losing a connection.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the sidecar
    Proxy(proxy::ProxyArgs),
}

impl Cli {
    /// Runs the chosen command to its end.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Proxy(args) => args.run(),
        }
    }
}
