//! One row of the change journal of Rucio's table `replicas`: an insert, a change or a delete, in the table's own order.
//!
//! In:    a JSON object; fields that are not used may be there or not, in any form.
//! Out:   a [`JournalRow`] that borrows from it, or a [`DecodeError`] that names field and reason.
//! State: none.

use crate::{
    DecodeError, Micros,
    decode::parse_object,
    scalar::Scalar,
    table::{ReplicaState, adler32, maybe, need, state, time},
};
use serde::Deserialize;
use std::borrow::Cow;

/// A row as the trigger, or logical replication, wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow<'a> {
    /// Its place in the journal: rises by one from row to row.
    pub seq: u64,
    /// When the statement ran.
    pub at: Micros,
    /// The scope of the file.
    pub scope: Cow<'a, str>,
    /// The name of the file.
    pub name: Cow<'a, str>,
    /// The RSE of the replica.
    pub rse: Cow<'a, str>,
    /// The state that the row has from then on; `None` where it was deleted.
    pub state: Option<ReplicaState>,
    /// Size in bytes; Rucio's table may have none.
    pub bytes: Option<u64>,
    /// Adler-32.
    pub adler32: Option<u32>,
}

/// Reads one row.
///
/// # Errors
///
/// What is missing or wrong of the fields that are used; an operation or a state nobody knows.
pub fn decode_journal(row: &[u8]) -> Result<JournalRow<'_>, DecodeError> {
    let wire: Wire<'_> = parse_object(row)?;
    let op: Cow<'_, str> = need(wire.op, "op")?;
    let new_state = match op.as_ref() {
        "I" | "U" => Some(state(wire.new_state, "new_state")?),
        "D" => None,
        _ => return Err(DecodeError::unknown_word("op", &op, "I, U, D")),
    };
    Ok(JournalRow {
        seq: need(wire.seq, "seq")?,
        at: time(wire.at, "at")?,
        scope: need(wire.scope, "scope")?,
        name: need(wire.name, "name")?,
        rse: need(wire.rse, "rse")?,
        state: new_state,
        bytes: maybe(wire.bytes, "bytes")?,
        adler32: adler32(wire.adler32)?,
    })
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    seq: Option<Scalar<'a>>,
    #[serde(borrow)]
    at: Option<Scalar<'a>>,
    #[serde(borrow)]
    op: Option<Scalar<'a>>,
    #[serde(borrow)]
    scope: Option<Scalar<'a>>,
    #[serde(borrow)]
    name: Option<Scalar<'a>>,
    #[serde(borrow)]
    rse: Option<Scalar<'a>>,
    #[serde(borrow)]
    new_state: Option<Scalar<'a>>,
    #[serde(borrow)]
    bytes: Option<Scalar<'a>>,
    #[serde(borrow)]
    adler32: Option<Scalar<'a>>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ROW: &str = r#"{"seq": 467, "at": "2026-11-21 19:15:01.337681", "txid": 9582, "op": "U", "scope": "calib", "name": "bias.fits", "rse": "SLAC_BUTLER_DISK", "old_state": "A", "new_state": "B", "bytes": 5483623, "adler32": "4aef17c5", "lock_cnt": 0, "tombstone": "1970-01-01 00:00:00"}"#;

    #[test]
    fn a_row_says_what_the_table_holds_from_then_on() {
        let row = decode_journal(ROW.as_bytes()).unwrap();
        let wanted = JournalRow {
            seq: 467,
            at: Micros::parse("2026-11-21 19:15:01.337681").unwrap(),
            scope: "calib".into(),
            name: "bias.fits".into(),
            rse: "SLAC_BUTLER_DISK".into(),
            state: Some(ReplicaState::BeingDeleted),
            bytes: Some(5_483_623),
            adler32: Some(0x4aef_17c5),
        };
        assert_eq!(row, wanted);
        let deleted = ROW.replace(r#""op": "U""#, r#""op": "D""#);
        assert_eq!(decode_journal(deleted.as_bytes()).unwrap().state, None);
        let words = ROW
            .replace(r#""new_state": "B""#, r#""new_state": "BEING_DELETED""#)
            .replace(r#""4aef17c5""#, "null")
            .replace("5483623", "null");
        let row = decode_journal(words.as_bytes()).unwrap();
        assert_eq!(
            (row.state, row.bytes, row.adler32),
            (Some(ReplicaState::BeingDeleted), None, None)
        );
    }

    #[test]
    fn what_is_wrong_with_a_row_is_named() {
        let refused = |from: &str, to: &str| {
            let row = ROW.replace(from, to);
            assert_ne!(row, ROW);
            decode_journal(row.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(
            refused(r#""new_state": "B""#, r#""new_state": "X""#),
            "field `new_state` is `X`, none of A, B, C, D, T, U and the words they stand for"
        );
        assert_eq!(
            refused(r#""op": "U""#, r#""op": "TRUNCATE""#),
            "field `op` is `TRUNCATE`, none of I, U, D"
        );
        assert_eq!(
            refused(r#""new_state": "B", "#, ""),
            "field `new_state` is missing"
        );
        assert_eq!(
            refused(r#""seq": 467"#, r#""seq": null"#),
            "field `seq` is missing"
        );
        assert_eq!(
            refused(r#""seq": 467"#, r#""seq": -1"#),
            "field `seq` is an integer, not an integer from 0"
        );
        assert_eq!(
            refused("2026-11-21", "21.11.2026"),
            "field `at` is `21.11.2026 19:15:01.337681`, not a time such as 2026-11-21 19:14:49.938629"
        );
        assert_eq!(
            refused("4aef17c5", "4aef17c5x"),
            "field `adler32` is `4aef17c5x`, not a checksum of at most eight hexadecimal digits"
        );
        assert_eq!(
            refused(r#""bytes": 5483623"#, r#""bytes": "many""#),
            "field `bytes` is a string, not an integer from 0"
        );
        let cut = decode_journal(&ROW.as_bytes()[..60]).unwrap_err();
        assert_eq!(cut, DecodeError::Truncated { bytes: 60 });
        assert_eq!(
            decode_journal(b"[1]").unwrap_err(),
            DecodeError::NotAnObject { found: "an array" }
        );
    }
}
