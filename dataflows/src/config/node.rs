//! A YAML document as a tree that knows where each of its values was written.
//!
//! ```text
//!   text --> tree of nodes, each with its origin (file and line, variable, --set) --> `typed`
//! ```
//!
//! Overrides are applied to this tree and types come after, so that a wrong value is reported with the
//! place it came from, whichever that was.

use super::problem::{ConfigError, Origin, Problem};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::{fmt, sync::Arc};

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// What YAML can say.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: `~`, `null`, or no value after the colon.
    Null,
    /// `true` or `false`; `yes` and `no` are text.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub at: Origin,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The document in `text`; `origin_of` makes the origin of a line and column in it.
    pub fn parse(text: &str, origin_of: impl Fn(u64, u64) -> Origin) -> Result<Node, ConfigError> {
        // `strict_booleans`: a scope called `no` is no boolean.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        if text.trim().is_empty() {
            return Ok(Node {
                value: Value::Map(Vec::new()),
                origin: origin_of(1, 1),
            });
        }
        match serde_saphyr::from_str_with_options::<Raw>(text, options) {
            Ok(raw) => Ok(raw.locate(&origin_of)),
            Err(error) => {
                let bare = error.without_snippet();
                let (line, column) = bare.location().map_or((1, 1), |at| (at.line(), at.column()));
                let message = bare.to_string();
                // The library repeats the place at the end of its sentence.
                let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
                Err(Problem::new("", origin_of(line, column), format!("not valid YAML: {message}")).into())
            }
        }
    }

    /// A node of text.
    pub fn text(text: impl Into<String>, origin: &Origin) -> Self {
        Self {
            value: Value::Text(text.into()),
            origin: origin.clone(),
        }
    }

    /// An empty mapping.
    pub fn map(origin: &Origin) -> Self {
        Self {
            value: Value::Map(Vec::new()),
            origin: origin.clone(),
        }
    }

    /// A list of `nodes`.
    pub fn list(nodes: Vec<Node>, origin: &Origin) -> Self {
        Self {
            value: Value::List(nodes),
            origin: origin.clone(),
        }
    }

    /// The same with `key: node` in it; only for mappings.
    #[must_use]
    pub fn with(mut self, key: &str, node: Node) -> Self {
        if let Value::Map(entries) = &mut self.value {
            entries.push(Entry {
                key: key.into(),
                at: node.origin.clone(),
                node,
            });
        }
        self
    }

    /// The value under `key`; `None` if there is none, or if this is no mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Where the value at `path` (`routes[0].rse`) was written, or the nearest value around it.
    pub fn origin_at(&self, path: &str) -> Origin {
        let mut node = self;
        let mut origin = &self.origin;
        let mut rest = path;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if let Some((index, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                let (Value::List(nodes), Ok(index)) = (&node.value, index.parse::<usize>()) else {
                    break;
                };
                let Some(next) = nodes.get(index) else { break };
                (node, origin, rest) = (next, &next.origin, after);
                continue;
            }
            // Names may hold dots: the longest key of the mapping that the path begins with.
            let entries = node.entries().iter();
            let found = entries
                .filter(|e| is_step(rest, &e.key))
                .max_by_key(|e| e.key.len());
            let Some(entry) = found else { break };
            (node, origin, rest) = (&entry.node, &entry.at, &rest[entry.key.len()..]);
        }
        origin.clone()
    }

    /// Takes the entry at `path` out, where it is a key of a mapping.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        fn walk(node: &mut Node, rest: &str) -> bool {
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            if let Some((index, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                let Value::List(nodes) = &mut node.value else {
                    return false;
                };
                return index
                    .parse()
                    .ok()
                    .and_then(|i: usize| nodes.get_mut(i))
                    .is_some_and(|n| walk(n, after));
            }
            let Value::Map(entries) = &mut node.value else {
                return false;
            };
            if let Some(at) = entries.iter().position(|e| e.key == rest) {
                entries.remove(at);
                return true;
            }
            let found = entries
                .iter_mut()
                .filter(|e| is_step(rest, &e.key))
                .max_by_key(|e| e.key.len());
            found.is_some_and(|entry| walk(&mut entry.node, &rest[entry.key.len()..]))
        }
        walk(self, path)
    }
}

/// True when `path` begins with the whole step `key`.
fn is_step(path: &str, key: &str) -> bool {
    path.strip_prefix(key)
        .is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
}

impl Value {
    /// What it is, for an error message: `the text "abc"`, `a list`.
    pub fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("`{b}`"),
            Value::Int(n) => format!("the number {n}"),
            Value::Float(n) => format!("the number {n}"),
            Value::Text(text) => format!("the text \"{text}\""),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

/// The tree as the YAML library hands it over.
struct Raw(Spanned<RawValue>);

enum RawValue {
    Scalar(Value),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn locate(self, origin_of: &impl Fn(u64, u64) -> Origin) -> Node {
        let at = self.0.referenced;
        let value = match self.0.value {
            RawValue::Scalar(value) => value,
            RawValue::List(nodes) => Value::List(nodes.into_iter().map(|n| n.locate(origin_of)).collect()),
            RawValue::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| {
                        let at = origin_of(key.referenced.line(), key.referenced.column());
                        Entry {
                            key: key.value,
                            at,
                            node: node.locate(origin_of),
                        }
                    })
                    .collect(),
            ),
        };
        Node {
            value,
            origin: origin_of(at.line(), at.column()),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::<RawValue>::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<RawValue, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Int(value.into())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Int(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(RawValue::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}

/// The origins of the lines of `file`.
pub fn in_file(file: &str) -> impl Fn(u64, u64) -> Origin {
    let file: Arc<str> = file.into();
    move |line, column| Origin::File {
        file: file.clone(),
        line,
        column,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Node {
        Node::parse(text, in_file("site.yaml")).unwrap()
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let node = parse("a:\n  b: [1, x]\nc.d: true\n");
        assert_eq!(node.origin_at("a.b").to_string(), "site.yaml:2:3");
        assert_eq!(node.origin_at("a.b[1]").to_string(), "site.yaml:2:10");
        assert_eq!(node.origin_at("c.d").to_string(), "site.yaml:3:1");
    }

    #[test]
    fn a_path_that_is_not_there_leads_to_what_is_around_it() {
        let node = parse("a:\n  b: 1\n");
        assert_eq!(node.origin_at("a.missing.deeper").to_string(), "site.yaml:1:1");
    }

    #[test]
    fn a_scope_called_no_is_text() {
        assert_eq!(
            parse("scope: no").get("scope").unwrap().value,
            Value::Text("no".into())
        );
    }

    #[test]
    fn an_anchor_is_expanded() {
        let node = parse("a: &x {k: 1}\nb: *x\n");
        assert_eq!(node.get("b").unwrap().get("k").unwrap().value, Value::Int(1));
    }

    #[test]
    fn broken_yaml_names_the_line() {
        let error = Node::parse("a: 1\nb: [1,\nc: 2", in_file("site.yaml"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "site.yaml:2:4: not valid YAML: unclosed bracket '['");
    }

    #[test]
    fn a_key_written_twice_is_an_error() {
        let error = Node::parse("a: 1\na: 2\n", in_file("site.yaml"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("site.yaml:2:1"), "{error}");
    }
}
