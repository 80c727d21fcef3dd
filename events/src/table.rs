//! Fields that rows of Rucio's table `replicas` have in any form: in its journal, in listings.

use crate::{
    DecodeError, Micros,
    error::cut,
    scalar::{FromScalar, Scalar},
};
use std::borrow::Cow;

/// The state of a row of Rucio's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplicaState {
    /// `A`.
    Available,
    /// `D`: declared bad.
    Bad,
    /// `B`.
    BeingDeleted,
    /// `C`.
    Copying,
    /// `T`.
    TemporaryUnavailable,
    /// `U`.
    Unavailable,
}

impl ReplicaState {
    /// The state called `word`, or meant by the letter that Rucio's table has for it.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "AVAILABLE" | "A" => Self::Available,
            "BAD" | "D" => Self::Bad,
            "BEING_DELETED" | "B" => Self::BeingDeleted,
            "COPYING" | "C" => Self::Copying,
            "TEMPORARY_UNAVAILABLE" | "T" => Self::TemporaryUnavailable,
            "UNAVAILABLE" | "U" => Self::Unavailable,
            _ => return None,
        })
    }
}

/// The field as the type it must have.
pub(crate) fn need<'a, T: FromScalar<'a>>(
    value: Option<Scalar<'a>>,
    field: &'static str,
) -> Result<T, DecodeError> {
    let value = value.ok_or(DecodeError::Missing { field })?;
    let found = value.found();
    T::from_scalar(value).ok_or(DecodeError::WrongType {
        field,
        found,
        wanted: T::WANTED,
    })
}

/// The field as that type, if it is there at all.
pub(crate) fn maybe<'a, T: FromScalar<'a>>(
    value: Option<Scalar<'a>>,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    value.map(|value| need(Some(value), field)).transpose()
}

/// The field as a moment.
pub(crate) fn time(value: Option<Scalar<'_>>, field: &'static str) -> Result<Micros, DecodeError> {
    let text: Cow<'_, str> = need(value, field)?;
    Micros::parse(&text).ok_or_else(|| DecodeError::BadTime {
        field,
        text: cut(&text),
    })
}

/// The field as a state.
pub(crate) fn state(value: Option<Scalar<'_>>, field: &'static str) -> Result<ReplicaState, DecodeError> {
    let word: Cow<'_, str> = need(value, field)?;
    ReplicaState::parse(&word).ok_or_else(|| {
        DecodeError::unknown_word(field, &word, "A, B, C, D, T, U and the words they stand for")
    })
}

/// `adler32`, if it is there.
pub(crate) fn adler32(value: Option<Scalar<'_>>) -> Result<Option<u32>, DecodeError> {
    let Some(text) = maybe::<Cow<'_, str>>(value, "adler32")? else {
        return Ok(None);
    };
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u32::from_str_radix(&text, 16) {
        Ok(sum) if digits => Ok(Some(sum)),
        _ => Err(DecodeError::BadChecksum {
            field: "adler32",
            text: cut(&text),
        }),
    }
}
