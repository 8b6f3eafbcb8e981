//! The port that the API server calls: `POST /mutate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::{Duration, Instant, timeout};

use super::metrics::Metrics;
use super::review::{Outcome, Reviewer};
use crate::admin::router::{Answer, last, not_allowed, text};
use crate::admin::{Serving, server};
use crate::connection::tls;
use crate::tls::Current;

/// The API server takes objects of 3 MiB at most; a review has a little around one.
const MAX_BODY: usize = 4 << 20;

/// Connections at a time. An API server opens one for each call that it makes at the same time.
const MAX_CONNECTIONS: usize = 256;

/// A handshake must be complete within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's body must be complete within this; an API server waits for 10 s by default, and 30 s at most.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection may be without a request for so long: longer than the 90 s after which an API server closes it by itself.
/// A request that finds it closed is not sent again.
const IDLE: Duration = Duration::from_secs(120);

/// At the end, requests under way have this long: one may have begun just now.
pub(super) const FINISH_TIMEOUT: Duration = BODY_TIMEOUT.saturating_add(Duration::from_secs(2));

/// What requests are answered with.
#[derive(Debug)]
pub(super) struct Site {
    reviewer: Reviewer,
    metrics: Arc<Metrics>,
    certificate: Current,
    leaving: AtomicBool,
}

impl Site {
    pub(super) fn new(reviewer: Reviewer, metrics: Arc<Metrics>, certificate: Current) -> Self {
        Self { reviewer, metrics, certificate, leaving: AtomicBool::new(false) }
    }

    /// From now on every connection ends with its next answer.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    pub(super) fn serve(self: Arc<Self>, listener: TcpListener) -> Serving {
        server::serve(listener, MAX_CONNECTIONS, move |stream, peer, seat| {
            let site = Arc::clone(&self);
            async move {
                let handshake = tls::accept(stream, site.certificate.get());
                let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
                };
                if let Err(error) = seat.http1(stream, IDLE, |request| site.answer(request)).await {
                    tracing::debug!(%peer, %error, "a connection broke");
                }
            }
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let begun = Instant::now();
        let (answer, outcome) = match (request.uri().path(), request.method()) {
            ("/mutate", &Method::POST) => self.mutate(request.into_body()).await,
            ("/mutate", _) => (not_allowed("POST"), Outcome::Error),
            _ => (text(StatusCode::NOT_FOUND, "not here; there is POST /mutate"), Outcome::Error),
        };
        self.metrics.answered(outcome, begun.elapsed());
        if self.leaving.load(Relaxed) { last(answer) } else { answer }
    }

    async fn mutate(&self, body: Incoming) -> (Answer, Outcome) {
        let reviewed = match timeout(BODY_TIMEOUT, read(body)).await {
            Ok(Ok(body)) => self.reviewer.review(&body),
            Ok(Err(refused)) => return (refused, Outcome::Error),
            Err(_) => {
                let late = text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
                return (last(late), Outcome::Error);
            }
        };
        match reviewed {
            Ok(answer) => {
                let mut response = Response::new(Full::new(Bytes::from(answer.body)));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                (response, answer.outcome)
            }
            Err(error) => {
                tracing::warn!(%error, "a request makes no sense");
                (text(StatusCode::BAD_REQUEST, &error.to_string()), Outcome::Error)
            }
        }
    }
}

/// The whole body. Of one that is too large the rest is read, too: closed before that, the connection would be reset, and the
/// answer lost with it.
async fn read(mut body: Incoming) -> Result<Vec<u8>, Answer> {
    let mut whole = Vec::new();
    let mut too_large = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(last(text(StatusCode::BAD_REQUEST, "the body was cut off")));
        };
        let data = frame.into_data().unwrap_or_default();
        too_large |= whole.len() + data.len() > MAX_BODY;
        if too_large {
            whole = Vec::new();
        } else {
            whole.extend_from_slice(&data);
        }
    }
    if too_large {
        return Err(text(StatusCode::PAYLOAD_TOO_LARGE, "a review may have 4 MiB"));
    }
    Ok(whole)
}
