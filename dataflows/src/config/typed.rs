//! From the tree to the typed configuration, with the place of whatever does not fit.
//!
//! ```text
//!   tree of nodes --> serde --> T, or a problem: the path of the key, where it was written, the nearest known key
//! ```

use super::{
    node::{Entry, Node, Value},
    problem::{Origin, Problem, nearest},
};
use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use std::fmt;

/// Most unknown keys reported at once.
const MOST_UNKNOWN: usize = 20;

/// Reads a `T` out of `tree`; unknown keys are all reported, of other faults the first.
pub fn from_node<'de, T: Deserialize<'de>>(tree: &Node) -> Result<T, Vec<Problem>> {
    let mut tree = tree.clone();
    let mut problems = Vec::new();
    loop {
        match T::deserialize(Reader { node: &tree }) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(problems),
            Err(fault) => {
                let unknown = fault.unknown;
                let problem = fault.into_problem(&tree);
                // An unknown key is noted and taken out, so that the next one is seen too.
                let go_on = unknown && problems.len() < MOST_UNKNOWN && tree.remove(&problem.path);
                problems.push(problem);
                if !go_on {
                    return Err(problems);
                }
            }
        }
    }
}

/// A fault on its way up: each level it passes adds its step to the path.
#[derive(Debug)]
struct Fault {
    path: String,
    origin: Option<Origin>,
    message: String,
    hint: Option<String>,
    unknown: bool,
}

impl Fault {
    fn of(message: String) -> Self {
        Self {
            path: String::new(),
            origin: None,
            message,
            hint: None,
            unknown: false,
        }
    }

    /// The fault as seen one level up, where the step to it was `step`, written at `at`.
    fn under(mut self, step: &str, at: &Origin) -> Self {
        self.path = match self.path.as_str() {
            "" => step.to_owned(),
            path if path.starts_with('[') => format!("{step}{path}"),
            path => format!("{step}.{path}"),
        };
        self.origin.get_or_insert_with(|| at.clone());
        self
    }

