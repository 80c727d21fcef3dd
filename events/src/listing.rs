//! One row of a listing: of replicas, of the replicas of one DID, or of the contents of a Rucio dataset.
//!
//! ```text
//!   {"snapshot_at", "replicas": N}        then N rows {"scope","name","rse","state",...}: all there was
//!   {"listed_at"}                         then rows {"scope","name","states": {RSE: STATE},...}: all of each DID
//!   {"contents_of": {"scope","name"}, "listed_at"}   then rows {"scope","name","bytes"}: all of the Rucio dataset
//! ```
//!
//! In:    a JSON object; fields that are not used may be there or not, in any form.
//! Out:   a [`ListingRow`] that borrows from it, or a [`DecodeError`] that names field and reason.
//! State: none.

use crate::{
    DecodeError, Micros,
    decode::parse_object,
    scalar::Scalar,
    table::{ReplicaState, adler32, maybe, need, state, time},
};
use serde::Deserialize;
use sonic_rs::LazyValue;
use std::{borrow::Cow, collections::BTreeMap};

/// A row as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingRow<'a> {
    /// The rows that follow are all replicas there were.
    Snapshot(SnapshotHeader<'a>),
    /// The rows that follow were listed at this moment.
    ListedAt(Micros),
    /// The rows that follow are all files of a Rucio dataset.
    ContentsOf {
        /// The scope of the Rucio dataset.
        scope: Cow<'a, str>,
        /// Its name.
        name: Cow<'a, str>,
        /// When it was listed.
        at: Micros,
    },
    /// One replica, or one file of a Rucio dataset.
    File(ListedFile<'a>),
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHeader<'a> {
    /// Its time.
    pub at: Micros,
    /// How many rows follow.
    pub replicas: u64,
    /// The RSEs it covers; all when `None`.
    pub rses: Option<Vec<Cow<'a, str>>>,
    /// The scopes it covers; all when `None`.
    pub scopes: Option<Vec<Cow<'a, str>>>,
}

/// A file and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile<'a> {
    /// Its scope.
    pub scope: Cow<'a, str>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Size in bytes.
    pub bytes: Option<u64>,
    /// Adler-32.
    pub adler32: Option<u32>,
    /// Where it is.
    pub listed: Listed<'a>,
}

/// What a row says of the replicas of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed<'a> {
    /// One of them.
    Replica(Cow<'a, str>, ReplicaState),
    /// All of them, each once.
    All(Vec<(Cow<'a, str>, ReplicaState)>),
    /// Nothing: it is a file of a Rucio dataset.
    Member,
}

/// Reads one row.
///
/// # Errors
///
/// What is missing or wrong of the fields that are used; a state nobody knows; a row of no kind that is known.
pub fn decode_listing(row: &[u8]) -> Result<ListingRow<'_>, DecodeError> {
    let wire: Wire<'_> = parse_object(row)?;
    if wire.snapshot_at.is_some() {
        return Ok(ListingRow::Snapshot(SnapshotHeader {
            at: time(wire.snapshot_at, "snapshot_at")?,
            replicas: need(wire.replicas, "replicas")?,
            rses: words(wire.rses, "rses")?,
            scopes: words(wire.scopes, "scopes")?,
        }));
    }
    if let Some(dataset) = wire.contents_of {
        let dataset: Dataset<'_> = nested(&dataset, "contents_of", "a scope and a name")?;
        return Ok(ListingRow::ContentsOf {
            scope: need(dataset.scope, "contents_of.scope")?,
            name: need(dataset.name, "contents_of.name")?,
            at: time(wire.listed_at, "listed_at")?,
        });
    }
    if wire.listed_at.is_some() {
        return Ok(ListingRow::ListedAt(time(wire.listed_at, "listed_at")?));
    }
    let listed = if let Some(states) = wire.states {
        Listed::All(all_of(&states)?)
    } else if wire.rses.is_some() {
        return Err(DecodeError::Missing { field: "states" });
    } else if wire.rse.is_some() || wire.state.is_some() {
        Listed::Replica(need(wire.rse, "rse")?, state(wire.state, "state")?)
    } else if wire.bytes.is_some() {
        Listed::Member
    } else {
        return Err(DecodeError::NoListing);
    };
    Ok(ListingRow::File(ListedFile {
        scope: need(wire.scope, "scope")?,
        name: need(wire.name, "name")?,
        bytes: maybe(wire.bytes, "bytes")?,
        adler32: adler32(wire.adler32)?,
        listed,
    }))
}

/// The states by RSE.
fn all_of<'a>(states: &LazyValue<'a>) -> Result<Vec<(Cow<'a, str>, ReplicaState)>, DecodeError> {
    let states: BTreeMap<Word<'a>, Scalar<'a>> = nested(states, "states", "an object of states by RSE")?;
    states
        .into_iter()
        .map(|(Word(rse), word)| Ok((rse, state(Some(word), "states")?)))
        .collect()
}

/// A list of names, if it is there.
fn words<'a>(
    list: Option<LazyValue<'a>>,
    field: &'static str,
) -> Result<Option<Vec<Cow<'a, str>>>, DecodeError> {
    let Some(list) = list else { return Ok(None) };
    let list: Vec<Scalar<'a>> = nested(&list, field, "a list of names")?;
    list.into_iter()
        .map(|word| need(Some(word), field))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// A value inside the row, as the type it must have.
