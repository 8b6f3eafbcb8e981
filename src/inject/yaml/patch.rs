//! A document changed in place: only the lines that must change do.

use serde_json::Value;

use super::read::{Entry, Kind, Node, read};
use super::write::{Style, flow};

/// A part of the text and what comes there instead.
type Edit = (usize, usize, String);

/// The document with a new value: changed in place, or, where that can't be done, written anew.
pub(in crate::inject) fn rewrite(text: &str, root: &Node, new: &Value) -> String {
    let patch = Patch { text, style: Style { indented_lists: indented_lists(root).unwrap_or(true) } };
    let mut edits = Vec::new();
    if patch.node(root, new, &mut edits)
        && let Some(patched) = patch.apply(edits)
        // Whatever YAML has in store: only what reads back as it should is let out.
        && read(&patched, 1).is_ok_and(|read| read.is_some_and(|read| read.value == *new))
    {
        return patched;
    }
    patch.anew(root, new)
}

/// Whether the first list under a key is indented.
fn indented_lists(node: &Node) -> Option<bool> {
    match &node.kind {
        Kind::Mapping(entries) => entries.iter().find_map(|entry| match &entry.value.kind {
            // The dash stands two columns before the item.
            Kind::Sequence(items) if !items.is_empty() => Some(items[0].column >= entry.column + 4),
            _ => indented_lists(&entry.value),
        }),
        Kind::Sequence(items) => items.iter().find_map(indented_lists),
        _ => None,
    }
}

struct Patch<'a> {
    text: &'a str,
    style: Style,
}

