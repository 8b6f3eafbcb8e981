//! Readiness, for Kubernetes and for load balancers that probe the pod themselves.

use http::StatusCode;
use tokio::time::Duration;

use super::Admin;
use super::router::{Answer, text};
use crate::drain::Phase;
use crate::upstream::{Reach, reach};

/// Less than the second that the kubelet's probe waits by default.
const REACH_TIMEOUT: Duration = Duration::from_millis(500);

/// 200 while connections are accepted and every app can be reached.
///
/// It stays so in lame duck: when all endpoints of a Service are terminating, kube-proxy sends new connections
/// to those that are still ready (KEP-1669). Failing early would leave them nowhere to go.
pub(super) async fn ready(admin: &Admin) -> Answer {
    let phase = admin.drain.state().phase;
    if phase >= Phase::Draining {
        return text(StatusCode::SERVICE_UNAVAILABLE, phase.name());
    }
    for upstream in &admin.upstreams {
        if reach(upstream, REACH_TIMEOUT).await != Reach::Up {
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("the app at {upstream} can't be reached"));
        }
    }
    text(StatusCode::OK, phase.name())
}

/// 200 while serving.
pub(super) fn load_balancer(admin: &Admin) -> Answer {
    let phase = admin.drain.state().phase;
    let ok = phase == Phase::Serving;
    text(if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, phase.name())
}
