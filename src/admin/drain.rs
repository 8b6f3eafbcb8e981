//! `/drain` and `/undrain`.

use std::net::SocketAddr;

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::router::{Answer, json, last, text};
use super::{Admin, access};
use crate::drain::Trigger;

/// Begins or joins the drain. The answer comes at the end of it, whole: the kubelet's hook is over when the
/// body ends. 200 whatever the outcome; the report says which it was.
pub(super) async fn drain(admin: &Admin, peer: SocketAddr, request: &Request<Incoming>) -> Answer {
    if let Err(refused) = access::check(&admin.config, peer, request) {
        tracing::warn!(%peer, reason = refused.name(), "a call of /drain was refused");
        return refused.answer();
    }
    tracing::info!(%peer, "/drain was called");
    let waits = !request.uri().query().unwrap_or_default().split('&').any(|pair| pair == "wait=false");
    if !waits {
        admin.drain.trigger(Trigger::Drain);
        return text(StatusCode::ACCEPTED, "the drain is under way");
    }
    match admin.drain.drain().await {
        Some(report) => last(json(StatusCode::OK, &report)),
        None => last(text(StatusCode::SERVICE_UNAVAILABLE, "interrupted: the process is ending at once")),
    }
}

/// Takes the drain back.
pub(super) async fn undrain(admin: &Admin, peer: SocketAddr, request: &Request<Incoming>) -> Answer {
    if let Err(refused) = access::check(&admin.config, peer, request) {
        tracing::warn!(%peer, reason = refused.name(), "a call of /undrain was refused");
        return refused.answer();
    }
    tracing::info!(%peer, "/undrain was called");
    match admin.drain.undrain().await {
        Ok(()) => text(StatusCode::OK, "serving"),
        Err(error) => text(StatusCode::CONFLICT, &error.to_string()),
    }
}
