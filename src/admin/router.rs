//! Which path does what.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::Registry;

use super::{Admin, drain, health, page, status};

/// An answer of the admin port.
pub(crate) type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// The version of the exposition format that the prometheus crate writes.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a request.
pub(super) async fn route(admin: &Admin, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    // Kubernetes before 1.21 asks for `//drain`; a redirect would make it ask twice.
    let path = format!("/{}", request.uri().path().trim_matches('/'));
    let method = request.method().clone();
    let reads = matches!(method, Method::GET | Method::HEAD);
    let mut answer = match path.as_str() {
        "/drain" if matches!(method, Method::GET | Method::POST) => drain::drain(admin, peer, &request).await,
        "/undrain" if method == Method::POST => drain::undrain(admin, peer, &request).await,
        "/undrain" => not_allowed("POST"),
        "/startupz" if reads => text(StatusCode::OK, "listening"),
        "/livez" if reads => text(StatusCode::OK, "alive"),
        "/readyz" if reads => health::ready(admin).await,
        "/lbz" if reads => health::load_balancer(admin),
        "/metrics" if reads => {
            admin.metrics.progress(&admin.drain.progress());
            metrics(&admin.registry)
        }
        "/status" if reads => json(StatusCode::OK, &status::status(admin)),
        "/" if reads => html(page::page(&status::status(admin))),
        "/drain" => not_allowed("GET, POST"),
        "/startupz" | "/livez" | "/readyz" | "/lbz" | "/metrics" | "/status" | "/" => not_allowed("GET"),
        _ => text(
            StatusCode::NOT_FOUND,
            "not here; there are /drain, /undrain, /startupz, /readyz, /livez, /lbz, /metrics, /status and /",
        ),
    };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What a registry holds, for Prometheus.
pub(crate) fn metrics(registry: &Registry) -> Answer {
    match prometheus::TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(body) => answer(StatusCode::OK, METRICS, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// 405, with what would be allowed.
pub(crate) fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allow}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn html(body: String) -> Answer {
    answer(StatusCode::OK, "text/html; charset=utf-8", body)
}

/// One line of text.
pub(crate) fn text(status: StatusCode, line: &str) -> Answer {
    answer(status, TEXT, format!("{line}\n"))
}

/// A JSON document.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    // Our own types have no maps with odd keys, the only thing that can't be written.
    let body = serde_json::to_string(value).unwrap_or_default();
    answer(status, JSON, body + "\n")
}

/// Says that the connection ends with this answer.
pub(crate) fn last(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
