//! A document as a value: JSON or YAML, within limits of size and depth.

use dbb_events::without_mark;
use serde_json::Value;
use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
    time::SystemTime,
};

/// The text of a document, and which version of it.
pub(super) struct Text {
    pub(super) text: String,
    pub(super) version: Version,
}

/// What changes when a document is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The version of the document at `path`; `None` where there is none.
pub(super) fn version(path: &Path, max_bytes: u64) -> Result<Option<Version>, String> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(wrong(path, &error)),
    };
    if !about.is_file() {
        return Err(wrong(path, &"it is no file"));
    }
    if about.len() > max_bytes {
        return Err(wrong(
            path,
            &format!("it has {} bytes, more than `documents.max_bytes`", about.len()),
        ));
    }
    Ok(Some(Version {
        bytes: about.len(),
        modified: about.modified().ok(),
    }))
}

/// Reads the document at `path`; `None` where there is none.
pub(super) fn text(path: &Path, max_bytes: u64) -> Result<Option<Text>, String> {
    let Some(version) = version(path, max_bytes)? else {
        return Ok(None);
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(max_bytes).read_to_string(&mut text))
        .map_err(|error| wrong(path, &error))?;
    Ok(Some(Text { text, version }))
}

/// What it says.
pub(super) fn value(path: &Path, text: &str, max_depth: usize) -> Result<Value, String> {
    let json = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let value = match json {
        true => serde_json::from_str(without_mark(text)).map_err(|error| wrong(path, &error))?,
        false => {
            yaml(without_mark(text), max_depth).map_err(|error| wrong(path, &error.without_snippet()))?
        }
    };
    match depth(&value) <= max_depth {
        true => Ok(value),
        false => Err(wrong(
            path,
            &format!("it is nested deeper than {max_depth} levels"),
        )),
    }
}

fn yaml(text: &str, max_depth: usize) -> Result<Value, serde_saphyr::Error> {
    // A node takes a byte at least; and references to others are of no use in a list of datasets.
    let budget = serde_saphyr::budget! {
        max_depth: max_depth,
        max_events: text.len() + 16,
        max_nodes: text.len() + 16,
        max_aliases: 0,
        max_anchors: 0,
    };
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(text, options)
}

/// Levels of nesting; parsers have bounded it already.
fn depth(value: &Value) -> usize {
    let deepest = |depths: &mut dyn Iterator<Item = usize>| 1 + depths.max().unwrap_or(0);
    match value {
        Value::Array(values) => deepest(&mut values.iter().map(depth)),
        Value::Object(map) => deepest(&mut map.values().map(depth)),
        _ => 0,
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("sidecar document `{}`: {error}", path.display())
}
