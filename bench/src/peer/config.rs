//! How each proxy is configured, and run: one file each.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::process::Command;

use super::{Kind, Place, Setup};

mod caddy;
mod ebb;
mod envoy;
mod haproxy;
mod nginx;

pub(super) use envoy::DRAIN_SECONDS as ENVOY_DRAIN_SECONDS;
pub(super) use nginx::stream_module as nginx_stream_module;

/// Writes the proxy's files, and says how it is run.
pub(super) fn command(setup: &Setup, place: &Place<'_>) -> io::Result<Command> {
    match setup.kind {
        Kind::Ebb | Kind::Ebb2 => ebb::command(setup, place),
        Kind::Nginx => nginx::command(setup, place),
        Kind::Haproxy => haproxy::command(setup, place),
        Kind::Envoy => envoy::command(setup, place),
        Kind::Caddy => caddy::command(setup, place),
        Kind::Relay => {
            let mut command = Command::new(&setup.binary);
            command.arg(place.ports.addr.to_string()).arg(setup.upstream.to_string());
            command.arg(setup.workers.to_string());
            Ok(command)
        }
    }
}

fn executable(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}