fn nested<'a, T: Deserialize<'a>>(
    value: &LazyValue<'a>,
    field: &'static str,
    wanted: &'static str,
) -> Result<T, DecodeError> {
    let found = match value.as_raw_str().as_bytes().first() {
        Some(b'{') => "another object",
        Some(b'[') => "another array",
        Some(b'"') => "a string",
        _ => "another value",
    };
    let wrong = DecodeError::WrongType { field, found, wanted };
    match value.as_raw_cow() {
        Cow::Borrowed(raw) => sonic_rs::from_str(raw).map_err(|_| wrong),
        // The row is borrowed text, and so is every part of it.
        Cow::Owned(_) => Err(wrong),
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Dataset<'a> {
    #[serde(borrow)]
    scope: Option<Scalar<'a>>,
    #[serde(borrow)]
    name: Option<Scalar<'a>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    snapshot_at: Option<Scalar<'a>>,
    #[serde(borrow)]
    listed_at: Option<Scalar<'a>>,
    #[serde(borrow)]
    contents_of: Option<LazyValue<'a>>,
    #[serde(borrow)]
    replicas: Option<Scalar<'a>>,
    #[serde(borrow)]
    rses: Option<LazyValue<'a>>,
    #[serde(borrow)]
    scopes: Option<LazyValue<'a>>,
    #[serde(borrow)]
    scope: Option<Scalar<'a>>,
    #[serde(borrow)]
    name: Option<Scalar<'a>>,
    #[serde(borrow)]
    rse: Option<Scalar<'a>>,
    #[serde(borrow)]
    state: Option<Scalar<'a>>,
    #[serde(borrow)]
    states: Option<LazyValue<'a>>,
    #[serde(borrow)]
    bytes: Option<Scalar<'a>>,
    #[serde(borrow)]
    adler32: Option<Scalar<'a>>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(text: &str) -> ListingRow<'_> {
        decode_listing(text.as_bytes()).unwrap()
    }

    fn refused(text: &str) -> String {
        decode_listing(text.as_bytes()).unwrap_err().to_string()
    }

    fn file<'a>(listed: Listed<'a>) -> ListingRow<'a> {
        ListingRow::File(ListedFile {
            scope: "raw".into(),
            name: "a".into(),
            bytes: Some(7),
            adler32: Some(0x3a3),
            listed,
        })
    }

    #[test]
    fn each_kind_of_row_is_known_by_its_fields() {
        let at = Micros::parse("2026-11-21 19:18:39.2").unwrap();
        assert_eq!(
            row(
                r#"{"snapshot_at": "2026-11-21 19:18:39.2", "replicas": 2, "rses": ["A", "B"], "by": "psql"}"#
            ),
            ListingRow::Snapshot(SnapshotHeader {
                at,
                replicas: 2,
                rses: Some(vec!["A".into(), "B".into()]),
                scopes: None,
            })
        );
        assert_eq!(
            row(r#"{"listed_at":"2026-11-21T19:18:39.2Z"}"#),
            ListingRow::ListedAt(at)
        );
        assert_eq!(
            row(r#"{"contents_of": {"scope": "raw", "name": "g"}, "listed_at": "2026-11-21T19:18:39.2Z"}"#),
            ListingRow::ContentsOf {
                scope: "raw".into(),
                name: "g".into(),
                at
            }
        );
        assert_eq!(
            row(
                r#"{"scope":"raw","name":"a","rse":"A","state":"AVAILABLE","bytes":7,"adler32":"000003a3","lock_cnt":0}"#
            ),
            file(Listed::Replica("A".into(), ReplicaState::Available))
        );
        assert_eq!(
            row(
                r#"{"scope":"raw","name":"a","bytes":7,"adler32":"3a3","rses":{"A":[],"B":["x"]},"states":{"B":"AVAILABLE","A":"BAD"},"parents":["raw:g"]}"#
            ),
            file(Listed::All(vec![
                ("A".into(), ReplicaState::Bad),
                ("B".into(), ReplicaState::Available)
            ]))
        );
        assert_eq!(
            row(r#"{"scope":"raw","name":"a","bytes":7,"adler32":"3a3","guid":null}"#),
            file(Listed::Member)
        );
    }

    #[test]
    fn a_row_that_does_not_say_enough_is_refused_by_its_field() {
        for (text, wanted) in [
            (
                r#"{"snapshot_at":"2026-11-21 19:18:39"}"#,
                "field `replicas` is missing",
            ),
            (
                r#"{"snapshot_at":"2026-11-21 19:18:39","replicas":1,"rses":"A"}"#,
                "field `rses` is a string, not a list of names",
            ),
            (
                r#"{"snapshot_at":"2026-11-21 19:18:39","replicas":1,"scopes":[1]}"#,
                "field `scopes` is an integer, not a string",
            ),
            (
                r#"{"contents_of":{"scope":"raw"},"listed_at":"2026-11-21 19:18:39"}"#,
                "field `contents_of.name` is missing",
            ),
            (
                r#"{"contents_of":{"scope":"raw","name":"g"}}"#,
                "field `listed_at` is missing",
            ),
            (
                r#"{"scope":"raw","name":"a","rse":"A","state":"LOST"}"#,
                "field `state` is `LOST`, none of A, B, C, D, T, U and the words they stand for",
            ),
            (
                r#"{"scope":"raw","name":"a","states":{"A":"LOST"}}"#,
                "field `states` is `LOST`, none of A, B, C, D, T, U and the words they stand for",
            ),
            (
                r#"{"scope":"raw","name":"a","states":["A"]}"#,
                "field `states` is another array, not an object of states by RSE",
            ),
            // Answered without `all_states`: silent of replicas that are there.
            (
                r#"{"scope":"raw","name":"a","rses":{"A":[]}}"#,
                "field `states` is missing",
            ),
            (
                r#"{"name":"a","rse":"A","state":"BAD"}"#,
                "field `scope` is missing",
            ),
            (
                r#"{"event_type":"open"}"#,
                "the row has none of the fields `rse`, `states`, `bytes` that a row of a listing has",
            ),
        ] {
            assert_eq!(refused(text), wanted, "{text}");
        }
    }
}
