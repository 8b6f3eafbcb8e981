//! Everything that is decided about a pod before anything in it is touched.

use std::time::Duration;

use serde_json::Value;

use super::hooks::{self, Hook};
use super::ports::{self, Forwarded};
use super::settings::{Settings, Times};
use super::{DOMAIN, list_at, text_at};
use crate::config::Scheme;

/// What a pod gets.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) forwards: Vec<Forwarded>,
    pub(super) admin_port: u16,
    pub(super) times: Times,
    pub(super) token: String,
    /// Two ordinary containers.
    pub(super) classic: bool,
    /// The containers that get the hook, by their index.
    pub(super) hooked: Vec<usize>,
    /// What is worth a word.
    pub(super) notes: Vec<String>,
}

/// Decides.
///
/// # Errors
/// Why this pod can't be injected as it is, and what to do.
pub(super) fn plan(
    spec: &Value,
    settings: &Settings,
    token: impl FnOnce() -> Result<String, String>,
) -> Result<Plan, String> {
    let (forwards, admin_port) = ports::choose(spec, settings)?;
    if forwards.iter().any(|forward| forward.scheme == Scheme::Https) && settings.tls_secret.is_none() {
        return Err(format!(
            "an https:// port needs a certificate: name its Secret with --tls-secret (or {DOMAIN}tls-secret), or write \
             tcp:// when the app speaks TLS itself"
        ));
    }
    let mut hooked: Vec<usize> = forwards.iter().map(|forward| forward.container).collect();
    hooked.sort_unstable();
    hooked.dedup();
    let mut notes = Vec::new();
    let slept = replaced(spec, &hooked, settings, &mut notes)?;
    let present = match spec.get("terminationGracePeriodSeconds") {
        None | Some(Value::Null) => None,
        Some(value) => {
            Some(value.as_u64().ok_or("terminationGracePeriodSeconds: write a whole number of seconds")?)
        }
    };
    let times = settings.times(present, slept)?;
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        notes.push("on the node's network: its processes may drain without the token".to_owned());
    }
    let privileged =
        forwards.iter().map(|forward| forward.listen).chain([admin_port]).find(|&port| port < 1024);
    if let Some(port) = privileged {
        notes.push(format!("port {port} needs a container runtime that lets everybody listen below 1024"));
    }
    Ok(Plan { forwards, admin_port, times, token: token()?, classic: settings.classic, hooked, notes })
}

/// How long the hooks slept that make room for ebb's.
fn replaced(
    spec: &Value,
    hooked: &[usize],
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Result<Option<Duration>, String> {
    let mut slept: Option<Duration> = None;
    for &i in hooked {
        let container = &list_at(spec, "containers")[i];
        let name = text_at(container, "name").unwrap_or_default();
        match hooks::pre_stop(container) {
            None => {}
            Some(Hook::Sleep(time)) => {
                notes.push(format!("the {} s sleep of {name} is replaced", time.as_secs()));
                slept = Some(slept.map_or(time, |before| before.max(time)));
            }
            Some(Hook::Other(what)) if settings.replace_hook => {
                notes.push(format!("the preStop hook of {name} ({what}) is replaced"));
            }
            Some(Hook::Other(what)) => {
                return Err(format!(
                    "container {name} has a preStop hook that does more than sleep ({what}), and ebb needs its place: let the \
                     app do that on SIGTERM, which now comes when nothing is left to lose, and say --replace-hook (or the \
                     annotation {DOMAIN}replace-hook: \"true\"); or leave this one as it is with {DOMAIN}inject: \"false\""
                ));
            }
        }
    }
    Ok(slept)
}
