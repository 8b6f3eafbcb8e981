//! Health and metrics, on a port of their own in the clear.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use prometheus::Registry;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::admin::router::{self, Answer, not_allowed, text};
use crate::admin::{HEADER_TIMEOUT, MAX_CONNECTIONS, Serving, server};
use crate::tls::Current;

/// What the endpoints work on.
#[derive(Debug)]
pub(super) struct Health {
    registry: Registry,
    metrics: Arc<Metrics>,
    certificate: Current,
    closed: AtomicBool,
}

impl Health {
    pub(super) fn new(registry: Registry, metrics: Arc<Metrics>, certificate: Current) -> Self {
        Self { registry, metrics, certificate, closed: AtomicBool::new(false) }
    }

    /// From now on nobody is accepted.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(super) fn serve(self: Arc<Self>, listener: TcpListener) -> Serving {
        server::serve(listener, MAX_CONNECTIONS, move |stream, peer, seat| {
            let health = Arc::clone(&self);
            async move {
                let answer = |request| std::future::ready(health.route(&request));
                if let Err(error) = seat.http1(stream, HEADER_TIMEOUT, answer).await {
                    tracing::debug!(%peer, %error, "an admin connection broke");
                }
            }
        })
    }

    fn route(&self, request: &Request<Incoming>) -> Answer {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let mut answer = match request.uri().path() {
            "/startupz" if reads => text(StatusCode::OK, "listening"),
            "/livez" if reads => text(StatusCode::OK, "alive"),
            // As in a sidecar's lame duck: whoever is still sent here is still served.
            "/readyz" if reads && !self.closed.load(Relaxed) => text(StatusCode::OK, "serving"),
            "/readyz" if reads => text(StatusCode::SERVICE_UNAVAILABLE, "ending"),
            "/metrics" if reads => {
                self.metrics.expires(self.certificate.expires());
                router::metrics(&self.registry)
            }
            "/startupz" | "/livez" | "/readyz" | "/metrics" => not_allowed("GET"),
            _ => text(StatusCode::NOT_FOUND, "not here; there are /startupz, /readyz, /livez and /metrics"),
        };
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}
