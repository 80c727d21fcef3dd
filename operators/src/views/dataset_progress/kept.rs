//! Kept: the newest steps of files as rows of a checkpoint, and how many were forgotten.
//!
//! ```text
//!   dataset_progress:          DID, dataset, RSE -> newest step
//!   dataset_progress_settled:  dataset, RSE      -> how many landed and were forgotten
//!                              nothing           -> before which time steps may be of such files
//! ```
//!
//! A file that was forgotten is a row without a value, in the same checkpoint that counts it. The horizon is the latest
//! of all workers.

use super::files::{Of, Told};
use crate::{
    checkpoint::{
        Damaged, Give, Kind, Merge, Row, Rows,
        coded::{decoded, encoded},
        spread,
    },
    facts::{DatasetName, DidKey, RseName},
};
use dbb_events::Micros;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The newest steps of files.
pub(crate) static FILES: Kind = Kind {
    name: "dataset_progress",
    version: 2,
    merge: Merge::Newest,
};

/// What was forgotten.
pub(crate) static SETTLED: Kind = Kind {
    name: "dataset_progress_settled",
    version: 1,
    merge: Merge::Sum(add),
};

/// What changed since a checkpoint, datasets and RSEs by number.
#[derive(Default)]
pub(super) struct Changed {
    /// The newest step of each file; of one that was forgotten, none.
    pub(super) files: HashMap<(DidKey, u32), Option<Told>>,
    /// How many were forgotten.
    pub(super) settled: HashMap<u32, i64>,
}

/// The files that changed.
pub(super) struct ChangedFiles {
    pub(super) of: Arc<Vec<Of>>,
    pub(super) files: HashMap<(DidKey, u32), Option<Told>>,
}

impl Rows for ChangedFiles {
    fn kind(&self) -> &'static Kind {
        &FILES
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn for_each(self: Box<Self>, give: &mut Give<'_>) {
        for ((did, number), told) in self.files {
            let Some((dataset, rse)) = self.of.get(number as usize) else {
                continue;
            };
            // What decides on the worker goes first, and is a hash.
            let mut key = did.low.to_be_bytes().to_vec();
            key.extend(encoded(&(did.high, dataset, rse)));
            let value = told.map(|told| encoded(&told));
            give(&key, value.as_deref());
        }
    }
}

/// The place of a file's key, as [`DidKey::place`].
pub(super) fn place(row: &Row) -> u64 {
    let low = row.0.first_chunk().map(|low| u64::from_be_bytes(*low));
    low.unwrap_or_default()
}

/// A file that was kept.
pub(super) struct File {
    pub(super) did: DidKey,
    pub(super) of: Of,
    pub(super) told: Told,
}

impl File {
    pub(super) fn read(row: &Row) -> Result<Self, Damaged> {
        let rest = row.0.get(8..).unwrap_or_default();
        let (high, dataset, rse): (u64, DatasetName, RseName) = decoded(FILES.name, rest)?;
        Ok(Self {
            did: DidKey {
                high,
                low: place(row),
            },
            of: (dataset, rse),
            told: decoded(FILES.name, &row.1)?,
        })
    }
}

/// What was forgotten.
pub(super) struct ChangedSettled {
    pub(super) of: Arc<Vec<Of>>,
    pub(super) settled: HashMap<u32, i64>,
    pub(super) horizon: Option<Micros>,
}

/// What was forgotten, one row.
pub(super) enum Settled {
    /// Of this dataset and RSE so many files, all of them done.
    Done(Of, isize),
    /// All of them are older.
    Horizon(Micros),
}

#[derive(Serialize, Deserialize)]
enum Value {
    Done(i64),
    Horizon(Micros),
}

impl Rows for ChangedSettled {
    fn kind(&self) -> &'static Kind {
        &SETTLED
    }

    fn len(&self) -> usize {
        self.settled.len() + usize::from(self.horizon.is_some())
    }

    fn for_each(self: Box<Self>, give: &mut Give<'_>) {
        for (number, files) in self.settled {
            let of = self.of.get(number as usize);
            give(&spread(&encoded(&of)), Some(&encoded(&Value::Done(files))));
        }
        if let Some(at) = self.horizon {
            let of: Option<Of> = None;
            give(&spread(&encoded(&of)), Some(&encoded(&Value::Horizon(at))));
        }
    }
}

impl Settled {
    pub(super) fn read(row: &Row) -> Result<Self, Damaged> {
        let of: Option<Of> = decoded(SETTLED.name, row.0.get(8..).unwrap_or_default())?;
        match (of, decoded(SETTLED.name, &row.1)?) {
            (Some(of), Value::Done(files)) => Ok(Self::Done(of, files as isize)),
            (None, Value::Horizon(at)) => Ok(Self::Horizon(at)),
            _ => Err(mixed()),
        }
    }
}

fn add(older: &[u8], newer: &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
    let sum = match (decoded(SETTLED.name, older)?, decoded(SETTLED.name, newer)?) {
        (Value::Done(older), Value::Done(newer)) => Value::Done(older.saturating_add(newer)),
        (Value::Horizon(older), Value::Horizon(newer)) => Value::Horizon(older.max(newer)),
        _ => return Err(mixed()),
    };
    Ok(Some(encoded(&sum)))
}

fn mixed() -> Damaged {
    Damaged {
        kind: SETTLED.name,
        reason: "a time where a number of files belongs, or the other way round".into(),
    }
}
