//! A document with the places of its parts.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::scalar;

/// What aliases may add up to: a few lines could stand for more than fits into memory.
const MAX_NODES: usize = 200_000;

/// A part of a document: where it stands and what it means.
#[derive(Debug)]
pub(in crate::inject) struct Node {
    /// Of the text, in bytes: for block collections up to the end of the last part.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Characters before it on its line.
    pub(super) column: usize,
    pub(in crate::inject) value: Value,
    pub(super) kind: Kind,
}

/// How it is written.
#[derive(Debug)]
pub(super) enum Kind {
    /// A scalar, an alias, or something that can only be changed as a whole.
    Leaf,
    /// Between brackets or braces.
    Flow,
    /// Lines with dashes.
    Sequence(Vec<Node>),
    /// Lines with keys.
    Mapping(Vec<Entry>),
}

/// A key in a block mapping with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) start: usize,
    pub(super) column: usize,
    /// Behind the colon.
    pub(super) colon: usize,
    pub(super) value: Node,
}

/// Reads one document; `None` when it holds nothing.
///
/// # Errors
/// What the text has that can't be understood, with its line, where `first` is the text's first.
pub(in crate::inject) fn read(text: &str, first: usize) -> Result<Option<Node>, String> {
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        events.push(
            event.map_err(|error| format!("line {}: {}", first + error.marker().line() - 1, error.info()))?,
        );
    }
    let mut reader = Reader { text, first, events: events.into_iter(), anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    while let Some((event, span)) = reader.events.next() {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event if root.is_none() => root = Some(reader.node(event, span)?),
            _ => return Err(reader.at(span, "a second document without --- before it")),
        }
    }
    Ok(root.filter(|root| !root.value.is_null()))
}

struct Reader<'a> {
    text: &'a str,
    first: usize,
    events: std::vec::IntoIter<(Event<'a>, Span)>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn at(&self, span: Span, what: &str) -> String {
        format!("line {}: {what}", self.first + span.start.line() - 1)
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, String> {
        let range = span.byte_range().ok_or("no offsets")?;
        let nodes_before = self.nodes;
        self.count(1, span)?;
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let (value, size) =
                    self.anchors.get(&id).cloned().ok_or_else(|| self.at(span, "an alias of itself"))?;
                self.count(size, span)?;
                (0, Node::new(&range, span, value, Kind::Leaf))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value =
                    scalar_value(&text, style, tag.as_deref()).map_err(|what| self.at(span, &what))?;
                (anchor, Node::new(&range, span, value, Kind::Leaf))
            }
            Event::SequenceStart(style, anchor, tag) => {
                plain_tag(tag.as_deref(), "seq").map_err(|what| self.at(span, &what))?;
                (anchor, self.sequence(style, range, span)?)
            }
            Event::MappingStart(style, anchor, tag) => {
                plain_tag(tag.as_deref(), "map").map_err(|what| self.at(span, &what))?;
                (anchor, self.mapping(style, range, span)?)
            }
            _ => return Err(self.at(span, "something that is not YAML")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.value.clone(), self.nodes - nodes_before));
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            Err(self.at(span, "more than can be true of a manifest"))
        } else {
            Ok(())
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        self.events.next().ok_or_else(|| "it ends too early".to_owned())
    }

    fn sequence(
        &mut self,
        style: StructureStyle,
        range: std::ops::Range<usize>,
        span: Span,
    ) -> Result<Node, String> {
        let mut items = Vec::new();
        loop {
            let (event, item_span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let value = Value::Array(items.iter().map(|item: &Node| item.value.clone()).collect());
                let last = items.last().map(|item| item.end);
                let kind = if style == StructureStyle::Flow { Kind::Flow } else { Kind::Sequence(items) };
                return Ok(Node::collection(range, item_span, span, value, kind, last));
            }
            items.push(self.node(event, item_span)?);
        }
    }

    fn mapping(
        &mut self,
        style: StructureStyle,
        range: std::ops::Range<usize>,
        span: Span,
    ) -> Result<Node, String> {
        let (mut entries, mut value, mut merged) = (Vec::new(), Map::new(), Vec::new());
        let mut patchable = style == StructureStyle::Block;
        loop {
            let (event, key_span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                patchable &= merged.is_empty();
                for (name, inherited) in merged.into_iter().flatten() {
                    value.entry(name).or_insert(inherited);
                }
                let last = entries.last().map(|entry: &Entry| entry.value.end);
                let kind = match style {
                    StructureStyle::Flow => Kind::Flow,
                    StructureStyle::Block if patchable => Kind::Mapping(entries),
                    StructureStyle::Block => Kind::Leaf,
                };
                return Ok(Node::collection(range, key_span, span, Value::Object(value), kind, last));
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, key_span)?;
            let (event, value_span) = self.next()?;
            let mut child = self.node(event, value_span)?;
            if merge {
                merged.push(inherited(child.value).ok_or_else(|| self.at(value_span, "<< needs a mapping"))?);
                continue;
            }
            let name = match key.value {
                Value::String(name) => name,
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(self.at(key_span, "a key that is no word"));
                }
                scalar => scalar.to_string(),
            };
            if value.insert(name.clone(), child.value.clone()).is_some() {
                let ask = if key_span.start.col() == 0 { "; is a --- missing before it?" } else { "" };
                return Err(self.at(key_span, &format!("the key {name} for the second time{ask}")));
            }
            let between = &self.text[key.end..];
            let blanks = between.len() - between.trim_start_matches(' ').len();
            let colon = key.end + blanks + 1;
            patchable &= between[blanks..].starts_with(':');
            // A value that is not there has no place either.
            if child.end < colon {
                (child.start, child.end) = (colon, colon);
            }
            entries.push(Entry { name, start: key.start, column: key.column, colon, value: child });
        }
    }
}

impl Node {
    fn new(range: &std::ops::Range<usize>, span: Span, value: Value, kind: Kind) -> Self {
        Self { start: range.start, end: range.end, column: span.start.col(), value, kind }
    }

    fn collection(
        range: std::ops::Range<usize>,
        end: Span,
        span: Span,
        value: Value,
        kind: Kind,
        last: Option<usize>,
    ) -> Self {
        let closed = end.byte_range().map_or(range.end, |end| end.end);
        let end = if matches!(kind, Kind::Flow) { closed } else { last.unwrap_or(range.end) };
        Self::new(&(range.start..end), span, value, kind)
    }
}

/// What `<<` brings in: a mapping, or several of which the first counts most.
fn inherited(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::Array(items) => {
            let mut all = Map::new();
            for item in items {
                let Value::Object(map) = item else { return None };
                for (name, value) in map {
                    all.entry(name).or_insert(value);
                }
            }
            Some(all)
        }
        _ => None,
    }
}

fn plain_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(expected) => Err("a tag of its own".to_owned()),
        _ => Ok(()),
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let resolved = || scalar::resolve(text).ok_or_else(|| format!("{text} is no number that JSON has"));
    match tag.map(|tag| tag.core_suffix()) {
        None if style == ScalarStyle::Plain => resolved(),
        None | Some(Some("str")) => Ok(text.into()),
        Some(Some("int" | "float" | "bool" | "null")) => resolved(),
        Some(_) => Err("a tag of its own".to_owned()),
    }
}
