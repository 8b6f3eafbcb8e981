//! How each proxy is configured.

use std::net::SocketAddr;
use std::path::Path;

use super::{Ports, Serve, Setup};

/// ebb's flags. Lame duck ends after two seconds here: the one-shot clients never let it become quiet. With WebSockets, which
/// are told to go one after the other, the grace period is short.
pub(super) fn ebb(setup: &Setup, ports: &Ports, pem: &Path) -> Vec<String> {
    let (upstream, workers, pem) = (setup.upstream, setup.workers, pem.display());
    let Ports { addr, admin, tls, tcp: tcp_addr } = ports;
    let (forwards, grace_period) = match &setup.serve {
        Serve::Http1 | Serve::Http2 => (format!("--forward {addr}={upstream}"), 20),
        Serve::Tcp => (format!("--forward tcp://{addr}={upstream}"), 20),
        Serve::Everything { tcp, identity } => {
            let mut forwards = format!("--forward {addr}={upstream}");
            if identity.is_some() {
                forwards += &format!(" --forward https://{tls}={upstream} --tls-cert {pem} --tls-key {pem}");
            }
            if let Some(tcp) = tcp {
                forwards += &format!(" --forward tcp://{tcp_addr}={tcp}");
            }
            (forwards, 8)
        }
    };
    format!(
        "proxy {forwards} --admin {admin} --workers {workers} --lame-duck-min 500ms --quiet 300ms \
         --lame-duck-max 2s --grace-period {grace_period}s --app-shutdown 1s --log-format json"
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect()
}

/// nginx's file. `keepalive_requests` is raised because its default closes every connection after 1,000.
pub(super) fn nginx(setup: &Setup, addr: SocketAddr, dir: &Path) -> String {
    let (upstream, workers, dir) = (setup.upstream, setup.workers, dir.display());
    format!(
        "daemon off;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_timeout 60s;
    keepalive_requests 1000000000;
    upstream app {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {addr};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection \"\";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"
    )
}

/// HAProxy's file.
pub(super) fn haproxy(setup: &Setup, ports: &Ports, pem: &Path) -> String {
    let workers = setup.workers;
    // It insists on descriptors for all of them, and for a pipe each where it may splice.
    let maxconn = match setup.serve {
        Serve::Http1 | Serve::Http2 => 8192,
        Serve::Tcp | Serve::Everything { .. } => 4096,
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
    timeout http-keep-alive 60s
    option http-keep-alive
    http-reuse always
"
    );
    let (upstream, addr, pem) = (setup.upstream, ports.addr, pem.display());
    file += &match &setup.serve {
        Serve::Http1 => http(addr, upstream, ""),
        Serve::Http2 => http(addr, upstream, "proto h2"),
        Serve::Tcp => tcp(addr, upstream),
        Serve::Everything { tcp: tcp_upstream, identity } => {
            let secure = format!("bind {} ssl crt {pem} alpn http/1.1", ports.tls);
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
            http + &tcp_upstream.map_or_else(String::new, |upstream| tcp(ports.tcp, upstream))
        }
    };
    file
}

fn http(addr: SocketAddr, upstream: SocketAddr, protocol: &str) -> String {
    format!(
        "frontend clients
    bind {addr} {protocol}
    option forwardfor
    default_backend app
backend app
    server app {upstream} {protocol}
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
