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
/// It stays so at first in lame duck: when all endpoints of a Service are terminating, kube-proxy sends new connections
/// to those that are still ready (KEP-1669). Failing early would leave them nowhere to go. But when clients still come after
/// the shortest lame duck, the pod may not be dying at all (the kubelet restarts the app alone, after its liveness probe has
/// failed), and nothing but this would lead them elsewhere before they are refused.
pub(super) async fn ready(admin: &Admin) -> Answer {
    let state = admin.drain.state();
    let phase = state.phase;
    let patience = admin.lame_duck_min.max(admin.quiet);
    let clients_still_come =
        phase == Phase::LameDuck && state.trigger.is_some_and(|trigger| trigger.elapsed() > patience);
    if phase >= Phase::Draining || clients_still_come {
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
