//! Envoy's file.

use serde_json::{Value, json};
use std::net::SocketAddr;

use tokio::process::Command;

use super::super::{Place, Serve, Setup};

/// How long its graceful drain of listeners takes: as long as ebb's lame duck here.
pub(in super::super) const DRAIN_SECONDS: u64 = 2;

/// What one of its types is called.
fn typed(path: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("type.googleapis.com/envoy.{path}").into();
    fields
}

fn address(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() } })
}

/// The circuit breakers are raised because their default lets 1,024 connections and requests through; retries are off
/// as they are by default.
fn file(setup: &Setup, place: &Place<'_>) -> Value {
    let (filter, http2_upstream) = match setup.serve {
        Serve::Tcp => (tcp_proxy(), false),
        Serve::Http2 | Serve::Grpc => (http_filter(&setup.serve), true),
        _ => (http_filter(&setup.serve), false),
    };
    let mut chain = json!({ "filters": [filter] });
    if let Serve::Tls(_) = setup.serve {
        let pem = place.pem.display().to_string();
        let (cert, key) = (json!({ "filename": pem }), json!({ "filename": pem }));
        let common = json!({
            "alpn_protocols": ["http/1.1"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{ "certificate_chain": cert, "private_key": key }]
        });
        let context = typed(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            json!({ "common_tls_context": common }),
        );
        chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": context });
    }
    let limits = json!({
        "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000
    });
    let endpoint = json!({ "endpoint": { "address": address(setup.upstream) } });
    let mut cluster = json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [limits] },
        "load_assignment": { "cluster_name": "app", "endpoints": [{ "lb_endpoints": [endpoint] }] }
    });
    if http2_upstream {
        let options = typed(
            "extensions.upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
        );
        cluster["typed_extension_protocol_options"] =
            json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
    }
    let listener =
        json!({ "name": "clients", "address": address(place.ports.addr), "filter_chains": [chain] });
    json!({
        "admin": { "address": address(place.ports.admin) },
        "static_resources": { "listeners": [listener], "clusters": [cluster] }
    })
}

fn tcp_proxy() -> Value {
    let config = typed(
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": "clients", "cluster": "app" }),
    );
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": config })
}

/// `use_remote_address` is what makes it append to `X-Forwarded-For`.
fn http_filter(serve: &Serve) -> Value {
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app", "timeout": "0s" } });
    let host = json!({ "name": "app", "domains": ["*"], "routes": [route] });
    let mut config = json!({
        "stat_prefix": "clients",
        "codec_type": "AUTO",
        "use_remote_address": true,
        "route_config": { "virtual_hosts": [host] },
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": router }]
    });
    if let Serve::WebSocket = serve {
        config["upgrade_configs"] = json!([{ "upgrade_type": "websocket" }]);
    }
    let manager = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let config = typed(manager, config);
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": config })
}

pub(super) fn command(setup: &Setup, place: &Place<'_>) -> std::io::Result<Command> {
    // YAML, which it reads, contains JSON.
    let path = place.dir.join("envoy.json");
    std::fs::write(&path, file(setup, place).to_string())?;
    let mut command = Command::new(&setup.binary);
    command.arg("-c").arg(path).arg("--concurrency").arg(setup.workers.to_string());
    command.args(["--disable-hot-restart", "--log-level", "warn", "--drain-time-s"]);
    command.arg(DRAIN_SECONDS.to_string());
    Ok(command)
}
