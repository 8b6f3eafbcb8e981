//! The injection into one pod.

use serde_json::{Map, Value, json};

use super::original::{self, Original};
use super::plan::{self, Plan};
use super::ports::{Forwarded, PORT_USERS, is_tcp};
use super::settings::Settings;
use super::{CONTAINER, DOMAIN, INJECT, INJECTED, container, hooks, list_at, map_at, port_number, text_at};

/// How many parts a pod may have, and how many bytes of annotations, which is what Kubernetes takes. Nobody writes as much, and whoever
/// may create pods must not keep a webhook busy.
const MAX_PARTS: usize = 10_000;
const MAX_ANNOTATIONS: usize = 256 << 10;

/// A pod, or the template of many.
#[derive(Debug)]
pub struct Pod<'a> {
    /// What has its `metadata` and `spec`.
    pub object: &'a mut Map<String, Value>,
    /// The annotations of whatever it is the template of; the pod's own count more.
    pub outer: Option<&'a Map<String, Value>>,
    /// It has to end by itself, whatever it says (a Job's).
    pub completes: bool,
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has the sidecar.
    Injected {
        /// The ports that ebb fronts now.
        forwards: Vec<Forwarded>,
        /// What was done, in a few words.
        done: Vec<String>,
    },
    /// It was left as it is, and why.
    Left(String),
    /// It had the sidecar, and is what it was before; but for these names of ports that are gone.
    TakenBack(Vec<String>),
}

impl Pod<'_> {
    /// Adds the sidecar, or brings one that was added before up to date. Nothing is changed when there is an error.
    ///
    /// # Errors
    /// Why it can't be done, and what to do.
    pub fn inject(
        self,
        settings: &Settings,
        token: &dyn Fn() -> Result<String, String>,
    ) -> Result<Outcome, String> {
        bounded(self.object)?;
        let mut object = self.object.clone();
        let before = original::take_back(&mut object)?;
        let meta =
            |key: &str| object.get("metadata").and_then(|meta| meta.get(key)).and_then(Value::as_object);
        let (own, labels) = (meta("annotations"), meta("labels"));
        let left_out = !wanted("annotation", self.outer)? && own.and_then(|own| own.get(INJECT)).is_none();
        // The label is what selects pods for the webhook. Whichever says no, counts.
        if left_out || !wanted("annotation", own)? || !wanted("label", labels)? {
            let outcome = match before {
                Some(before) => Outcome::TakenBack(before.lost),
                None => Outcome::Left(format!("{INJECT} says so")),
            };
            *self.object = object;
            return Ok(outcome);
        }
        if let Some(lost) = before.as_ref().map(|before| &before.lost).filter(|lost| !lost.is_empty()) {
            return Err(format!(
                "ebb has the name {}, and that port is gone: write the name where it belongs now, or let ebb inject --remove forget it",
                lost.join(" and ")
            ));
        }
        let settings = settings.with_annotations(self.outer)?.with_annotations(own)?;
        let spec = object.get("spec").cloned().unwrap_or_default();
        let completes = self.completes || ends_by_itself(&spec);
        if let Some(reason) = left_alone(&spec, &settings, completes)? {
            return Ok(Outcome::Left(reason));
        }
        if completes && settings.classic {
            return Err(format!(
                "a classic sidecar never ends, so the pod would not either: leave --classic out here \
                 ({DOMAIN}classic: \"false\"), or leave this one as it is with {INJECT}: \"false\""
            ));
        }
        let kept = || match before.and_then(|before| before.token) {
            Some(token) => Ok(token),
            None => token(),
        };
        let chosen = settings.token.clone();
        let plan = plan::plan(&spec, &settings, || chosen.map_or_else(kept, Ok))?;
        let done = apply(&mut object, &plan, &settings)?;
        *self.object = object;
        Ok(Outcome::Injected { forwards: plan.forwards, done })
    }

    /// Takes the sidecar out; what was there before is there again.
    ///
    /// # Errors
    /// When what was there can't be told.
    pub fn remove(self) -> Result<Outcome, String> {
        let mut object = self.object.clone();
        let Some(before) = original::take_back(&mut object)? else {
            let spec = object.get("spec").unwrap_or(&Value::Null);
            let mut all = list_at(spec, "containers").iter().chain(list_at(spec, "initContainers"));
            return Ok(Outcome::Left(if all.any(runs_ebb) {
                format!(
                    "ebb is there, but no annotation {INJECTED} that says what was before: take it out by hand"
                )
            } else {
                "there is nothing to remove".to_owned()
            }));
        };
        *self.object = object;
        Ok(Outcome::TakenBack(before.lost))
    }
}

