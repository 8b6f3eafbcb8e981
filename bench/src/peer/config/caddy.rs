//! Caddy's file.

use tokio::process::Command;

use super::super::{Place, Serve, Setup};

/// `X-Forwarded-For` is on by default. Compression towards the app would add a header field to every request.
fn file(setup: &Setup, place: &Place<'_>) -> String {
    let (addr, pem) = (place.ports.addr, place.pem.display());
    let (scheme, tls) = match setup.serve {
        Serve::Tls(_) => ("https", format!("tls {pem} {pem} {{\n        protocols tls1.3\n    }}")),
        _ => ("http", String::new()),
    };
    let protocols = match setup.serve {
        Serve::Http2 | Serve::Grpc | Serve::Http2ToHttp1 => "h1 h2c",
        _ => "h1",
    };
    let upstream = match setup.serve {
        Serve::Http2 | Serve::Grpc => format!("h2c://{}", setup.upstream),
        _ => setup.upstream.to_string(),
    };
    format!(
        "{{
    admin off
    auto_https off
    persist_config off
    grace_period 20s
    log {{
        level WARN
    }}
    servers {{
        protocols {protocols}
    }}
}}
{scheme}://:{} {{
    bind {}
    {tls}
    reverse_proxy {upstream} {{
        transport http {{
            compression off
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
",
        addr.port(),
        addr.ip()
    )
}

pub(super) fn command(setup: &Setup, place: &Place<'_>) -> std::io::Result<Command> {
    let path = place.dir.join("Caddyfile");
    std::fs::write(&path, file(setup, place))?;
    let mut command = Command::new(&setup.binary);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path);
    // What others have as a number of workers; and its directories for what it might keep.
    command.env("GOMAXPROCS", setup.workers.to_string()).env("HOME", place.dir);
    command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    Ok(command)
}
