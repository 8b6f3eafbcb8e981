//! How each proxy is configured.

use std::net::SocketAddr;
use std::path::Path;

use super::Setup;

/// ebb's flags. Lame duck ends after two seconds here: the one-shot clients never let it become quiet.
pub(super) fn ebb(setup: &Setup, addr: SocketAddr, admin: SocketAddr) -> Vec<String> {
    let (upstream, workers) = (setup.upstream, setup.workers);
    format!(
        "proxy --forward {addr}={upstream} --admin {admin} --workers {workers} --lame-duck-min 500ms \
         --quiet 300ms --lame-duck-max 2s --grace-period 20s --app-shutdown 1s --log-format json"
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
pub(super) fn haproxy(setup: &Setup, addr: SocketAddr) -> String {
    let (upstream, workers) = (setup.upstream, setup.workers);
    format!(
        "global
    nbthread {workers}
    maxconn 8192
    hard-stop-after 20s
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend clients
    bind {addr}
    default_backend app
backend app
    server app {upstream}
"
    )
}
