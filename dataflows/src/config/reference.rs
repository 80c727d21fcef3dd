//! The JSON Schema of a configuration, and the reference that is written from it.

use super::Config;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The JSON Schema of a native configuration file.
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// The reference of all keys, in Markdown: `docs/configuration.md`.
pub fn markdown() -> String {
    let schema = schema();
    let mut page = INTRODUCTION.to_owned();
    let writer = Writer {
        definitions: schema.get("$defs").and_then(Value::as_object),
    };
    writer.keys(&mut page, "", &schema);
    page
}

const INTRODUCTION: &str = include_str!("reference.md");

struct Writer<'s> {
    definitions: Option<&'s Map<String, Value>>,
}

impl<'s> Writer<'s> {
    /// The table of the keys of `schema`, then a section for each key that holds keys itself.
    fn keys(&self, page: &mut String, path: &str, schema: &'s Value) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let required: Vec<_> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        let mut deeper = Vec::new();
        for (key, property) in properties {
            let target = self.resolve(property);
            let default = match property.get("default") {
                Some(value) if !required.contains(&key.as_str()) && !is_section(value) => code(value),
                _ if required.contains(&key.as_str()) => "required".into(),
                _ => String::new(),
            };
            let meaning = text(property).or_else(|| text(target)).unwrap_or_default();
            let meaning = cell(&format!("{meaning}{}", self.words(target)));
            // A string cannot fail to take more.
            let _ = writeln!(
                page,
                "| `{key}` | {} | {default} | {meaning} |",
                self.kind(target)
            );
            if let Some((suffix, inner)) = self.inner(target) {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                deeper.push((
                    format!("{path}{suffix}"),
                    inner,
                    text(property).or_else(|| text(inner)),
                ));
            }
        }
        for (path, inner, meaning) in deeper {
            let _ = write!(page, "\n## `{path}`\n\n");
            if let Some(meaning) = meaning {
                let _ = write!(page, "{meaning}\n\n");
            }
            self.keys(page, &path, inner);
        }
    }

    /// What a `$ref`, or the one alternative that is not null, stands for.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or(name);
            return self
                .definitions
                .and_then(|d| d.get(name))
                .map_or(schema, |s| self.resolve(s));
        }
        let other = |s: &&Value| s.get("type").and_then(Value::as_str) != Some("null");
        match schema.get("anyOf").and_then(Value::as_array) {
            Some(alternatives) if alternatives.len() == 2 => alternatives
                .iter()
                .find(other)
                .map_or(schema, |s| self.resolve(s)),
            _ => schema,
        }
    }

    /// The keys inside a value, with what a path needs to reach them: nothing, `[]` or `.<name>`.
    fn inner(&self, schema: &'s Value) -> Option<(&'static str, &'s Value)> {
        let with_keys = |s: &'s Value| s.get("properties").is_some().then_some(s);
        if let Some(found) = with_keys(schema) {
            return Some(("", found));
        }
        if let Some(items) = schema.get("items") {
            return with_keys(self.resolve(items)).map(|found| ("[]", found));
        }
        let values = schema.get("additionalProperties").filter(|v| v.is_object())?;
        with_keys(self.resolve(values)).map(|found| (".<name>", found))
    }

    /// The type, in a word or two.
    fn kind(&self, schema: &Value) -> String {
        if schema.get("enum").is_some() || schema.get("oneOf").is_some() {
            return "word".into();
        }
        let types: Vec<_> = match schema.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        match types.iter().find(|t| **t != "null") {
            Some(&"integer") => "whole number".into(),
            Some(&"boolean") => "true or false".into(),
            Some(&"array") => "list".into(),
            Some(&"object") if schema.get("properties").is_some() => "section".into(),
            Some(&"object") => "mapping".into(),
            Some(&"string") => "text".into(),
            Some(other) => (*other).into(),
            None => "value".into(),
        }
    }

    /// The words that may be written, each with its meaning.
    fn words(&self, schema: &Value) -> String {
        let mut words = String::new();
        if let Some(all) = schema.get("enum").and_then(Value::as_array) {
            let all: Vec<_> = all.iter().map(code).collect();
            let _ = write!(words, " One of {}.", all.join(", "));
        }
        for word in schema
            .get("oneOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let meaning = text(word).unwrap_or_default();
            for name in word
                .get("const")
                .into_iter()
                .chain(word["enum"].as_array().into_iter().flatten())
            {
                let _ = write!(words, " {}: {meaning}", code(name));
            }
        }
        words
    }
}

/// True for the default of a section or an empty list: its own table says it better.
fn is_section(value: &Value) -> bool {
    match value {
        Value::Object(_) | Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn text(schema: &Value) -> Option<String> {
    schema
        .get("description")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// Text that fits a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
