//! What a pod was before: kept in an annotation, so that an injection can be repeated, changed or taken back, and whatever
//! somebody changed in the meantime stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::container::TLS_VOLUME;
use super::ports::{MAX_PORTS, PORT_USERS, is_tcp};
use super::{CONTAINER, INJECTED, hooks, list_at, text_at};

/// What goes from a port of the app's to ebb's.
const MOVED: [&str; 3] = ["name", "hostPort", "hostIP"];

/// The annotation's content.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Original {
    /// terminationGracePeriodSeconds: what it is now, then what it was, if it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) grace: Vec<Value>,
    /// The containers that were touched, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) containers: BTreeMap<String, Touched>,
    /// What had to be made, and goes when it is empty again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) made: Vec<String>,
}

/// A container that was touched.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Touched {
    /// Has ebb's hook; the one it had, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "preStop")]
    pub(super) pre_stop: Option<Vec<Value>>,
    /// Had no lifecycle at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "noLifecycle")]
    pub(super) no_lifecycle: bool,
    /// Ports as they were declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<Value>,
    /// Names that were used for ports, by the place (a JSON pointer) where a number is now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) names: BTreeMap<String, String>,
}

/// What was taken back.
#[derive(Debug)]
pub(super) struct TakenBack {
    /// The drain token that was in use.
    pub(super) token: Option<String>,
    /// Names of ports that are gone since, which could be given back to nobody.
    pub(super) lost: Vec<String>,
}

/// Makes an injected pod (`metadata` and `spec`) what it was; `None` when it is not one.
///
/// # Errors
/// When the annotation can't be read.
pub(super) fn take_back(pod: &mut Map<String, Value>) -> Result<Option<TakenBack>, String> {
    let annotations = pod.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"));
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else { return Ok(None) };
    let Some(text) = annotations.shift_remove(INJECTED) else { return Ok(None) };
    let original = text
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .filter(|original: &Original| original.containers.values().all(Touched::can_be_ours))
        .ok_or_else(|| format!("annotation {INJECTED} can't be read: it must stay as ebb inject wrote it"))?;
    let empty = annotations.is_empty();
    let made = |what: &str| original.made.iter().any(|made| made == what);
    if empty && made("annotations") {
        let metadata = pod.get_mut("metadata").and_then(Value::as_object_mut);
        let gone = metadata.is_some_and(|metadata| {
            metadata.shift_remove("annotations");
            metadata.is_empty()
        });
        if gone && made("metadata") {
            pod.shift_remove("metadata");
        }
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(None) };
    let token = remove_container(spec, &made);
    remove_named(spec, "volumes", TLS_VOLUME, made("volumes"));
    if let [now, was @ ..] = original.grace.as_slice()
        && spec.get("terminationGracePeriodSeconds") == Some(now)
    {
        match was.first() {
            Some(was) => spec.insert("terminationGracePeriodSeconds".to_owned(), was.clone()),
            None => spec.shift_remove("terminationGracePeriodSeconds"),
        };
    }
    let mut lost = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text_at(container, "name").unwrap_or_default().to_owned();
            if let Some(touched) = original.containers.get(&name) {
                touched.take_back(container);
                lost.extend(touched.lost(container));
            } else if container.pointer("/lifecycle/preStop").is_some_and(hooks::is_ours) {
                return Err(format!(
                    "container {name} has ebb's hook, and another name than it had, so what was there can't be told: give it its old \
                     name for ebb inject --remove, or take the hook out"
                ));
            }
        }
    }
    lost.retain(|(name, _)| !is_named(spec, name));
    let lost = lost.into_iter().map(|(name, number)| format!("{name} of port {number}")).collect();
    Ok(Some(TakenBack { token, lost }))
}

/// Whether a port of any container has a name.
fn is_named(spec: &Map<String, Value>, name: &str) -> bool {
    let lists = ["containers", "initContainers"].iter().filter_map(|list| spec.get(*list)?.as_array());
    lists
        .flatten()
        .flat_map(|container| list_at(container, "ports"))
        .any(|port| text_at(port, "name") == Some(name))
}

/// Takes ebb's container out and returns its token.
fn remove_container(spec: &mut Map<String, Value>, made: &dyn Fn(&str) -> bool) -> Option<String> {
    let native = remove_named(spec, "initContainers", CONTAINER, made("initContainers"));
    let container = native.or_else(|| remove_named(spec, "containers", CONTAINER, false))?;
    let env = list_at(&container, "env");
    let token = env.iter().find(|variable| text_at(variable, "name") == Some("EBB_ADMIN_TOKEN"))?;
    text_at(token, "value").map(str::to_owned)
}

fn remove_named(spec: &mut Map<String, Value>, list: &str, name: &str, made: bool) -> Option<Value> {
    let items = spec.get_mut(list)?.as_array_mut()?;
    let at = items.iter().position(|item| text_at(item, "name") == Some(name))?;
    let item = items.remove(at);
    if items.is_empty() && made {
        spec.shift_remove(list);
    }
    Some(item)
}

impl Touched {
    /// Somebody else's could be made to keep a webhook busy.
    fn can_be_ours(&self) -> bool {
        self.ports.len() <= MAX_PORTS
            && self.names.keys().all(|pointer| PORT_USERS.contains(&pointer.as_str()))
    }

    /// Names of ports that are gone.
    fn lost<'a>(&'a self, container: &Value) -> Vec<(&'a str, &'a Value)> {
        let there = |number: &Value| {
            let mut ports = list_at(container, "ports").iter().filter(|port| is_tcp(port));
            ports.any(|port| port.get("containerPort") == Some(number))
        };
        let names =
            self.ports.iter().filter_map(|was| Some((text_at(was, "name")?, was.get("containerPort")?)));
        names.filter(|(_, number)| !there(number)).collect()
    }

    fn take_back(&self, container: &mut Value) {
        if let Some(was) = &self.pre_stop
            && let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut)
            // One that somebody has put there since is theirs.
            && lifecycle.get("preStop").is_some_and(hooks::is_ours)
        {
            match was.first() {
                Some(was) => lifecycle.insert("preStop".to_owned(), was.clone()),
                None => lifecycle.shift_remove("preStop"),
            };
            if lifecycle.is_empty()
                && self.no_lifecycle
                && let Some(container) = container.as_object_mut()
            {
                container.shift_remove("lifecycle");
            }
        }
        for (pointer, name) in &self.names {
            let number = self
                .ports
                .iter()
                .find(|was| text_at(was, "name") == Some(name))
                .map(|was| &was["containerPort"]);
            if let Some(port) = container.pointer_mut(pointer).filter(|port| Some(&**port) == number) {
                *port = name.as_str().into();
            }
        }
        let ports = container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
        for port in ports.filter(|port| is_tcp(port)).filter_map(Value::as_object_mut) {
            let same = |was: &&Value| was.get("containerPort") == port.get("containerPort");
            let Some(was) = self.ports.iter().find(same).and_then(Value::as_object) else { continue };
            // As it was, but for what somebody has put there or taken away since; a cluster adds the protocol.
            let now = std::mem::replace(port, was.clone());
            port.retain(|key, _| MOVED.contains(&key.as_str()) || now.contains_key(key));
            port.extend(now);
        }
    }
}
