//! YAML as `kubectl` reads it (YAML 1.1 scalars), written so that YAML 1.1 and 1.2 agree on it.
//!
//! `read.rs` keeps where everything stands, so that `patch.rs` can change a document in place: what is not touched keeps its
//! comments, quotes and order. `write.rs` is for what is new.

mod patch;
mod read;
mod scalar;
#[cfg(test)]
mod tests;
mod write;

pub(super) use patch::rewrite;
pub(super) use read::{Node, read};

/// An object as a document of its own, in block style.
#[cfg(test)]
pub(super) fn block(value: &serde_json::Value) -> String {
    let style = write::Style { indented_lists: true };
    value.as_object().map(|map| style.mapping(map, 0)).unwrap_or_default()
}
