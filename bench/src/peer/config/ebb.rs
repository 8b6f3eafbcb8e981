//! ebb's flags: everything is switched on that is by default.

use tokio::process::Command;

use super::super::{Place, Ports, Serve, Setup};

/// Lame duck ends after two seconds here: the one-shot clients never let it become quiet. With WebSockets, which
/// are told to go one after the other, the grace period is short.
fn arguments(setup: &Setup, place: &Place<'_>) -> String {
    let (upstream, workers, pem) = (setup.upstream, setup.workers, place.pem.display());
    let Ports { addr, admin, tls, tcp: tcp_addr } = place.ports;
    let secure = |port| format!("--forward https://{port}={upstream} --tls-cert {pem} --tls-key {pem}");
    let (forwards, grace_period) = match &setup.serve {
        Serve::Http1 | Serve::Http2 | Serve::Grpc | Serve::WebSocket => {
            (format!("--forward {addr}={upstream}"), 20)
        }
        Serve::Http2ToHttp1 => (format!("--forward {addr}={upstream} --upstream-protocol http1"), 20),
        Serve::Tls(_) => (secure(addr), 20),
        Serve::Tcp => (format!("--forward tcp://{addr}={upstream}"), 20),
        Serve::Everything { tcp, identity } => {
            let secure = if identity.is_some() { secure(tls) } else { String::new() };
            let tcp = tcp.map_or_else(String::new, |tcp| format!("--forward tcp://{tcp_addr}={tcp}"));
            (format!("--forward {addr}={upstream} {secure} {tcp}"), 8)
        }
    };
    format!(
        "proxy {forwards} --admin {admin} --workers {workers} --lame-duck-min 500ms --quiet 300ms \
         --lame-duck-max 2s --grace-period {grace_period}s --app-shutdown 1s --log-format json"
    )
}

pub(super) fn command(setup: &Setup, place: &Place<'_>) -> std::io::Result<Command> {
    let mut command = if setup.unprivileged {
        // The build directory may be closed to other users.
        let copy = place.dir.join("ebb");
        std::fs::copy(&setup.binary, &copy)?;
        super::executable(&copy)?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
        command.arg(copy);
        command
    } else {
        Command::new(&setup.binary)
    };
    command.args(arguments(setup, place).split_whitespace());
    Ok(command)
}
