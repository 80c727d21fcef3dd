//! Kept: a file with its replicas as a row of a checkpoint, and what holds for all files.
//!
//! ```text
//!   replicas:        DID, its place first  -> names, sizes, replicas with all that decides between changes
//!   replica_floors:  a complete listing, a table, or the watermark -> the newest time
//! ```
//!
//! All that a file makes a difference by is there, so that after a start everything goes on as if nothing had been.
//! A file that was forgotten is a row without a value.
//!
//! The horizon of a table, and the watermark, are the latest of all workers. With as many workers as before, and each
//! with the horizon that it had, some changes could be judged that are now too late: all of them are older than
//! what is promised to be remembered, for no horizon is later than that was on some worker. The changes since the
//! last median are not counted, so what is forgotten next is forgotten a little later.

use super::{
    changed::ChangedShare,
    floors::Floors,
    row::{Did, OWN, Order, Row, SEEN, TELLS_ADLER32, TELLS_BYTES, order},
};
use crate::{
    checkpoint::{
        Damaged, Give, Kind, Merge, Rows,
        coded::{decoded, encoded, whole},
        spread,
    },
    facts::{Basis, Change, DidKey, State},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use ustr::Ustr;

/// Files and their replicas.
pub(crate) static REPLICAS: Kind = Kind {
    name: "replicas",
    version: 1,
    merge: Merge::Newest,
};

/// What holds for all files. Another number of tables is another version.
pub(crate) static FLOORS: Kind = Kind {
    name: "replica_floors",
    version: 1,
    merge: Merge::Sum(later),
};

/// A file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File<'a> {
    pub(super) scope: &'a str,
    pub(super) name: Option<&'a str>,
    /// Sizes in bytes, checksums and times as [`Did`] has them.
    pub(super) bytes: Option<u64>,
    pub(super) adler32: Option<u32>,
    pub(super) absent: Option<i64>,
    pub(super) lost: Option<Lost>,
    #[serde(borrow)]
    pub(super) replicas: Vec<Replica<'a>>,
}

/// That it was lost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Lost {
    at: i64,
    tie: u64,
    state: State,
    basis: Basis,
}

/// A replica.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Replica<'a> {
    pub(super) rse: &'a str,
    pub(super) at: i64,
    pub(super) tie: u64,
    pub(super) state: State,
    pub(super) basis: Basis,
    pub(super) seen: Option<i64>,
    pub(super) bytes: Tells<u64>,
    pub(super) adler32: Tells<u32>,
}

/// What a replica tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tells<V> {
    Nothing,
    /// What its file has.
    Same,
    Other(V),
}

/// What holds for all files.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Of<'a> {
    /// A complete listing of an RSE and a scope, of all where it is `None`.
    Complete(Option<&'a str>, Option<&'a str>),
    /// The horizon of the table of this number.
    Horizon(u16),
    /// How far event time has come.
    Watermark,
}

impl From<&Order> for Lost {
    fn from((version, state, basis): &Order) -> Self {
        Self {
            at: version.at.0,
            tie: version.tie,
            state: *state,
            basis: *basis,
        }
    }
}

impl Lost {
    pub(super) fn order(self) -> Order {
        order(self.at, self.state, self.basis, self.tie)
    }
}

/// The key of a file: what decides on its worker and table goes first, and is a hash.
fn key(did: DidKey) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&did.low.to_be_bytes());
    key[8..].copy_from_slice(&did.high.to_be_bytes());
    key
}

/// The file of a key.
pub(super) fn did(key: &[u8]) -> Result<DidKey, Damaged> {
    let word = |from: usize| {
        let bytes = key.get(from..from + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    match (word(0), word(8), key.len()) {
        (Some(low), Some(high), 16) => Ok(DidKey { high, low }),
        _ => Err(Damaged {
            kind: REPLICAS.name,
            reason: format!("the key of a file has 16 bytes, not {}", key.len()),
        }),
    }
}

/// The place of a file's key, as [`DidKey::place`].
pub(super) fn place(key: &[u8]) -> u64 {
    did(key).map_or(0, DidKey::place)
}

/// The file of a value.
pub(super) fn file(value: &[u8]) -> Result<File<'_>, Damaged> {
    whole(REPLICAS.name, postcard::take_from_bytes(value))
}

/// What a row of [`FLOORS`] is of, and its time.
pub(super) fn floor<'a>(key: &'a [u8], value: &[u8]) -> Result<(Of<'a>, i64), Damaged> {
    let of = key.get(8..).unwrap_or_default();
    let of = whole(FLOORS.name, postcard::take_from_bytes(of))?;
    Ok((of, decoded(FLOORS.name, value)?))
}

