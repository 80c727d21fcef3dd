//! What a document says of one file, and of many.
//!
//! ```text
//!   one file:   DatasetRef                or   {rubin_butler, rubin_sidecar: DatasetRef or its text, label: ...}
//!   a folder:   {NAME: one, NAME: one}    or   [{file: NAME, and the same as for one}, ...]
//! ```

use super::super::{
    DocumentSettings,
    labels::{self, BUTLER, SIDECAR},
    sidecar,
};
use dbb_events::{Did, Kind, Labels};
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};

/// The key of an entry in a list that names the file.
const FILE: &str = "file";

/// The labels that `entry` gives to `did`.
pub(super) fn labels(
    did: &Did,
    mut entry: Map<String, Value>,
    settings: &DocumentSettings,
    wanted: &[String],
) -> Result<Arc<Labels>, String> {
    let described = entry.contains_key(BUTLER) || entry.contains_key(SIDECAR);
    let metadata = if described {
        if let Some(object @ Value::Object(_)) = entry.get(SIDECAR) {
            let text = sidecar::text(object);
            entry.insert(SIDECAR.into(), text.into());
        }
        if !entry.contains_key(BUTLER) {
            let kind = kind(
                entry.get(SIDECAR).and_then(Value::as_str).unwrap_or_default(),
                settings,
            );
            entry.insert(BUTLER.into(), kind.as_str().into());
        }
        entry
    } else {
        let text = sidecar::text(&Value::Object(entry));
        let kind = kind(&text, settings).as_str();
        [
            (BUTLER.to_owned(), kind.into()),
            (SIDECAR.to_owned(), text.into()),
        ]
        .into_iter()
        .collect()
    };
    labels::labels(did, &metadata, wanted)
        .map(Arc::new)
        .map_err(|refusal| refusal.detail)
}

/// What the dataset is, by its type.
fn kind(sidecar: &str, settings: &DocumentSettings) -> Kind {
    let sidecar: Option<Value> = serde_json::from_str(sidecar).ok();
    let dataset_type = sidecar
        .as_ref()
        .and_then(|sidecar| sidecar.pointer("/datasetType/name")?.as_str());
    match dataset_type.is_some_and(|name| settings.raw_dataset_types.iter().any(|raw| raw == name)) {
        true => Kind::RawFile,
        false => Kind::DataProduct,
    }
}

/// The one entry of a document of one file.
pub(super) fn one(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(entry) if is_export(&entry) => Err("it is a Butler export, not a sidecar".into()),
        Value::Object(entry) => Ok(entry),
        _ => Err("it is not a mapping".into()),
    }
}

/// The entries of a document of a folder, by file name, and what is wrong with those that have none.
pub(super) fn many(value: Value) -> Result<(HashMap<String, Value>, Vec<String>), String> {
    let mut entries = HashMap::new();
    let mut wrong = Vec::new();
    match value {
        Value::Object(map) if is_export(&map) => return Err("it is a Butler export, not sidecars".into()),
        Value::Object(map) => entries.extend(map),
        Value::Array(list) => {
            for (n, mut entry) in list.into_iter().enumerate() {
                let name = entry.as_object_mut().and_then(|entry| entry.remove(FILE));
                match name {
                    Some(Value::String(name)) if !entries.contains_key(&name) => {
                        entries.insert(name, entry);
                    }
                    Some(Value::String(name)) => wrong.push(format!("entry {n} names `{name}` again")),
                    Some(_) => wrong.push(format!("`{FILE}` of entry {n} is not a string")),
                    None => wrong.push(format!("entry {n} has no `{FILE}`")),
                }
            }
        }
        _ => return Err("it is neither a mapping nor a list".into()),
    }
    Ok((entries, wrong))
}

fn is_export(map: &Map<String, Value>) -> bool {
    map.contains_key("data") && (map.contains_key("universe_version") || map.contains_key("description"))
}