    fn into_problem(self, tree: &Node) -> Problem {
        Problem {
            path: self.path,
            origin: self.origin.unwrap_or_else(|| tree.origin.clone()),
            message: self.message,
            hint: self.hint,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::of(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // `Reader::wrong` says what was found; this is for what slips by it.
        Self::of(format!("must be {}", wanted(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(format!("must be {}, not {found}", wanted(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::of("unknown key".into());
        fault.path = field.to_owned();
        fault.unknown = true;
        fault.hint = Some(match nearest(field, expected.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if expected.is_empty() => "nothing can be set here".into(),
            None => format!("known keys here: {}", expected.join(", ")),
        });
        fault
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::of(format!("`{variant}` is none of {}", expected.join(", ")));
        fault.hint = nearest(variant, expected.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        fault
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of(format!("`{field}` is missing"))
    }
}

/// What serde expects, in words for those who do not write Rust.
fn wanted(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        other if other.starts_with("struct ") => "a mapping of keys".into(),
        other => other.into(),
    }
}

/// A node that serde reads from.
#[derive(Clone, Copy)]
struct Reader<'n> {
    node: &'n Node,
}

impl Reader<'_> {
    /// The fault of a visitor that was offered this node, with what was found.
    fn wrong(self, mut fault: Fault) -> Fault {
        if fault.origin.is_none() && fault.path.is_empty() && fault.message.starts_with("must be ") {
            if !fault.message.contains(", not ") {
                fault.message = format!("{}, not {}", fault.message, self.node.value.describe());
            }
            let number = matches!(self.node.value, Value::Int(_) | Value::Float(_) | Value::Bool(_));
            if number && fault.message.contains("string") {
                fault.hint = Some("put it in quotes".into());
            }
        }
        fault.origin.get_or_insert_with(|| self.node.origin.clone());
        fault
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(n) => match (u64::try_from(*n), i64::try_from(*n)) {
                (Ok(n), _) => visitor.visit_u64(n),
                (_, Ok(n)) => visitor.visit_i64(n),
                _ => Err(Fault::of(format!("the number {n} is too large"))),
            },
            Value::Float(n) => visitor.visit_f64(*n),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(nodes) => visitor.visit_seq(Items { nodes, next: 0 }),
            Value::Map(entries) => visitor.visit_map(Fields { entries, next: 0 }),
        };
        // A missing field is the fault of the mapping; all others already know their place.
        read.map_err(|fault| self.wrong(fault))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let read = match &self.node.value {
            Value::Text(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            Value::Map(entries) if entries.len() == 1 => visitor.visit_enum(Variant { entry: &entries[0] }),
            other => Err(Fault::of(format!("must be a word, not {}", other.describe()))),
        };
        read.map_err(|fault| self.wrong(fault))
    }

    /// A section written without anything in it (`http:`) is a section of defaults.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor
                .visit_map(Fields {
                    entries: &[],
                    next: 0,
                })
                .map_err(|fault| self.wrong(fault)),
            Value::Map(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(Fault::of("must be a mapping of keys".into()))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'n> {
    nodes: &'n [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.nodes.get(self.next) else {
            return Ok(None);
        };
        let step = format!("[{}]", self.next);
        self.next += 1;
        seed.deserialize(Reader { node })
            .map(Some)
            .map_err(|fault| fault.under(&step, &node.origin))
    }
}

struct Fields<'n> {
    entries: &'n [Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.get(self.next) else {
            return Ok(None);
        };
        seed.deserialize(entry.key.as_str().into_deserializer())
            .map(Some)
            .map_err(|mut fault: Fault| {
                fault.origin = Some(entry.at.clone());
                fault
            })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.entries.get(self.next) else {
            return Err(Fault::of("a key without a value".into()));
        };
        self.next += 1;
        seed.deserialize(Reader { node: &entry.node })
            .map_err(|fault| fault.under(&entry.key, &entry.at))
    }
}

/// `{variant: content}`.
struct Variant<'n> {
    entry: &'n Entry,
}

impl<'de, 'n> EnumAccess<'de> for Variant<'n> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name = seed.deserialize(self.entry.key.as_str().into_deserializer())?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::of(format!("`{}` takes no value", self.entry.key)))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(Reader {
            node: &self.entry.node,
        })
        .map_err(|fault| fault.under(&self.entry.key, &self.entry.at))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_any(
            Reader {
                node: &self.entry.node,
            },
            visitor,
        )
        .map_err(|fault| fault.under(&self.entry.key, &self.entry.at))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.tuple_variant(0, visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::node::in_file;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        inner: Inner,
        list: Vec<Inner>,
        names: BTreeMap<String, Inner>,
        mode: Option<Mode>,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        max_datasets: u16,
        max_wait_ms: u64,
        name: String,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Direct,
        Auto,
    }

    fn problems(text: &str) -> Vec<String> {
        let node = Node::parse(text, in_file("s.yaml")).unwrap();
        let problems = from_node::<Outer>(&node).err().unwrap_or_default();
        let hint = |p: &Problem| p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        problems.iter().map(|p| format!("{p}{}", hint(p))).collect()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            problems("inner:\n  max_datsets: 3\n"),
            ["s.yaml:2:3: `inner.max_datsets`: unknown key (did you mean `max_datasets`?)"]
        );
    }

    #[test]
    fn all_unknown_keys_are_reported_at_once() {
        assert_eq!(
            problems("names:\n  a.b:\n    nam: x\nlist:\n  - {max_wait: 1}\nzzz: 1\n"),
            [
                "s.yaml:3:5: `names.a.b.nam`: unknown key (did you mean `name`?)",
                "s.yaml:5:6: `list[0].max_wait`: unknown key (did you mean `max_wait_ms`?)",
                "s.yaml:6:1: `zzz`: unknown key (known keys here: inner, list, names, mode)",
            ]
        );
    }

    #[test]
    fn a_wrong_type_says_what_is_wanted_and_what_was_found() {
        assert_eq!(
            problems("list:\n  - max_wait_ms: soon\n"),
            ["s.yaml:2:18: `list[0].max_wait_ms`: must be a whole number, 0 or more, not the text \"soon\""]
        );
        assert_eq!(
            problems("inner: {max_datasets: 70000}"),
            [
                "s.yaml:1:23: `inner.max_datasets`: must be a whole number from 0 to 65535, not integer `70000`"
            ]
        );
        assert_eq!(
            problems("inner: {name: 12}"),
            ["s.yaml:1:15: `inner.name`: must be a string, not the number 12 (put it in quotes)"]
        );
        assert_eq!(
            problems("mode: dierct"),
            ["s.yaml:1:7: `mode`: `dierct` is none of direct, auto (did you mean `direct`?)"]
        );
        assert_eq!(
            problems("- 1"),
            ["s.yaml:1:1: must be a mapping of keys, not a list"]
        );
    }

    #[test]
    fn an_empty_section_is_a_section_of_defaults() {
        assert_eq!(problems("inner:\nlist: []\n"), Vec::<String>::new());
    }
}
