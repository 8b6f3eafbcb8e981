//! HAProxy's file.

use std::net::SocketAddr;

use tokio::process::Command;

use super::super::{Place, Serve, Setup};

fn file(setup: &Setup, place: &Place<'_>) -> String {
    let workers = setup.workers;
    // It insists on descriptors for all of them, and for a pipe each where it may splice.
    let maxconn = match setup.serve {
        Serve::Tcp | Serve::Everything { .. } => 4096,
        _ => 8192,
    };
    let mut file = format!(
        "global
    nbthread {workers}
    maxconn {maxconn}
    hard-stop-after 20s
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    timeout http-keep-alive 60s
    option http-keep-alive
    http-reuse always
"
    );
    let (upstream, addr, pem) = (setup.upstream, place.ports.addr, place.pem.display());
    file += &match &setup.serve {
        Serve::Http1 | Serve::WebSocket => http(addr, upstream, "", ""),
        Serve::Tls(_) => {
            http(addr, upstream, &format!("ssl crt {pem} alpn http/1.1 ssl-min-ver TLSv1.3"), "")
        }
        Serve::Http2 | Serve::Grpc => http(addr, upstream, "proto h2", "proto h2"),
        Serve::Http2ToHttp1 => http(addr, upstream, "proto h2", ""),
        Serve::Tcp => tcp(addr, upstream),
        Serve::Everything { tcp: tcp_upstream, identity } => {
            let secure = format!("bind {} ssl crt {pem} alpn http/1.1", place.ports.tls);
            let secure = if identity.is_some() { &secure } else { "" };
            // Its HTTP/1.1 knows the preface of HTTP/2.
            let http = format!(
                "frontend clients
    bind {addr}
    {secure}
    option forwardfor
    use_backend app2 if {{ req.ver 2.0 }}
    default_backend app
backend app
    server app {upstream}
backend app2
    server app {upstream} proto h2
"
            );
            http + &tcp_upstream.map_or_else(String::new, |upstream| tcp(place.ports.tcp, upstream))
        }
    };
    file
}

fn http(addr: SocketAddr, upstream: SocketAddr, bind: &str, server: &str) -> String {
    format!(
        "frontend clients
    bind {addr} {bind}
    option forwardfor
    default_backend app
backend app
    server app {upstream} {server}
"
    )
}

/// `splice-auto` lets it decide for each connection whether the kernel moves the bytes.
fn tcp(addr: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "listen bytes
    mode tcp
    option splice-auto
    bind {addr}
    server app {upstream}
"
    )
}

pub(super) fn command(setup: &Setup, place: &Place<'_>) -> std::io::Result<Command> {
    let path = place.dir.join("haproxy.cfg");
    std::fs::write(&path, file(setup, place))?;
    let mut command = Command::new(&setup.binary);
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}
