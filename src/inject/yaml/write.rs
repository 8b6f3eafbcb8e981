//! New parts of a document, in the block style that `kubectl` and people write.

use serde_json::{Map, Value};

use super::scalar;

/// The habits of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// The dashes of a list stand under its key, or two to the right.
    pub(super) indented_lists: bool,
}

impl Style {
    /// What comes behind `key:` or a dash: one line, or more with `indent` blanks before each.
    /// `column` is that of the key or of the dash.
    pub(super) fn value(self, value: &Value, column: usize, behind_dash: bool) -> String {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let lines = self.mapping(map, column + 2);
                if behind_dash { format!(" {}", lines.trim_start()) } else { format!("\n{lines}") }
            }
            Value::Array(items) if !items.is_empty() && !is_short(items) => {
                let indent = if behind_dash || self.indented_lists { column + 2 } else { column };
                let lines = self.sequence(items, indent);
                if behind_dash { format!(" {}", lines.trim_start()) } else { format!("\n{lines}") }
            }
            Value::String(text) if is_literal(text) => literal(text, column + 2),
            list @ Value::Array(_) => format!(" {}", flow(list)),
            other => format!(" {}", scalar::write(other)),
        }
    }

    /// The lines of a mapping, without the last line's end.
    pub(super) fn mapping(self, map: &Map<String, Value>, indent: usize) -> String {
        let lines: Vec<String> = map.iter().map(|(key, value)| self.entry(key, value, indent)).collect();
        lines.join("\n")
    }

    /// The lines of one key with its value.
    pub(super) fn entry(self, key: &str, value: &Value, indent: usize) -> String {
        format!("{:indent$}{}:{}", "", scalar::string(key), self.value(value, indent, false))
    }

    /// The lines of a list.
    fn sequence(self, items: &[Value], indent: usize) -> String {
        let lines: Vec<String> = items.iter().map(|item| self.item(item, indent)).collect();
        lines.join("\n")
    }

    /// The lines of one item with its dash.
    pub(super) fn item(self, item: &Value, indent: usize) -> String {
        format!("{:indent$}-{}", "", self.value(item, indent, true))
    }
}

/// On one line, between braces and brackets.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}: {}", scalar::write_in_flow(&Value::from(key.as_str())), flow(value))
            };
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => scalar::write_in_flow(other),
    }
}

/// Words that fit on a line, as people write commands.
fn is_short(items: &[Value]) -> bool {
    let words = items.iter().all(|item| item.as_str().is_some_and(|text| !text.contains('\n')));
    words && flow(&Value::Array(items.to_vec())).len() <= 100
}

/// Lines that can be written as they are: YAML adds and takes nothing.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let fits =
        |line: &str| !line.ends_with([' ', '\t']) && line.chars().all(|c| matches!(c, ' '..='~' | '\t'));
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && body.split('\n').all(fits)
}

fn literal(text: &str, indent: usize) -> String {
    let (mark, body) = text.strip_suffix('\n').map_or(("|-", text), |body| ("|", body));
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{:indent$}{line}", "") };
    format!(" {mark}\n{}", body.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}
