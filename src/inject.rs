//! `ebb inject`: Kubernetes manifests in, the same with the sidecar out. Pure: no files, no flags, no clock.
//!
//! In reading order: [`manifests()`] takes a whole text apart and puts it together again; `pod.rs` is the injection into
//! one pod, on a plain JSON value; `services.rs` leads the Services of the same text to ebb's ports. What a pod was before is kept
//! in an annotation (`original.rs`), so that an injection can be repeated, changed or taken back.

use serde_json::{Map, Value};

mod container;
mod documents;
mod hooks;
mod kinds;
mod manifests;
mod original;
mod plan;
mod pod;
mod ports;
mod resources;
mod services;
pub mod settings;
#[cfg(test)]
mod tests;
mod yaml;

pub use manifests::{Mode, Output, manifests};
pub use pod::{Outcome, Pod};
pub use ports::Forwarded;
pub use settings::{Asked, DOMAIN, Settings, Variables};

/// The sidecar's container.
pub const CONTAINER: &str = "ebb";

/// Says on a pod (or its template, or its workload) whether ebb is to be there: `"false"` leaves it out. An annotation; on a
/// pod and its template a label as well.
pub const INJECT: &str = "ebb.dev/inject";

/// Where an injected pod or Service remembers what it was before.
pub const INJECTED: &str = "ebb.dev/injected";

/// An object's map under `key`, made when it is missing.
fn map_at<'a>(object: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>, String> {
    let value = object.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| format!("{key} is not a mapping: write it as one"))
}

/// What an object has under `key`, as text.
fn text_at<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// The items of an object's list under `key`; none when there is no list.
fn list_at<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A port number, also where somebody has put it in quotes.
fn port_number(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
    .filter(|&port| port > 0)
}
