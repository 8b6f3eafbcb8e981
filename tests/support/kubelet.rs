//! A kubelet that deletes a pod of two containers: the app, whose preStop hook is ebb's `/drain`, and ebb.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::app::App;
use super::ebb::{Ebb, Hook};

/// In which order the containers are told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Two ordinary containers: ebb, which has no hook, gets its SIGTERM while the app's hook runs.
    Classic,
    /// Two ordinary containers as `ebb inject --classic` makes them: both have the hook, and each gets its SIGTERM behind its own.
    Injected,
    /// ebb is a native sidecar: its SIGTERM comes after the app has ended.
    Native,
}

/// How a pod is deleted.
pub(crate) struct Kubelet {
    /// The pod's terminationGracePeriodSeconds.
    pub(crate) grace: Duration,
    /// Which comes first.
    pub(crate) order: Order,
    /// What the hook asks for. There are no headers: before 1.26 the kubelet does not send a hook's httpHeaders.
    pub(crate) target: &'static str,
}

/// What the deletion of a pod looked like.
#[derive(Debug)]
pub(crate) struct Deletion {
    /// The body of the hook's answer.
    pub(crate) report: Value,
    /// Requests that the app had not answered when its SIGTERM came.
    pub(crate) app_in_flight: usize,
    /// From the deletion to the end of the hook.
    pub(crate) hook: Duration,
    /// How ebb ended.
    pub(crate) ebb: ExitStatus,
    /// From the deletion to ebb's end.
    pub(crate) took: Duration,
}

impl Kubelet {
    /// Deletes the pod: the hook by GET to the pod's address, read to its end; then the app's SIGTERM; ebb's
    /// as the order says; SIGKILL for what is left at the grace.
    pub(crate) async fn delete(self, mut app: App, mut ebb: Ebb) -> Deletion {
        let deleted = Instant::now();
        let pod = (super::own_address(), ebb.admin.port()).into();
        let waiting = Hook::get(pod, self.target, "").await;
        let own = match self.order {
            Order::Injected => Some(Hook::get(pod, self.target, "").await),
            Order::Classic | Order::Native => None,
        };
        if self.order == Order::Classic {
            ebb.signal(libc::SIGTERM);
        }
        let report = waiting.report().await;
        if let Some(own) = own {
            assert_eq!(own.report().await, report, "both hooks wait for the same drain");
        }
        let hook = deleted.elapsed();
        let app_in_flight = app.in_flight();
        app.kill().await;
        if self.order != Order::Classic {
            ebb.signal(libc::SIGTERM);
        }
        let status = ebb.exit_or_kill(self.grace.saturating_sub(deleted.elapsed())).await;
        Deletion { report, app_in_flight, hook, ebb: status, took: deleted.elapsed() }
    }
}
