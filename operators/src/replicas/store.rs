//! Store: all that one worker keeps.

use super::{
    changed::Changed,
    effects::Effects,
    floors::Floors,
    kept::{self, ChangedFiles, ChangedFloors, Of},
    restore,
    snapshot::Snapshot,
    table::Table,
    words::Words,
};
use crate::{
    checkpoint::{Damaged, Row, Rows},
    facts::{Change, Complete, DidKey, DidName, ScopeName},
    watermark::Watermark,
};
use std::{hint::black_box, sync::Arc};

/// Tables of a worker: so many that none is ever long to copy or to grow.
const TABLES: usize = 256;
/// Changes looked up together, so that the waits for memory overlap.
const TOGETHER: usize = 16;

/// Files, replicas and what has happened to them.
pub(super) struct Store {
    tables: Vec<Table>,
    words: Words,
    floors: Arc<Floors>,
    names: bool,
    effects: Effects,
    watermark: Option<Watermark>,
    swept: usize,
    told: Told,
}

/// What the last checkpoint has already of what holds for all files.
struct Told {
    floors: Arc<Floors>,
    horizons: Vec<i64>,
    watermark: Option<i64>,
}

/// Which table: the bits of the place that do not decide on the worker.
fn table_of(key: DidKey) -> usize {
    (key.place() >> 56) as usize % TABLES
}

impl Store {
    /// One without replicas. `forget_after_us` as in [`super::Keeping`].
    pub(super) fn new(names: bool, forget_after_us: Option<i64>, effects: Effects) -> Self {
        Self {
            tables: (0..TABLES).map(|_| Table::default()).collect(),
            words: Words::default(),
            floors: Arc::default(),
            names,
            effects,
            watermark: forget_after_us.map(Watermark::new),
            swept: 0,
            told: Told {
                floors: Arc::default(),
                horizons: vec![i64::MIN; TABLES],
                watermark: None,
            },
        }
    }

    /// From now on notes what changes, for checkpoints.
    pub(super) fn note_changes(&mut self) {
        for table in &mut self.tables {
            table.changed = Some(Changed::default());
        }
    }

    /// Takes back what holds for all files: before any of them.
    pub(super) fn restore_floor(&mut self, (key, value): &Row) -> Result<(), Damaged> {
        let (of, at) = kept::floor(key, value)?;
        if let Some(complete) = restore::complete(&of, at) {
            // Not copied for each row.
            self.told.floors = Arc::default();
            Arc::make_mut(&mut self.floors).add(&complete, &mut self.words);
            self.told.floors = Arc::clone(&self.floors);
        }
        match of {
            Of::Complete(..) => {}
            Of::Horizon(number) => {
                let number = usize::from(number);
                if let (Some(table), Some(told)) =
                    (self.tables.get_mut(number), self.told.horizons.get_mut(number))
                {
                    table.horizon = table.horizon.max(at);
                    *told = table.horizon;
                }
            }
            Of::Watermark => {
                if let Some(watermark) = &mut self.watermark {
                    watermark.reach(at);
                    self.told.watermark = watermark.reached();
                }
            }
        }
        Ok(())
    }

    /// Takes back a file, and says its name where it has one.
    pub(super) fn restore(&mut self, (key, value): &Row) -> Result<Option<DidName>, Damaged> {
        let (did, file) = (kept::did(key)?, kept::file(value)?);
        let Some(table) = self.tables.get_mut(table_of(did)) else {
            return Ok(None);
        };
        if table.find(did).is_some() {
            return Err(Damaged {
                kind: kept::REPLICAS.name,
                reason: "a file is there twice".into(),
            });
        }
        let (words, floors) = (&mut self.words, &self.floors);
        table.restore(did, &file, self.names, words, floors, &mut self.effects);
        Ok(file.name.map(|name| DidName {
            did,
            scope: ScopeName::new(file.scope),
            name: name.into(),
        }))
    }

