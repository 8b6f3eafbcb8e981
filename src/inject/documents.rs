//! A text of YAML documents or JSON objects, taken apart so that it can be put together again byte for byte.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::yaml::{self, Node};

/// A stretch of the text that holds one object, or none that we understand.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Blank, or not understood.
    Opaque,
    Yaml(Node),
    Json(Value),
}

/// Takes a text apart, and says what in it can't be understood.
pub(super) fn split(text: &str) -> (Vec<Document<'_>>, Vec<String>) {
    let (mut documents, mut notes) = (Vec::new(), Vec::new());
    let mut line = 1;
    for chunk in chunks(text) {
        match json(chunk) {
            Some(objects) => documents.extend(objects),
            None => documents.push(match yaml::read(chunk, line) {
                Ok(Some(node)) => Document { text: chunk, source: Source::Yaml(node) },
                Ok(None) => Document { text: chunk, source: Source::Opaque },
                Err(error) => {
                    notes.push(format!("the document from line {line} is left as it is: it is not YAML that can be read ({error})"));
                    Document { text: chunk, source: Source::Opaque }
                }
            }),
        }
        line += chunk.matches('\n').count();
    }
    (documents, notes)
}

/// Cut before each `---`.
fn chunks(text: &str) -> Vec<&str> {
    let mut cuts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let marks = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        // Directives belong to what comes behind the mark.
        if marks && at > 0 && !only_directives(&text[cuts[cuts.len() - 1]..at]) {
            cuts.push(at);
        }
        at += line.len();
    }
    cuts.push(text.len());
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).filter(|chunk| !chunk.is_empty()).collect()
}

fn only_directives(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).peekable();
    lines.peek().is_some() && lines.all(|line| line.starts_with('%'))
}

/// One or many JSON objects; `None` when it is something else.
fn json(chunk: &str) -> Option<Vec<Document<'_>>> {
    let head = match chunk.strip_prefix("---") {
        Some(rest) => 3 + rest.find('\n')? + 1,
        None => 0,
    };
    if !chunk[..head].trim().trim_start_matches('-').is_empty()
        || !chunk[head..].trim_start().starts_with('{')
    {
        return None;
    }
    let mut objects = serde_json::Deserializer::from_str(&chunk[head..]).into_iter::<Value>();
    let mut documents = Vec::new();
    let mut at = 0;
    while let Some(object) = objects.next() {
        let end = head + objects.byte_offset();
        documents.push(Document { text: &chunk[at..end], source: Source::Json(object.ok()?) });
        at = end;
    }
    documents.push(Document { text: &chunk[at..], source: Source::Opaque });
    Some(documents)
}

impl Document<'_> {
    /// What it means.
    pub(super) fn value(&self) -> Option<&Value> {
        match &self.source {
            Source::Opaque => None,
            Source::Yaml(node) => Some(&node.value),
            Source::Json(value) => Some(value),
        }
    }

    /// Its text with another meaning; the same bytes when it means the same.
    pub(super) fn with(&self, new: &Value) -> String {
        match &self.source {
            Source::Yaml(node) if node.value != *new => yaml::rewrite(self.text, node, new),
            Source::Json(value) if value != new => rewrite_json(self.text, new),
            _ => self.text.to_owned(),
        }
    }

    /// Its text as it is.
    pub(super) fn text(&self) -> &str {
        self.text
    }
}

/// On one line if it was, else indented as it was.
fn rewrite_json(text: &str, new: &Value) -> String {
    let start = text.find('{').unwrap_or(0);
    let (head, body) = text.split_at(start);
    let indent = body
        .split_once('\n')
        .map(|(_, rest)| &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()]);
    let written = match indent {
        None => new.to_string(),
        Some(indent) => {
            let mut out = Vec::new();
            let mut serializer =
                Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(indent.as_bytes()));
            let written = new.serialize(&mut serializer).is_ok();
            if written { String::from_utf8_lossy(&out).into_owned() } else { new.to_string() }
        }
    };
    let written = if body.contains("\r\n") { written.replace('\n', "\r\n") } else { written };
    format!("{head}{written}")
}