/// Whether a pod is of a size that can be meant.
fn bounded(pod: &Map<String, Value>) -> Result<(), String> {
    fn parts(value: &Value) -> usize {
        match value {
            Value::Object(map) => 1 + map.values().map(parts).sum::<usize>(),
            Value::Array(items) => 1 + items.iter().map(parts).sum::<usize>(),
            _ => 1,
        }
    }
    if pod.values().map(parts).sum::<usize>() > MAX_PARTS {
        return Err(format!("it has more than {MAX_PARTS} parts"));
    }
    let annotations = pod.get("metadata").and_then(|meta| meta.get("annotations")).and_then(Value::as_object);
    let length = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
    if annotations.into_iter().flatten().map(length).sum::<usize>() > MAX_ANNOTATIONS {
        return Err(format!("it has more than {} KiB of annotations", MAX_ANNOTATIONS >> 10));
    }
    Ok(())
}

/// Whether annotations or labels let the sidecar in.
fn wanted(what: &str, all: Option<&Map<String, Value>>) -> Result<bool, String> {
    match all.and_then(|all| all.get(INJECT)) {
        None => Ok(true),
        Some(value) => match value.as_str() {
            Some("true" | "enabled") => Ok(true),
            Some("false" | "disabled") => Ok(false),
            _ => Err(format!("{what} {INJECT}: write \"true\" or \"false\"")),
        },
    }
}

/// Pods that are none of ours.
fn left_alone(spec: &Value, settings: &Settings, completes: bool) -> Result<Option<String>, String> {
    let os = spec.pointer("/os/name").or_else(|| spec.pointer("/nodeSelector/kubernetes.io~1os"));
    if os.and_then(Value::as_str) == Some("windows") {
        return Ok(Some("it runs on Windows, and ebb on Linux only".to_owned()));
    }
    let all = || list_at(spec, "containers").iter().chain(list_at(spec, "initContainers"));
    if all().any(|container| text_at(container, "name").is_none()) {
        return Err("a container has no name: give it one".to_owned());
    }
    if all().any(runs_ebb) {
        return Ok(Some(format!(
            "ebb is there already, added by hand: take it out if ebb inject is to see to it, or say {INJECT}: \"false\""
        )));
    }
    if all().any(|container| text_at(container, "name") == Some(CONTAINER)) {
        return Err(format!("another container is named {CONTAINER}: give it another name"));
    }
    if only_ends(spec, completes) && settings.ports.is_empty() {
        return Ok(Some(format!(
            "it ends by itself and declares no port, so there is nothing to drain ({DOMAIN}port: \"3000\" if there is)"
        )));
    }
    Ok(None)
}

/// ebb's container, native or not.
pub(super) fn sidecar(spec: &Value) -> Option<&Value> {
    let mut all = list_at(spec, "initContainers").iter().chain(list_at(spec, "containers"));
    all.find(|container| text_at(container, "name") == Some(CONTAINER))
}

/// Whether a pod is over when its containers are.
fn ends_by_itself(spec: &Value) -> bool {
    matches!(text_at(spec, "restartPolicy"), Some("Never" | "OnFailure"))
}

/// Whether a pod ends by itself and no container says that it listens. `completes`: it has to, whatever it says.
pub(super) fn only_ends(spec: &Value, completes: bool) -> bool {
    let mut all = list_at(spec, "containers").iter().chain(list_at(spec, "initContainers"));
    let listens = all.any(|container| list_at(container, "ports").iter().any(is_tcp));
    (completes || ends_by_itself(spec)) && !listens
}

/// A container that somebody has written themselves.
fn runs_ebb(container: &Value) -> bool {
    let args: Vec<&str> = list_at(container, "command")
        .iter()
        .chain(list_at(container, "args"))
        .filter_map(Value::as_str)
        .collect();
    args.contains(&"proxy") && args.iter().any(|arg| arg.starts_with("--forward"))
}

fn apply(object: &mut Map<String, Value>, plan: &Plan, settings: &Settings) -> Result<Vec<String>, String> {
    let mut original = Original::default();
    for (inside, what) in [("", "metadata"), ("metadata", "annotations")] {
        let there =
            if inside.is_empty() { object.get(what) } else { object.get(inside).and_then(|m| m.get(what)) };
        if there.is_none_or(Value::is_null) {
            original.made.push(what.to_owned());
        }
    }
    let before = object.get("spec").cloned().unwrap_or_default();
    let spec = map_at(object, "spec")?;
    let mut done = vec![if settings.classic { "classic sidecar" } else { "native sidecar" }.to_owned()];
    let flags: Vec<String> = plan.forwards.iter().map(Forwarded::flag).collect();
    done.push(format!("forwards {}", flags.join(" ")));

    let grace: Value = plan.times.grace_period.as_secs().into();
    let was = spec.get("terminationGracePeriodSeconds");
    done.push(match was {
        Some(was) if !was.is_null() && *was != grace => format!("grace period {grace} s instead of {was} s"),
        _ => format!("grace period {grace} s"),
    });
    if was != Some(&grace) {
        original.grace = std::iter::once(grace.clone()).chain(was.cloned()).collect();
        spec.insert("terminationGracePeriodSeconds".to_owned(), grace);
    }
    let ports = move_ports(spec, &plan.forwards, &mut original);
    for &i in &plan.hooked {
        hook(&mut spec["containers"][i], plan, &mut original)?;
    }
    if container::has_tls(plan) {
        let secret = settings.tls_secret.as_deref().unwrap_or_default();
        let volume = json!({"name": container::TLS_VOLUME, "secret": {"secretName": secret}});
        append(spec, "volumes", volume, &mut original)?;
    }
    // Behind the others: it starts when they have done their part, and they still have each other when it ends.
    let list = if settings.classic { "containers" } else { "initContainers" };
    append(spec, list, container::container(plan, settings, &before, ports)?, &mut original)?;
    let text = serde_json::to_string(&original).map_err(|error| error.to_string())?;
    if !object.contains_key("metadata") {
        object.shift_insert(0, "metadata".to_owned(), json!({}));
    }
    map_at(map_at(object, "metadata")?, "annotations")?.insert(INJECTED.to_owned(), text.into());
    done.extend(plan.notes.iter().cloned());
    Ok(done)
}

