//! The command line: one module a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod client;
mod demo;
mod drain;
mod inject;
mod proxy;
mod settings;
mod status;
mod tls;
mod webhook;

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
    /// Calls /drain, waits and prints the report: exit 0 clean, 1 forced, 2 error
    Drain(drain::DrainArgs),
    /// Takes a drain back, so that the sidecar serves again: exit 0, or 2 error
    Undrain(drain::DrainArgs),
    /// Shows what a running sidecar is doing
    Status(status::StatusArgs),
    /// Adds the sidecar to Kubernetes manifests: exit 0, 1 with --check when something would change, 2 refused
    Inject(Box<inject::InjectArgs>),
    /// The same for pods as they are created: an admission webhook of Kubernetes
    Webhook(Box<webhook::WebhookArgs>),
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
            Command::Drain(args) => args.run(),
            Command::Undrain(args) => args.undo(),
            Command::Status(args) => args.run(),
            Command::Inject(args) => args.run(),
            Command::Webhook(args) => args.run(),
            Command::Demo(args) => args.run(),
            Command::DemoApp(args) => args.run(),
        }
    }
}
