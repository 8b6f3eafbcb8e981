//! The command line: one module a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod demo;
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
    Proxy(Box<proxy::ProxyArgs>),
    /// Shows on this machine how many requests a rolling update loses, with ebb and without
    Demo(demo::DemoArgs),
    /// The app in a pod of the demo
    #[command(hide = true)]
    DemoApp(demo::AppArgs),
}

impl Cli {
    /// Runs the chosen command to its end.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Proxy(args) => args.run(),
            Command::Demo(args) => args.run(),
            Command::DemoApp(args) => args.run(),
        }
    }
}
