//! One JSON value as an event's field: whatever its type, it is read, so that a wrong one can be named.

use crate::DecodeError;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// A value, borrowed from the buffer where it is text without escapes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool,
    Integer(i128),
    Real(f64),
    Text(Cow<'a, str>),
    Array,
    Object,
}

impl Scalar<'_> {
    /// What it is, with its article.
    pub(crate) fn found(&self) -> &'static str {
        match self {
            Scalar::Null => "null",
            Scalar::Bool => "a boolean",
            Scalar::Integer(_) => "an integer",
            Scalar::Real(_) => "a number with a fraction",
            Scalar::Text(_) => "a string",
            Scalar::Array => "an array",
            Scalar::Object => "an object",
        }
    }

    /// True for null and for the text that captures of 2023 have in its place.
    pub(crate) fn is_null(&self) -> bool {
        match self {
            Scalar::Null => true,
            Scalar::Text(text) => text == "None",
            _ => false,
        }
    }
}

/// A type that a field may have.
pub(crate) trait FromScalar<'a>: Sized {
    /// Its name, with its article.
    const WANTED: &'static str;

    /// The value as this type; `None` if it is another.
    fn from_scalar(value: Scalar<'a>) -> Option<Self>;
}

impl<'a> FromScalar<'a> for Cow<'a, str> {
    const WANTED: &'static str = "a string";

    fn from_scalar(value: Scalar<'a>) -> Option<Self> {
        match value {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> FromScalar<'a> for i64 {
    const WANTED: &'static str = "an integer";

    fn from_scalar(value: Scalar<'a>) -> Option<Self> {
        match value {
            Scalar::Integer(integer) => integer.try_into().ok(),
            // `close` has its sum of bytes as a float where Rucio runs on PostgreSQL.
            Scalar::Real(real) if real.fract() == 0.0 && real.abs() < 2f64.powi(63) => Some(real as i64),
            _ => None,
        }
    }
}

impl<'a> FromScalar<'a> for u64 {
    const WANTED: &'static str = "an integer from 0";

    fn from_scalar(value: Scalar<'a>) -> Option<Self> {
        i64::from_scalar(value)?.try_into().ok()
    }
}

impl<'a> FromScalar<'a> for f64 {
    const WANTED: &'static str = "a number";

    fn from_scalar(value: Scalar<'a>) -> Option<Self> {
        match value {
            Scalar::Integer(integer) => Some(integer as f64),
            Scalar::Real(real) => Some(real),
            _ => None,
        }
    }
}

/// `value` in `slot`, unless it is null; the first value of a wrong type goes to `wrong`.
pub(crate) fn fill<'a, T: FromScalar<'a>>(
    slot: &mut Option<T>,
    value: Scalar<'a>,
    field: &'static str,
    wrong: &mut Option<DecodeError>,
) {
    if value.is_null() {
        return;
    }
    let found = value.found();
    match T::from_scalar(value) {
        // The last of repeated keys stays, as in Python.
        Some(value) => *slot = Some(value),
        None => {
            wrong.get_or_insert(DecodeError::WrongType {
                field,
                found,
                wanted: T::WANTED,
            });
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool)
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(integer.into()))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(integer.into()))
    }

    fn visit_f64<E>(self, real: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Real(real))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Object)
    }
}

/// The key of a field.
pub(crate) struct Key<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}
