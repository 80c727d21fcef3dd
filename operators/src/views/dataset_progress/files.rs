//! Files: the newest step of each, in tables small enough that none stops the worker while it grows.
//!
//! What has landed and is old is forgotten: it counts on as done, without its name. What has not landed is kept, for
//! somebody will want to know of it.

use super::{
    Tally,
    kept::{Changed, ChangedFiles, ChangedSettled, File, Settled},
};
use crate::{
    checkpoint::{Damaged, Row, Rows},
    facts::{DatasetName, DidKey, RseName, Step},
    watermark::Watermark,
};
use dbb_events::{EventId, Micros};
use hashbrown::{HashMap, HashTable, hash_table::Entry};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A Rucio dataset, and an RSE.
pub(super) type Of = (DatasetName, RseName);

const TABLES: usize = 64;

/// One step of a file. What decides which is newer comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) at: Micros,
    pub(super) event: EventId,
    pub(super) step: Step,
}

/// The newest step of a file for one of [`Of`]: 48 bytes.
#[derive(Clone, Copy)]
struct FileRow {
    did: DidKey,
    at: Micros,
    /// The upper half of the event, and the lower: as one number it would be aligned, and the row longer.
    event: [u64; 2],
    of: u32,
    step: Step,
}

impl FileRow {
    fn told(&self) -> Told {
        let [high, low] = self.event.map(u128::from);
        Told {
            at: self.at,
            event: EventId(high << 64 | low),
            step: self.step,
        }
    }

    fn of(did: DidKey, of: u32, told: Told) -> Self {
        Self {
            did,
            at: told.at,
            event: [(told.event.0 >> 64) as u64, told.event.0 as u64],
            of,
            step: told.step,
        }
    }
}

/// What one worker keeps.
pub(super) struct Files {
    numbers: HashMap<Of, u32>,
    /// By their numbers.
    of: Arc<Vec<Of>>,
    tables: Vec<HashTable<FileRow>>,
    watermark: Option<Watermark>,
    swept: usize,
    /// A file that is not known was forgotten, or may have been, where its step is older than this.
    horizon: Micros,
    /// What happened to the sums and was not told yet, by number.
    told: HashMap<u32, Tally>,
    /// Since the last checkpoint.
    changed: Option<Changed>,
}

impl Files {
    /// None. What has landed is forgotten `forget_after_us` after that, by the times of steps.
    pub(super) fn new(forget_after_us: Option<i64>, notes_changes: bool) -> Self {
        Self {
            numbers: HashMap::new(),
            of: Arc::default(),
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            watermark: forget_after_us.map(Watermark::new),
            swept: 0,
            horizon: Micros(i64::MIN),
            told: HashMap::new(),
            changed: notes_changes.then(Changed::default),
        }
    }

    fn number(&mut self, of: Of) -> u32 {
        let numbered = &mut self.of;
        *self.numbers.entry(of).or_insert_with(|| {
            let number = numbered.len() as u32;
            Arc::make_mut(numbered).push(of);
            number
        })
    }

    /// Takes in a step of a file; false when it came too late to be judged.
    pub(super) fn take(&mut self, of: Of, did: DidKey, told: Told) -> bool {
        if let Some(watermark) = &mut self.watermark {
            watermark.see(told.at.0);
        }
        let of = self.number(of);
        let table = &mut self.tables[table(did)];
        let entry = table.entry(
            hash(did, of),
            |row| row.did == did && row.of == of,
            |row| hash(row.did, row.of),
        );
        let before = match entry {
            Entry::Occupied(mut row) => {
                let before = row.get().told();
                if told <= before {
                    return true;
                }
                *row.get_mut() = FileRow::of(did, of, told);
                Some(before.step)
            }
            Entry::Vacant(_) if told.at < self.horizon => return false,
            Entry::Vacant(row) => {
                row.insert(FileRow::of(did, of, told));
                None
            }
        };
        self.count(of, before, told.step);
        if let Some(changed) = &mut self.changed {
            changed.files.insert((did, of), Some(told));
        }
        true
    }

