//! What enters the ledger by an operator's hand: files from before it was kept, and events that were never read.

use crate::ledger::{
    Generation, Ledger, LedgerError, State,
    fold::{FileState, Plan},
    row::Reader,
    store::{Lookup, Type::*, Value},
    words::find_dids,
};
use dbb_events::{Did, Entry, EventId, Micros, Rse};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// A file that a Butler has, and no event told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The file.
    pub did: Did,
    /// Where its replica is.
    pub rse: Rse,
    /// When that was known; an older event of it is superseded.
    pub version: Micros,
    /// Where the Butler has it.
    pub uri: String,
    /// The datasets in it.
    pub uuids: Vec<Uuid>,
}

const OPEN: Lookup = Lookup {
    select: "x.did, x.outcome",
    table: "events",
    keys: &[("did", Int), ("target", Int)],
    and: " AND x.outcome IN (5, 6)",
};

impl Ledger {
    /// Makes these files of `target` known, as far as nothing is known of them. Returns how many are new.
    ///
    /// A running `dbb` is held up meanwhile, as by any other transaction; what it knows stays.
    pub fn seed(&mut self, target: &str, files: &[Seed], now: Micros) -> Result<u64, LedgerError> {
        let target: Arc<str> = target.into();
        self.transaction(None, |ledger| {
            let dids: Vec<Did> = files.iter().map(|file| file.did.clone()).collect();
            let known = ledger.applied(&target, &dids)?;
            let mut plan = Plan::default();
            for file in files.iter().filter(|file| !known.contains_key(&file.did)) {
                let state = FileState {
                    version: file.version,
                    event: EventId::of_bytes(file.did.to_string().as_bytes()),
                    state: State::AlreadyThere,
                    uri: file.uri.clone(),
                    rse: Some(file.rse.clone()),
                    uuids: file.uuids.clone(),
                    updated_at: now,
                };
                plan.files.insert((Arc::clone(&target), file.did.clone()), state);
            }
            ledger.carry_out(&plan)?;
            Ok(plan.files.len() as u64)
        })
    }

    /// Adds events that wait, as if they had been read and tried: once they are due a running `dbb` takes them up.
    /// Returns how many rows are new or changed.
    pub fn add_waiting(&mut self, entries: &[Entry]) -> Result<u64, LedgerError> {
        self.transaction(None, |ledger| {
            let newest = Generation(ledger.ids.peek("generation"));
            let plan = ledger.fold(newest, entries)?;
            ledger.carry_out(&plan)?;
            Ok(plan.rows.len() as u64)
        })
    }

    /// Of these files those that have an event at `target` which waits, or was refused.
    pub fn open_events(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, State>, LedgerError> {
        self.words.trim();
        let store = &mut *self.store;
        self.words.find(store, std::iter::once(target))?;
        let target = self.words.id(target);
        if target == Value::Null {
            return Ok(HashMap::new());
        }
        let asked: HashSet<&Did> = dids.iter().collect();
        let ids = find_dids(store, &mut self.words, &asked)?;
        let by_id: HashMap<i64, Did> = ids.into_iter().map(|(did, id)| (id, did)).collect();
        let keys = by_id.keys().map(|id| vec![Value::Int(*id), target.clone()]);
        let mut found = HashMap::new();
        for cells in store.lookup(&OPEN, keys.collect())? {
            let mut r = Reader::new(cells);
            let did = r.int().and_then(|id| by_id.get(&id));
            if let (Some(did), Some(state)) = (did, r.int().and_then(State::from_code)) {
                let known = found.entry(did.clone()).or_insert(state);
                // One that waits may still come to its end.
                *known = state.min(*known);
            }
        }
        Ok(found)
    }
}