fn append(
    spec: &mut Map<String, Value>,
    list: &str,
    item: Value,
    original: &mut Original,
) -> Result<(), String> {
    if spec.get(list).is_none_or(Value::is_null) {
        original.made.push(list.to_owned());
        spec.insert(list.to_owned(), json!([]));
    }
    let items = spec.get_mut(list).and_then(Value::as_array_mut);
    items.ok_or_else(|| format!("{list} is not a list: write it as one"))?.push(item);
    Ok(())
}

fn hook(container: &mut Value, plan: &Plan, original: &mut Original) -> Result<(), String> {
    let name = text_at(container, "name").unwrap_or_default().to_owned();
    let touched = original.containers.entry(name).or_default();
    let container = container.as_object_mut().ok_or("a container is not a mapping: write it as one")?;
    touched.no_lifecycle = container.get("lifecycle").is_none_or(Value::is_null);
    let lifecycle = map_at(container, "lifecycle")?;
    let was =
        lifecycle.insert("preStop".to_owned(), hooks::drain(plan.admin_port, &plan.token, plan.classic));
    touched.pre_stop = Some(was.into_iter().collect());
    Ok(())
}

/// Moves the names (and host ports) of fronted ports to ebb's container, whose ports it returns. Whoever used a name inside
/// its own container gets the number instead, and so still reaches the app.
fn move_ports(spec: &mut Map<String, Value>, forwards: &[Forwarded], original: &mut Original) -> Vec<Value> {
    let on_host = spec.get("hostNetwork").and_then(Value::as_bool) == Some(true);
    let mut moved: Vec<Map<String, Value>> = forwards
        .iter()
        .map(|forward| {
            let mut port = Map::new();
            if let Some(name) = &forward.name {
                port.insert("name".to_owned(), name.as_str().into());
            }
            port.insert("containerPort".to_owned(), forward.listen.into());
            port
        })
        .collect();
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for (i, container) in containers.into_iter().flatten().enumerate() {
            let mut touched = Vec::new();
            let mut names = Vec::new();
            let ports = container.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten().filter(|port| is_tcp(port)) {
                let number = port.get("containerPort").and_then(port_number);
                let fronted = forwards.iter().position(|forward| Some(forward.app) == number);
                let fronted = fronted.filter(|&at| list == "containers" && forwards[at].container == i);
                let name = text_at(port, "name").map(str::to_owned);
                // A name that moves must not be found elsewhere in the pod: the first one counts.
                let moves =
                    |name: &&String| forwards.iter().any(|forward| forward.name.as_ref() == Some(name));
                let named = name.as_ref().filter(moves);
                let was = port.clone();
                let Some(port) = port.as_object_mut() else { continue };
                if let (Some(name), Some(number)) = (named, number) {
                    port.shift_remove("name");
                    names.push((name.clone(), number));
                }
                if let Some(at) = fronted.filter(|_| !on_host) {
                    for key in ["hostPort", "hostIP"] {
                        moved[at].extend(port.shift_remove(key).map(|value| (key.to_owned(), value)));
                    }
                }
                if Value::Object(port.clone()) != was {
                    touched.push(was);
                }
            }
            if touched.is_empty() {
                continue;
            }
            let name = text_at(container, "name").unwrap_or_default().to_owned();
            let record = original.containers.entry(name).or_default();
            record.ports = touched;
            for pointer in PORT_USERS {
                let Some(port) = container.pointer_mut(pointer) else { continue };
                if let Some((name, number)) = names.iter().find(|(name, _)| port.as_str() == Some(name)) {
                    record.names.insert(pointer.to_owned(), name.clone());
                    *port = (*number).into();
                }
            }
        }
    }
    moved.into_iter().map(Value::Object).collect()
}
