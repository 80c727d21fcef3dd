//! A body as the JSON parser leaves it: the fields that are used, not yet judged.
//!
//! It works with any serde parser, so that `bench/benches/decode.rs` can compare them.

use crate::{
    DecodeError, Payload,
    scalar::{Key, Scalar, fill},
};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// The envelope and the payload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wire<'a> {
    /// The type, in whatever case.
    pub event_type: Option<Cow<'a, str>>,
    /// When the message row was made, as text.
    pub created_at: Option<Cow<'a, str>>,
    /// The message's own id, which only Elastic bodies and captures of 2023 have.
    pub id: Option<Cow<'a, str>>,
    /// The payload; empty where there is none.
    pub payload: Payload<'a>,
    /// The first field of a wrong type.
    pub wrong: Option<DecodeError>,
}

impl<'de> Deserialize<'de> for Wire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WireVisitor)
    }
}

impl Wire<'_> {
    fn not_an_object(found: &'static str) -> Self {
        Self {
            wrong: Some(DecodeError::NotAnObject { found }),
            ..Self::default()
        }
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wire = Wire::default();
        let (mut fields, mut action) = (0usize, false);
        while let Some(Key(key)) = map.next_key()? {
            fields += 1;
            let wrong = &mut wire.wrong;
            match key.as_ref() {
                "event_type" => fill(&mut wire.event_type, map.next_value()?, "event_type", wrong),
                "created_at" => fill(&mut wire.created_at, map.next_value()?, "created_at", wrong),
                "id" => fill(&mut wire.id, map.next_value()?, "id", wrong),
                "payload" => map.next_value_seed(PayloadSeed {
                    payload: &mut wire.payload,
                    wrong,
                })?,
                "index" | "create" => action = matches!(map.next_value()?, Scalar::Object),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if action && fields == 1 {
            wire.wrong = Some(DecodeError::BulkAction);
        }
        Ok(wire)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Wire::not_an_object(Scalar::Array.found()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Wire::not_an_object("a string"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Wire::not_an_object(Scalar::Null.found()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Wire::not_an_object(Scalar::Bool.found()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Wire::not_an_object("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Wire::not_an_object("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Wire::not_an_object("a number"))
    }
}

/// Reads `payload` in place: an object, null, or the word that stands for one too long for its column.
struct PayloadSeed<'p, 'a> {
    payload: &'p mut Payload<'a>,
    wrong: &'p mut Option<DecodeError>,
}

impl PayloadSeed<'_, '_> {
    fn wrong<E>(self, found: &'static str) -> Result<(), E> {
        self.wrong.get_or_insert(DecodeError::WrongType {
            field: "payload",
            found,
            wanted: "an object",
        });
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for PayloadSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PayloadSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a payload")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.payload.read(map, self.wrong)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match text {
            "nolimit" | "None" => Ok(()),
            _ => self.wrong("a string"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.wrong(Scalar::Array.found())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.wrong(Scalar::Bool.found())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.wrong("a number")
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.wrong("a number")
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.wrong("a number")
    }
}
