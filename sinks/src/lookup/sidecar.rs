//! A DatasetRef as the one text that the Butler itself would write, whatever document it was read from.
//!
//! ```text
//!   {run, id, dataId, ...} in any order, from JSON or YAML --> {"id":...,"datasetType":...,"dataId":...,"run":...}
//! ```
//!
//! The Butler's order: fields of the DatasetRef, then, in a data id, its dataset type's dimensions followed by the
//! implied ones, which are in alphabetical order, as is everything inside dimension records. No space anywhere.

use serde_json::{Map, Value};

/// The text of `dataset`.
pub(super) fn text(dataset: &Value) -> String {
    let mut out = String::new();
    let Value::Object(map) = dataset else {
        write(dataset, &mut out);
        return out;
    };
    let dimensions: Vec<&str> = dataset
        .pointer("/datasetType/dimensions")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    object(
        map,
        &["id", "datasetType", "dataId", "run", "component"],
        &mut out,
        |key, value, out| match (key, value) {
            ("datasetType", Value::Object(map)) => {
                let order = [
                    "name",
                    "storageClass",
                    "dimensions",
                    "parentStorageClass",
                    "isCalibration",
                ];
                object(map, &order, out, |_, value, out| write(value, out));
            }
            ("dataId", Value::Object(map)) => object(map, &["dataId", "records"], out, |key, value, out| {
                match (key, value) {
                    ("dataId", Value::Object(map)) => {
                        object(map, &dimensions, out, |_, value, out| write(value, out));
                    }
                    _ => write(value, out),
                }
            }),
            _ => write(value, out),
        },
    );
    out
}

/// `map` with the keys of `first` in front, the others after them by name.
fn object(
    map: &Map<String, Value>,
    first: &[&str],
    out: &mut String,
    mut each: impl FnMut(&str, &Value, &mut String),
) {
    let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
    let place = |key: &str| first.iter().position(|&name| name == key).unwrap_or(first.len());
    keys.sort_unstable_by_key(|&key| (place(key), key));
    out.push('{');
    for (n, key) in keys.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write(&Value::from(key), out);
        out.push(':');
        each(key, &map[key], out);
    }
    out.push('}');
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => object(map, &[], out, |_, value, out| write(value, out)),
        Value::Array(values) => {
            out.push('[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whatever_the_order_in_the_document_the_text_is_that_of_the_butler() {
        let butlers = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument","detector","exposure"]},"dataId":{"dataId":{"instrument":"LSSTCam","detector":0,"exposure":2026040100001,"band":"r","day_obs":20260401,"group":"g \"1\" é","physical_filter":"r_57"}},"run":"LSSTCam/raw/all"}"#;
        let document = r#"{"run": "LSSTCam/raw/all", "dataId": {"dataId": {"physical_filter": "r_57", "group": "g \"1\" \u00e9",
            "day_obs": 20260401, "exposure": 2026040100001, "detector": 0, "band": "r", "instrument": "LSSTCam"}},
            "datasetType": {"dimensions": ["instrument", "detector", "exposure"], "storageClass": "Exposure", "name": "raw"},
            "id": "95fb898e-a577-5690-8e9c-b1d180f220b0"}"#;
        for json in [butlers, document] {
            assert_eq!(text(&serde_json::from_str(json).unwrap()), butlers);
        }
    }
}
