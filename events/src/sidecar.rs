//! The sidecar: the description of one Butler dataset that travels with its file.
//!
//! A serialised `DatasetRef`. It is read just enough to know which dataset it is; the Butler reads the rest.

use crate::{DecodeError, scalar::Scalar};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::{borrow::Cow, fmt};
use uuid::Uuid;

/// What a sidecar says, and its text for the Butler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar<'a> {
    /// The dataset's identity.
    pub uuid: Uuid,
    /// The name of its dataset type; `None` in the minimal form, which names the UUID alone.
    pub dataset_type: Option<Cow<'a, str>>,
    /// The RUN collection; `None` in the minimal form.
    pub run: Option<Cow<'a, str>>,
    /// The JSON that today's Butler accepts: the text as it came, unless it had the dimensions of 2023.
    pub json: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Option<Scalar<'a>>,
    #[serde(borrow, rename = "datasetType")]
    dataset_type: Option<WireType<'a>>,
    #[serde(rename = "dataId")]
    data_id: Option<IgnoredAny>,
    #[serde(borrow)]
    run: Option<Scalar<'a>>,
}

#[derive(Deserialize)]
struct WireType<'a> {
    #[serde(borrow)]
    name: Option<Scalar<'a>>,
    #[serde(borrow)]
    dimensions: Option<Scalar<'a>>,
}

impl<'a> Sidecar<'a> {
    /// Reads the JSON text of a sidecar.
    pub fn parse(json: &'a str) -> Result<Self, DecodeError> {
        let wire: Wire<'a> =
            serde_json::from_str(json).map_err(|error| bad(format!("is not a dataset: {error}")))?;
        let uuid = match text(wire.id, "id")? {
            Some(id) => {
                Uuid::try_parse(&id).map_err(|error| bad(format!("has an `id` that is no UUID: {error}")))?
            }
            None => return Err(bad("has no `id`")),
        };
        let run = text(wire.run, "run")?;
        let Some(dataset_type) = wire.dataset_type else {
            return match wire.data_id {
                Some(_) => Err(bad("has a `dataId` and no `datasetType`")),
                None => Ok(Self {
                    uuid,
                    dataset_type: None,
                    run,
                    json: Cow::Borrowed(json),
                }),
            };
        };
        if wire.data_id.is_none() {
            return Err(bad("has a `datasetType` and no `dataId`"));
        }
        if run.is_none() {
            return Err(bad("has no `run`"));
        }
        let name = text(dataset_type.name, "datasetType.name")?;
        if name.is_none() {
            return Err(bad("has no `datasetType.name`"));
        }
        let json = match dataset_type.dimensions {
            Some(Scalar::Object) => Cow::Owned(with_dimension_list(json)?),
            _ => Cow::Borrowed(json),
        };
        Ok(Self {
            uuid,
            dataset_type: name,
            run,
            json,
        })
    }
}

/// The same sidecar with `dimensions: {"names": [...]}`, as it was in 2023, replaced by the list.
fn with_dimension_list(json: &str) -> Result<String, DecodeError> {
    let mut value: Value =
        serde_json::from_str(json).map_err(|error| bad(format!("is not JSON: {error}")))?;
    if let Some(dimensions) = value.pointer_mut("/datasetType/dimensions") {
        match dimensions.get_mut("names").map(Value::take) {
            Some(names @ Value::Array(_)) => *dimensions = names,
            _ => {
                return Err(bad(
                    "has `datasetType.dimensions` that are neither a list nor `names`",
                ));
            }
        }
    }
    Ok(value.to_string())
}

fn text<'a>(value: Option<Scalar<'a>>, field: &str) -> Result<Option<Cow<'a, str>>, DecodeError> {
    match value {
        None | Some(Scalar::Null) => Ok(None),
        Some(Scalar::Text(text)) => Ok(Some(text)),
        Some(other) => Err(bad(format!(
            "has a `{field}` that is {}, not a string",
            other.found()
        ))),
    }
}

fn bad(detail: impl Into<String>) -> DecodeError {
    DecodeError::BadSidecar {
        detail: detail.into(),
    }
}

/// The field `rubin_sidecar`: text today, an object in captures of 2023.
pub(crate) enum SidecarText<'a> {
    Text(Option<Cow<'a, str>>),
    Wrong(&'static str),
}

impl<'de> Deserialize<'de> for SidecarText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = SidecarText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sidecar")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(SidecarText::Text(None))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(SidecarText::Text(present(text).then_some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(SidecarText::Text(
            present(text).then(|| Cow::Owned(text.to_owned())),
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let object = Value::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(SidecarText::Text(Some(Cow::Owned(object.to_string()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(SidecarText::Wrong("an array"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(SidecarText::Wrong("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(SidecarText::Wrong("an integer"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(SidecarText::Wrong("an integer"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(SidecarText::Wrong("a number with a fraction"))
    }
}

/// Zip and dimension files have an empty sidecar, and captures of 2023 write null as `None`.
fn present(text: &str) -> bool {
    !text.trim_ascii().is_empty() && text != "None"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FULL: &str = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument","detector","exposure"]},"dataId":{"dataId":{"instrument":"LSSTCam","detector":0,"exposure":2026040100001}},"run":"LSSTCam/raw/all"}"#;

    #[test]
    fn a_sidecar_of_today_is_passed_on_as_it_came() {
        let sidecar = Sidecar::parse(FULL).unwrap();
        assert_eq!(sidecar.uuid.to_string(), "95fb898e-a577-5690-8e9c-b1d180f220b0");
        assert_eq!(sidecar.dataset_type.as_deref(), Some("raw"));
        assert_eq!(sidecar.run.as_deref(), Some("LSSTCam/raw/all"));
        assert!(matches!(sidecar.json, Cow::Borrowed(FULL)));
    }

    #[test]
    fn the_dimensions_of_2023_become_a_list() {
        let old = FULL.replace(
            r#"["instrument","detector","exposure"]"#,
            r#"{"names":["instrument","detector","exposure"]}"#,
        );
        let sidecar = Sidecar::parse(&old).unwrap();
        let (new, wanted): (Value, Value) = (
            serde_json::from_str(&sidecar.json).unwrap(),
            serde_json::from_str(FULL).unwrap(),
        );
        assert_eq!(new, wanted);
    }

    #[test]
    fn the_minimal_form_names_a_uuid_alone() {
        let sidecar = Sidecar::parse(r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0"}"#).unwrap();
        assert_eq!((sidecar.dataset_type, sidecar.run), (None, None));
    }

    #[test]
    fn a_broken_sidecar_says_what_is_wrong() {
        for (sidecar, wanted) in [
            ("{", "is not a dataset"),
            ("[]", "is not a dataset"),
            ("{}", "has no `id`"),
            (r#"{"id":1}"#, "has a `id` that is an integer, not a string"),
            (r#"{"id":"x"}"#, "no UUID"),
            (&FULL.replace("dataId", "dataid"), "`datasetType` and no `dataId`"),
            (
                &FULL.replace("datasetType", "type"),
                "`dataId` and no `datasetType`",
            ),
            (&FULL.replace("\"run\"", "\"ran\""), "has no `run`"),
            (&FULL.replace("\"name\"", "\"nom\""), "has no `datasetType.name`"),
            (
                &FULL.replace(r#"["instrument","detector","exposure"]"#, "{}"),
                "neither a list",
            ),
        ] {
            let error = Sidecar::parse(sidecar).unwrap_err();
            assert!(error.to_string().contains(wanted), "{sidecar}: {error}");
            assert_eq!(error.reason(), crate::Reason::BadSidecar);
        }
    }
}