fn later(older: &[u8], newer: &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
    let time = |value| decoded::<i64>(FLOORS.name, value);
    Ok(Some(encoded(&time(older)?.max(time(newer)?))))
}

/// The files of a worker that changed.
pub(super) struct ChangedFiles {
    pub(super) tables: Vec<ChangedShare>,
    pub(super) rses: Arc<Vec<Ustr>>,
    pub(super) scopes: Arc<Vec<Ustr>>,
}

impl Rows for ChangedFiles {
    fn kind(&self) -> &'static Kind {
        &REPLICAS
    }

    fn len(&self) -> usize {
        let tables = self.tables.iter();
        tables.map(|table| table.files.len() + table.gone.len()).sum()
    }

    fn for_each(self: Box<Self>, give: &mut Give<'_>) {
        let Self { tables, rses, scopes } = *self;
        // One after the other, so that the worker soon has each for itself again.
        for mut table in tables {
            table.files.sort_unstable();
            table.files.dedup();
            for number in &table.files {
                let did = table.dids.get(*number);
                if !did.is_empty() {
                    let file = table.file(*number, did, &rses, &scopes);
                    give(&key(did.key), Some(&encoded(&file)));
                }
            }
            for gone in &table.gone {
                give(&key(*gone), None);
            }
        }
    }
}

impl ChangedShare {
    fn file<'a>(&'a self, number: u32, did: &Did, rses: &'a [Ustr], scopes: &'a [Ustr]) -> File<'a> {
        let block = self.rows.block(did.first, did.class);
        let rows = block.iter().take_while(|row| !row.is_empty());
        File {
            scope: word(scopes, did.scope),
            name: self.names.get(did.name),
            bytes: Some(did.bytes).filter(|bytes| *bytes != Change::NO_BYTES),
            adler32: Some(did.adler32).filter(|adler32| *adler32 != 0),
            absent: Some(did.absent).filter(|at| *at != i64::MIN),
            lost: self.rare.lost.get(&number).map(Lost::from),
            replicas: rows.map(|row| self.replica(number, row, rses)).collect(),
        }
    }

    fn replica<'a>(&self, number: u32, row: &Row, rses: &'a [Ustr]) -> Replica<'a> {
        let key = (number, row.rse);
        let own = self.rare.own.get(&key).filter(|_| row.flags & OWN != 0);
        let (bytes, adler32) = match own {
            Some(own) => (
                tells(Some(own.bytes).filter(|bytes| *bytes != Change::NO_BYTES)),
                tells(Some(own.adler32).filter(|adler32| *adler32 != 0)),
            ),
            None => (same(row.flags & TELLS_BYTES), same(row.flags & TELLS_ADLER32)),
        };
        let seen = self.rare.seen.get(&key).filter(|_| row.flags & SEEN != 0);
        Replica {
            rse: word(rses, row.rse),
            at: row.at,
            tie: row.tie,
            state: row.state,
            basis: row.basis,
            seen: seen.copied(),
            bytes,
            adler32,
        }
    }
}

fn tells<V>(told: Option<V>) -> Tells<V> {
    told.map_or(Tells::Nothing, Tells::Other)
}

fn same<V>(flag: u8) -> Tells<V> {
    if flag == 0 { Tells::Nothing } else { Tells::Same }
}

fn word(words: &[Ustr], number: u32) -> &'static str {
    words.get(number as usize).map_or("", Ustr::as_str)
}

/// What holds for all files and has changed.
#[derive(Default)]
pub(super) struct ChangedFloors {
    /// All complete listings, where there are new ones.
    pub(super) floors: Option<Arc<Floors>>,
    pub(super) horizons: Vec<(u16, i64)>,
    pub(super) watermark: Option<i64>,
    pub(super) rses: Arc<Vec<Ustr>>,
    pub(super) scopes: Arc<Vec<Ustr>>,
}

impl Rows for ChangedFloors {
    fn kind(&self) -> &'static Kind {
        &FLOORS
    }

    fn len(&self) -> usize {
        let floors = self.floors.as_ref().map_or(0, |floors| floors.each().count());
        floors + self.horizons.len() + usize::from(self.watermark.is_some())
    }

    fn for_each(self: Box<Self>, give: &mut Give<'_>) {
        let mut give = |of: Of<'_>, at: i64| give(&spread(&encoded(&of)), Some(&encoded(&at)));
        for (rse, scope, at) in self.floors.iter().flat_map(|floors| floors.each()) {
            let rse = rse.map(|rse| word(&self.rses, rse));
            let scope = scope.map(|scope| word(&self.scopes, scope));
            give(Of::Complete(rse, scope), at);
        }
        for (table, at) in &self.horizons {
            give(Of::Horizon(*table), *at);
        }
        if let Some(at) = self.watermark {
            give(Of::Watermark, at);
        }
    }
}