    fn count(&mut self, of: u32, before: Option<Step>, step: Step) {
        let sum = self.told.entry(of).or_default();
        if let Some(before) = before {
            let (requested, done, failed) = counted(before);
            *sum = (sum.0 - requested, sum.1 - done, sum.2 - failed, sum.3);
        }
        let (requested, done, failed) = counted(step);
        *sum = (sum.0 + requested, sum.1 + done, sum.2 + failed, sum.3);
    }

    /// What happened to the sums since this was last asked.
    pub(super) fn told(&mut self) -> impl Iterator<Item = (Of, Tally)> + '_ {
        let of = &self.of;
        self.told
            .drain()
            .filter(|(_, sum)| *sum != Tally::default())
            .filter_map(|(number, sum)| Some((*of.get(number as usize)?, sum)))
    }

    /// Forgets what may be forgotten of one of the tables, when its turn has come.
    pub(super) fn forget(&mut self) {
        let watermark = self.watermark.as_mut();
        let Some(before) = watermark.and_then(|watermark| watermark.due(TABLES as i64)) else {
            return;
        };
        self.swept = (self.swept + 1) % TABLES;
        let table = &mut self.tables[self.swept];
        let (changed, horizon) = (&mut self.changed, &mut self.horizon);
        table.retain(|row| {
            if row.step != Step::Done || row.at.0 >= before {
                return true;
            }
            *horizon = Micros(row.at.0.saturating_add(1)).max(*horizon);
            if let Some(changed) = changed {
                changed.files.insert((row.did, row.of), None);
                *changed.settled.entry(row.of).or_default() += 1;
            }
            false
        });
        if table.len() < table.capacity() / 4 {
            table.shrink_to(table.len() * 2, |row| hash(row.did, row.of));
        }
    }

    /// What changed since this was last asked, for a checkpoint.
    pub(super) fn changes(&mut self) -> Vec<Box<dyn Rows>> {
        let Some(changed) = &mut self.changed else {
            return Vec::new();
        };
        let Changed { files, settled } = std::mem::take(changed);
        let horizon = (!settled.is_empty()).then_some(self.horizon);
        let of = || Arc::clone(&self.of);
        vec![
            Box::new(ChangedFiles { of: of(), files }),
            Box::new(ChangedSettled {
                of: of(),
                settled,
                horizon,
            }),
        ]
    }

    /// Takes back a file that an earlier run kept.
    pub(super) fn restore(&mut self, row: &Row) -> Result<(), Damaged> {
        let File { did, of, told } = File::read(row)?;
        let of = self.number(of);
        self.tables[table(did)].insert_unique(hash(did, of), FileRow::of(did, of, told), |row| {
            hash(row.did, row.of)
        });
        self.count(of, None, told.step);
        Ok(())
    }

    /// Takes back what an earlier run forgot; its sums only on the worker that counts them.
    pub(super) fn restore_settled(&mut self, row: &Row, counts: bool) -> Result<(), Damaged> {
        match Settled::read(row)? {
            Settled::Horizon(at) => self.horizon = at.max(self.horizon),
            Settled::Done(of, files) if counts => {
                let of = self.number(of);
                let sum = self.told.entry(of).or_default();
                *sum = (sum.0 + files, sum.1 + files, sum.2, sum.3);
            }
            Settled::Done(..) => {}
        }
        Ok(())
    }
}

/// What a file counts for whose newest step is `step`: as requested, done, failed.
fn counted(step: Step) -> (isize, isize, isize) {
    (1, isize::from(step == Step::Done), isize::from(step.is_failure()))
}

/// By bits that neither the exchange goes by nor the hash.
fn table(did: DidKey) -> usize {
    (did.low >> 32) as usize % TABLES
}

fn hash(did: DidKey, of: u32) -> u64 {
    did.high ^ u64::from(of).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_48_bytes() {
        assert_eq!(size_of::<FileRow>(), 48);
    }
}