    /// What changed since this was called last: not encoded, which is not done here. Complete listings are heard by
    /// all workers, and one `tells_floors` of them.
    pub(super) fn changes(&mut self, tells_floors: bool) -> Vec<Box<dyn Rows>> {
        let (rses, scopes) = (self.words.rses.share(), self.words.scopes.share());
        let files = ChangedFiles {
            tables: self.tables.iter_mut().filter_map(Table::take_changed).collect(),
            rses: Arc::clone(&rses),
            scopes: Arc::clone(&scopes),
        };
        let is_new = tells_floors && self.told.floors != self.floors;
        let mut horizons = Vec::new();
        for ((number, table), told) in (0u16..).zip(&self.tables).zip(&mut self.told.horizons) {
            if *told != table.horizon {
                *told = table.horizon;
                horizons.push((number, table.horizon));
            }
        }
        let reached = self.watermark.as_ref().and_then(Watermark::reached);
        let floors = ChangedFloors {
            floors: is_new.then(|| Arc::clone(&self.floors)),
            horizons,
            watermark: reached.filter(|_| reached != self.told.watermark),
            rses,
            scopes,
        };
        self.told.floors = Arc::clone(&self.floors);
        self.told.watermark = reached;
        vec![Box::new(files), Box::new(floors)]
    }

    /// Takes in names.
    pub(super) fn name(&mut self, names: &[DidName]) {
        if !self.names {
            return;
        }
        for name in names {
            let scope = self.words.scopes.number(name.scope.0);
            if let Some(table) = self.tables.get_mut(table_of(name.did)) {
                table.name(name.did, scope, &name.name);
            }
        }
    }

    /// Takes in changes.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for changes in changes.chunks(TOGETHER) {
            let mut hints = [None; TOGETHER];
            for (hint, change) in hints.iter_mut().zip(changes) {
                *hint = self
                    .tables
                    .get(table_of(change.did))
                    .and_then(|table| table.find(change.did));
            }
            let mut touched = 0;
            for (hint, change) in hints.iter().zip(changes) {
                if let (Some(number), Some(table)) = (hint, self.tables.get(table_of(change.did))) {
                    touched ^= table.warm(*number);
                }
            }
            black_box(touched);
            for (hint, change) in hints.into_iter().zip(changes) {
                self.apply_one(change, hint);
            }
        }
    }

    fn apply_one(&mut self, change: &Change, hint: Option<u32>) {
        let scope = self.words.scopes.number(change.scope.0);
        let rse = change.rse.map(|rse| self.words.rses.number(rse.0));
        if let Some(watermark) = &mut self.watermark {
            watermark.see(change.at.0);
        }
        if let Some(table) = self.tables.get_mut(table_of(change.did)) {
            table.apply(change, hint, scope, rse, &self.floors, &mut self.effects);
        }
    }

    /// Takes in complete listings: every replica is looked at, once for all of them.
    pub(super) fn complete(&mut self, completes: &[Complete]) {
        let before = Arc::clone(&self.floors);
        let floors = Arc::make_mut(&mut self.floors);
        let mut newer = false;
        for complete in completes {
            newer |= floors.add(complete, &mut self.words);
        }
        if newer {
            for table in &mut self.tables {
                table.shift_floors(&before, &self.floors, &mut self.effects);
            }
        }
    }

    /// Drops what may be forgotten from one of the tables, when its turn has come.
    pub(super) fn forget(&mut self) {
        let Some(horizon) = self
            .watermark
            .as_mut()
            .and_then(|watermark| watermark.due(TABLES as i64))
        else {
            return;
        };
        self.swept = (self.swept + 1) % TABLES;
        if let Some(table) = self.tables.get_mut(self.swept) {
            table.forget(horizon, &self.floors);
        }
    }

    /// The state as it is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.tables.iter().map(Table::share).collect(),
            self.words.rses.share(),
            self.words.scopes.share(),
            Arc::clone(&self.floors),
            self.tables.iter().map(|table| table.shown).sum(),
        )
    }

    /// The words, to say what happened.
    pub(super) fn told(&mut self) -> (&mut Effects, &Words) {
        (&mut self.effects, &self.words)
    }
}

/// The place of a file among the tables, as snapshots need it.
pub(super) fn place_of(key: DidKey) -> usize {
    table_of(key)
}