impl Patch<'_> {
    /// Notes how `node` becomes `new`; `false`: not without writing it anew.
    fn node(&self, node: &Node, new: &Value, edits: &mut Vec<Edit>) -> bool {
        if node.value == *new {
            return true;
        }
        match (&node.kind, new) {
            (Kind::Mapping(entries), Value::Object(_)) => self.mapping(entries, new, edits).is_some(),
            (Kind::Sequence(items), Value::Array(new)) => self.sequence(items, new, edits).is_some(),
            _ => false,
        }
    }

    fn mapping(&self, old: &[Entry], new: &Value, edits: &mut Vec<Edit>) -> Option<()> {
        let new = new.as_object()?;
        if !old.iter().any(|entry| new.contains_key(&entry.name)) {
            return None;
        }
        let mut gone = 0;
        for (i, entry) in old.iter().enumerate() {
            if entry.start < gone {
                continue;
            }
            match new.get(&entry.name) {
                Some(value) => {
                    let mut inner = Vec::new();
                    if self.node(&entry.value, value, &mut inner) {
                        edits.append(&mut inner);
                    } else {
                        edits.push(self.replaced(&entry.value, value, entry.colon, entry.column, false));
                    }
                }
                None => {
                    let next = old[i..].iter().find(|entry| new.contains_key(&entry.name));
                    let edit = self.removed(entry.start, entry.value.end, next.map(|next| next.start))?;
                    gone = edit.1;
                    edits.push(edit);
                }
            }
        }
        let column = old[0].column;
        let mut after: Option<&Entry> = None;
        for (name, value) in new {
            if let Some(entry) = old.iter().find(|entry| entry.name == *name) {
                after = Some(entry);
                continue;
            }
            edits.push(match after {
                Some(entry) => self.line_after(entry.value.end, &self.style.entry(name, value, column)),
                None => {
                    let entry = self.style.entry(name, value, column);
                    (old[0].start, old[0].start, format!("{}\n{:column$}", entry.trim_start(), ""))
                }
            });
        }
        Some(())
    }

    fn sequence(&self, old: &[Node], new: &[Value], edits: &mut Vec<Edit>) -> Option<()> {
        let first = old.first()?;
        let column = self.column(self.dash(first)?);
        let mut next = 0;
        let mut after: Option<&Node> = None;
        for value in new {
            let same = |node: &Node| old.len() == new.len() || identity(&node.value) == identity(value);
            let Some(skipped) = old[next..].iter().position(same) else {
                // Before the first there is no line to go on from.
                edits.push(self.line_after(after?.end, &self.style.item(value, column)));
                continue;
            };
            for node in &old[next..next + skipped] {
                edits.push(self.removed(self.dash(node)?, node.end, None)?);
            }
            let node = &old[next + skipped];
            let mut inner = Vec::new();
            if self.node(node, value, &mut inner) {
                edits.append(&mut inner);
            } else {
                let dash = self.dash(node)?;
                edits.push(self.replaced(node, value, dash + 1, column, true));
            }
            after = Some(node);
            next += skipped + 1;
        }
        after?;
        for node in &old[next..] {
            edits.push(self.removed(self.dash(node)?, node.end, None)?);
        }
        Some(())
    }

    /// What stands from `from` to the end of `node` becomes `new`.
    fn replaced(&self, node: &Node, new: &Value, from: usize, column: usize, behind_dash: bool) -> Edit {
        let collection = new.is_object() || new.is_array();
        let text = if matches!(node.kind, Kind::Flow) && collection {
            format!(" {}", flow(new))
        } else {
            self.style.value(new, column, behind_dash)
        };
        // A block scalar's end is that of its last line.
        let kept = self.text[from..node.end].trim_end_matches(['\r', '\n']).len();
        (from, from + kept, text)
    }

    /// Whole lines go, or, where the line begins with something else, what stands before the next key.
    fn removed(&self, start: usize, end: usize, next: Option<usize>) -> Option<Edit> {
        let line = self.line_start(start);
        if self.text[line..start].trim().is_empty() {
            return Some((line, self.line_end(end), String::new()));
        }
        Some((start, next?, String::new()))
    }

    /// A new line (or several) behind the one that `end` is on.
    fn line_after(&self, end: usize, lines: &str) -> Edit {
        let at = self.line_end(end);
        if self.text[..at].ends_with('\n') || at == 0 {
            (at, at, format!("{lines}\n"))
        } else {
            (at, at, format!("\n{lines}"))
        }
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |i| i + 1)
    }

    /// Behind the end of the line; block scalars end there already.
    fn line_end(&self, at: usize) -> usize {
        if self.text[..at].ends_with('\n') {
            return at;
        }
        self.text[at..].find('\n').map_or(self.text.len(), |i| at + i + 1)
    }

    fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    /// Where an item's dash is, if it is on the same line.
    fn dash(&self, item: &Node) -> Option<usize> {
        let before = self.text[..item.start].trim_end_matches(' ');
        before.ends_with('-').then(|| before.len() - 1)
    }

    fn apply(&self, mut edits: Vec<Edit>) -> Option<String> {
        // Stable: several insertions at one place stay in their order.
        edits.sort_by_key(|edit| edit.0);
        let (mut out, mut at) = (String::with_capacity(self.text.len() + 1024), 0);
        for (start, end, text) in edits {
            out.push_str(self.text.get(at..start)?);
            out.push_str(&self.line_ends(&text));
            at = end;
        }
        out.push_str(&self.text[at..]);
        // Lines that went from a last one without an end leave the end of the line before.
        if !self.text.ends_with('\n') && out.ends_with('\n') {
            out.pop();
            out.truncate(out.strip_suffix('\r').map_or(out.len(), str::len));
        }
        Some(out)
    }

    fn line_ends(&self, text: &str) -> String {
        if self.text.contains("\r\n") { text.replace('\n', "\r\n") } else { text.to_owned() }
    }

    /// The whole document in block style, behind the lines that come before it.
    fn anew(&self, root: &Node, new: &Value) -> String {
        let head = &self.text[..self.line_start(root.start)];
        let body = match new {
            Value::Object(map) => self.style.mapping(map, 0),
            other => flow(other),
        };
        let marker = if self.text[head.len()..].starts_with("---") { "---\n" } else { "" };
        format!("{head}{}", self.line_ends(&format!("{marker}{body}\n")))
    }
}

/// By what an item of a list is known when others come and go.
fn identity(value: &Value) -> &Value {
    value.get("containerPort").or_else(|| value.get("name")).unwrap_or(value)
}
