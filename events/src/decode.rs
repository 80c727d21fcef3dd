//! Decode: from the bytes of a body to one typed event, or a sentence that says why not.
//!
//! ```text
//!   body --> size, UTF-8 --> JSON, only the fields in use --> types, type name, time --> Event
//!                 \________________\___________________________\______________________ DecodeError
//! ```
//!
//! In:    bytes from anywhere.
//! Out:   an [`Event`] that borrows from them, or a [`DecodeError`] that names field and reason.
//! State: none.

use crate::{
    DecodeError, Event, EventType, Micros,
    depth::{MAX_DEPTH, too_deep},
    error::cut,
    mark::unmarked,
    scalar::Scalar,
    wire::Wire,
};
use serde::{Deserialize, de::IgnoredAny};

/// The longest body that is read, in bytes. Rucio's own limit on a payload is 4000 characters, with an
/// overflow column beyond; the largest sidecars known, with dimension records and regions, have tens of kB.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// Reads one body in any of the forms it has had since 2023.
pub fn decode(body: &[u8]) -> Result<Event<'_>, DecodeError> {
    judge(parse(body)?, true)
}

/// What can be read of a body that [`decode`] refuses, for the dead letter to show: fields of a wrong
/// type are absent. `None` where the body is no JSON object, or has no time or type.
pub fn salvage(body: &[u8]) -> Option<Event<'_>> {
    judge(parse(body).ok()?, false).ok()
}

/// Reads a row that must be an object.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(row: &'a [u8]) -> Result<T, DecodeError> {
    match unmarked(row).first() {
        Some(b'{') | None => parse(row),
        Some(_) => match parse(row)? {
            Scalar::Text(_) => Err("a string"),
            Scalar::Integer(_) | Scalar::Real(_) => Err("a number"),
            other => Err(other.found()),
        }
        .map_err(|found| DecodeError::NotAnObject { found }),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(DecodeError::TooLarge {
            bytes: body.len(),
            limit: MAX_BODY_BYTES,
        });
    }
    // Places are told as those of the body, which may begin with marks.
    let before = unmarked(body).as_ptr().addr() - body.as_ptr().addr();
    let text = std::str::from_utf8(&body[before..]).map_err(|error| DecodeError::NotUtf8 {
        offset: before + error.valid_up_to(),
    })?;
    if let Some(offset) = too_deep(text) {
        return Err(DecodeError::TooDeep {
            offset: before + offset,
            limit: MAX_DEPTH,
        });
    }
    sonic_rs::from_str(text).map_err(|error| match syntax(text, &error) {
        DecodeError::Truncated { bytes } => DecodeError::Truncated {
            bytes: before + bytes,
        },
        DecodeError::NotJson { detail, offset } => DecodeError::NotJson {
            detail,
            offset: before + offset,
        },
        other => other,
    })
}

/// What is wrong with text the parser gave up on. Rare, so it is read once more by a parser that says it well.
fn syntax(text: &str, error: &sonic_rs::Error) -> DecodeError {
    if text.trim_ascii().is_empty() {
        return DecodeError::Empty;
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) if error.is_eof() => DecodeError::Truncated { bytes: text.len() },
        Err(error) => {
            let detail = error.to_string();
            let detail = detail.split(" at line ").next().unwrap_or_default().to_owned();
            let lines_before = error.line().saturating_sub(1);
            let before: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
            let offset = before + error.column();
            // `7.` at the very end may have been the start of `7.5`.
            if detail == "invalid number" && offset >= text.len() {
                return DecodeError::Truncated { bytes: text.len() };
            }
            DecodeError::NotJson { detail, offset }
        }
        // A number too large for a float: skipped here, kept there.
        Ok(_) => DecodeError::NotJson {
            detail: cut(error.to_string().lines().next().unwrap_or_default()),
            offset: error.offset(),
        },
    }
}

fn judge(wire: Wire<'_>, strict: bool) -> Result<Event<'_>, DecodeError> {
    if let Some(wrong) = wire.wrong
        && (strict || matches!(wrong, DecodeError::NotAnObject { .. } | DecodeError::BulkAction))
    {
        return Err(wrong);
    }
    let event_type = match wire.event_type {
        Some(word) => EventType::parse(word),
        // Nothing but arrivals was ever re-created by hand, and nothing but an arrival says what a Butler is to do.
        None if wire.payload.dst_url.is_some() && wire.payload.rubin_butler.is_some() => {
            EventType::TransferDone
        }
        None => return Err(DecodeError::Missing { field: "event_type" }),
    };
    let (field, text) = match (&wire.created_at, &wire.payload.created_at) {
        (Some(text), _) => ("created_at", text),
        (None, Some(text)) => ("payload.created_at", text),
        (None, None) => return Err(DecodeError::Missing { field: "created_at" }),
    };
    let created_at = Micros::parse(text).ok_or_else(|| DecodeError::BadTime {
        field,
        text: cut(text),
    })?;
    Ok(Event {
        event_type,
        created_at,
        id: wire.id,
        payload: wire.payload,
    })
}
