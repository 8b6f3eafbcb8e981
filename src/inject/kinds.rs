//! Where the pods are in what Kubernetes knows.

use serde_json::{Map, Value};

use super::text_at;

/// What an object is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Has a pod template at this path; `[]`: is a pod itself.
    Workload(&'static [&'static str]),
    /// Leads to pods.
    Service,
    /// Lets clients in by port (NetworkPolicy).
    Policy,
    /// Holds other objects.
    List,
    /// None of our business.
    Other,
}

/// Tells by `kind` and the group of `apiVersion`.
pub(super) fn kind(object: &Value) -> Kind {
    let group = text_at(object, "apiVersion")
        .and_then(|version| version.split_once('/'))
        .map_or("", |(group, _)| group);
    let apps = matches!(group, "apps" | "extensions");
    match text_at(object, "kind").unwrap_or_default() {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" if apps => {
            Kind::Workload(&["spec", "template"])
        }
        "Job" if group == "batch" => Kind::Workload(&["spec", "template"]),
        "CronJob" if group == "batch" => Kind::Workload(&["spec", "jobTemplate", "spec", "template"]),
        "Pod" if group.is_empty() => Kind::Workload(&[]),
        "Service" if group.is_empty() => Kind::Service,
        "NetworkPolicy" if group == "networking.k8s.io" => Kind::Policy,
        list if list.ends_with("List") && object.get("items").is_some_and(Value::is_array) => Kind::List,
        _ => Kind::Other,
    }
}

/// The kinds that are workloads, with the apiVersion they have now.
const KNOWN: [(&str, &str); 7] = [
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("Job", "batch/v1"),
    ("CronJob", "batch/v1"),
    ("Pod", "v1"),
];

/// Why an object that is none of our business is not, where somebody could think that it is.
pub(super) fn overlooked(object: &Value) -> Option<String> {
    let (kind, version) = (text_at(object, "kind"), text_at(object, "apiVersion"));
    // Others have kinds of the same name, in groups of their own.
    let theirs = version.is_some_and(|version| version.split('/').next().unwrap_or_default().contains('.'));
    let known =
        KNOWN.iter().find(|(known, _)| !theirs && kind.is_some_and(|kind| known.eq_ignore_ascii_case(kind)));
    if let Some((known, right)) = known
        && ["containers", "template", "jobTemplate"].iter().any(|key| object["spec"].get(key).is_some())
    {
        return Some(match version {
            _ if kind != Some(known) => format!("Kubernetes knows no such kind: write {known}"),
            Some(version) => format!("its apiVersion is {version}: write {right}"),
            None => format!("it has no apiVersion: write {right}"),
        });
    }
    object.pointer("/spec/template/spec/containers").filter(|list| list.is_array()).map(|_| match kind {
        Some(_) => "ebb inject does not know this kind of object; ebb webhook can inject its pods".to_owned(),
        None => "it has no kind".to_owned(),
    })
}

/// `kind name`, as the notes begin.
pub(super) fn title(object: &Value) -> String {
    let meta = |key: &str| object.get("metadata").and_then(|meta| text_at(meta, key));
    let name = meta("name").or_else(|| meta("generateName")).unwrap_or("without a name");
    format!("{} {name}", text_at(object, "kind").unwrap_or("object"))
}

/// Whoever makes and changes an object, if that is another object.
pub(super) fn owner(object: &Value) -> Option<String> {
    let owners = object.get("metadata")?.get("ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    Some(title_of_reference(owner))
}

fn title_of_reference(owner: &Value) -> String {
    format!("{} {}", text_at(owner, "kind").unwrap_or("object"), text_at(owner, "name").unwrap_or_default())
}

/// The map at a path.
pub(super) fn at_path<'a>(object: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    path.iter().try_fold(object, |value, key| value.get_mut(*key))?.as_object_mut()
}
