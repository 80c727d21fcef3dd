//! From the metadata that Rucio has of a file to labels that can be published.

use super::sidecar;
use dbb_events::{Did, Kind, Labels, Reason, Refusal, Sidecar};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What the file is to a Butler.
pub(super) const BUTLER: &str = "rubin_butler";
/// The description of its dataset.
pub(super) const SIDECAR: &str = "rubin_sidecar";

/// The labels in `metadata` of `did`: the two of Rubin, and those of `wanted`, as far as it has them.
///
/// A site understands what is given out here: one of the four kinds, or the integer 1 of before December 2024, with
/// the sidecar that the kind needs.
pub(super) fn labels(did: &Did, metadata: &Map<String, Value>, wanted: &[String]) -> Result<Labels, Refusal> {
    let refuse = |reason, detail| Err(Refusal { reason, detail });
    let mut labels = Labels::new();
    for name in wanted {
        if let Some(value) = present(metadata.get(name)) {
            labels.insert(name.as_str().into(), value.clone());
        }
    }
    let text = match present(metadata.get(SIDECAR)) {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(object @ Value::Object(_)) => Some(sidecar::text(object)),
        Some(other) => {
            let found = found(other);
            return refuse(
                Reason::BadSidecar,
                format!("`{SIDECAR}` of {did} is {found}, not a string"),
            );
        }
    };
    let Some(butler) = present(metadata.get(BUTLER)) else {
        return Ok(labels);
    };
    let described = text.as_deref().is_some_and(|text| !text.trim_ascii().is_empty());
    let kind = match butler {
        Value::String(word) => Kind::parse(word),
        Value::Number(number) if number.as_i64() == Some(1) && described => Some(Kind::DataProduct),
        _ => None,
    };
    let Some(kind) = kind else {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        let word: String = butler.to_string().chars().take(100).collect();
        return refuse(
            Reason::UnknownKind,
            format!("`{BUTLER}` of {did} is {word}, none of {kinds}"),
        );
    };
    if kind.needs_sidecar() {
        if !described {
            return refuse(
                Reason::BadSidecar,
                format!("{did} is a {kind} and has no `{SIDECAR}`"),
            );
        }
        if let Err(error) = Sidecar::parse(text.as_deref().unwrap_or_default()) {
            return refuse(Reason::BadSidecar, format!("`{SIDECAR}` of {did}: {error}"));
        }
    }
    labels.insert(BUTLER.into(), butler.clone());
    if let Some(text) = text {
        labels.insert(SIDECAR.into(), Value::String(text));
    }
    Ok(labels)
}

/// Null, and what older Python code wrote for it, is nothing. An empty sidecar is something: zips have it.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null() && value.as_str() != Some("None"))
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Shared by all files without labels.
pub(super) fn none() -> Arc<Labels> {
    Arc::default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const SIDE: &str = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument","detector","exposure"]},"dataId":{"dataId":{"instrument":"LSSTCam","detector":0,"exposure":2026040100001}},"run":"LSSTCam/raw/all"}"#;

    fn of(metadata: Value) -> Result<Labels, Refusal> {
        let Value::Object(metadata) = metadata else {
            unreachable!()
        };
        labels(&Did::new("raw", "x.fits"), &metadata, &["tract".into()])
    }

    fn refused(metadata: Value) -> (Reason, String) {
        let refusal = of(metadata).unwrap_err();
        (refusal.reason, refusal.detail)
    }

    #[test]
    fn what_rucio_register_sets_is_passed_on_as_it_came() {
        let found = of(json!({"rubin_butler": "raw_file", "rubin_sidecar": SIDE, "tract": 9813, "bytes": 5}))
            .unwrap();
        let wanted = json!({"rubin_butler": "raw_file", "rubin_sidecar": SIDE, "tract": 9813});
        assert_eq!(serde_json::to_value(&found).unwrap(), wanted);
        let zip = of(json!({"rubin_butler": "zip_file", "rubin_sidecar": ""})).unwrap();
        assert_eq!(
            serde_json::to_value(&zip).unwrap(),
            json!({"rubin_butler": "zip_file", "rubin_sidecar": ""})
        );
        let old = of(json!({"rubin_butler": 1, "rubin_sidecar": SIDE})).unwrap();
        assert_eq!(old["rubin_butler"], json!(1));
    }

    #[test]
    fn a_file_without_the_label_is_no_dataset() {
        for metadata in [
            json!({}),
            json!({"rubin_butler": null, "bytes": 5}),
            json!({"rubin_butler": "None"}),
        ] {
            assert_eq!(of(metadata).unwrap(), Labels::new());
        }
    }

    #[test]
    fn an_object_becomes_text() {
        let object: Value = serde_json::from_str(SIDE).unwrap();
        let found = of(json!({"rubin_butler": "raw_file", "rubin_sidecar": object})).unwrap();
        assert_eq!(found[SIDECAR], json!(SIDE));
    }

    #[test]
    fn what_no_site_understands_is_refused_with_did_and_field() {
        let unknown = |butler: Value| refused(json!({"rubin_butler": butler, "rubin_sidecar": SIDE}));
        let (reason, detail) = unknown(json!("rawfile"));
        assert_eq!(reason, Reason::UnknownKind);
        assert!(
            detail.starts_with("`rubin_butler` of raw:x.fits is \"rawfile\", none of dim_file"),
            "{detail}"
        );
        for butler in [json!(2), json!(true), json!(["raw_file"]), json!("1"), json!("")] {
            assert_eq!(unknown(butler).0, Reason::UnknownKind);
        }
        assert_eq!(refused(json!({"rubin_butler": 1})).0, Reason::UnknownKind);
        let sidecar = |sidecar: Value| refused(json!({"rubin_butler": "raw_file", "rubin_sidecar": sidecar}));
        for (value, wanted) in [
            (json!(null), "raw:x.fits is a raw_file and has no `rubin_sidecar`"),
            (json!(""), "raw:x.fits is a raw_file and has no `rubin_sidecar`"),
            (
                json!(5),
                "`rubin_sidecar` of raw:x.fits is a number, not a string",
            ),
            (json!("{}"), "`rubin_sidecar` of raw:x.fits: "),
            (json!("hello"), "`rubin_sidecar` of raw:x.fits: "),
            (json!({"id": "x"}), "`rubin_sidecar` of raw:x.fits: "),
        ] {
            let (reason, detail) = sidecar(value);
            assert_eq!(reason, Reason::BadSidecar);
            assert!(detail.starts_with(wanted), "{detail}");
        }
    }
}
