//! What dataflows and status pages ask: versions, events that have ended, sums.

use crate::butler::Applied;
use crate::ledger::{
    Ledger, LedgerError, State,
    row::{Reader, joined},
    store::{Lookup, Type::*, Value},
    words::find_dids,
};
use dbb_events::{Did, EventId, Rse};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Rows of one RSE, target and outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// The RSE; empty where it could not be read.
    pub rse: String,
    /// The repository; empty for what was never routed.
    pub target: String,
    /// How they stand.
    pub outcome: State,
    /// How many.
    pub count: u64,
}

const FILES: Lookup = Lookup {
    select: "x.did, x.version, x.outcome, x.uri_tail, x.uuids, (SELECT w.word FROM words w WHERE w.id = x.uri_head), \
             (SELECT w.word FROM words w WHERE w.id = x.rse)",
    table: "files",
    keys: &[("did", Int), ("target", Int)],
    and: "",
};
const STATES: Lookup = Lookup {
    select: "x.event, x.outcome",
    table: "events",
    keys: &[("event", Blob), ("target", Int)],
    and: "",
};

impl Ledger {
    /// What became last of each of these files at `target`.
    pub fn applied(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, Applied>, LedgerError> {
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
        let mut found = HashMap::with_capacity(by_id.len());
        for row in store.lookup(&FILES, keys.collect())? {
            let mut r = Reader::new(row);
            let Some(did) = r.int().and_then(|id| by_id.get(&id)) else {
                continue;
            };
            let version = r.micros().unwrap_or_default();
            let state = r.int().and_then(State::from_code);
            let (tail, uuids, head) = (r.text(), r.blob(), r.text());
            let applied = Applied {
                version,
                state: state.ok_or_else(|| super::row::damaged("outcome"))?,
                uri: joined(head, tail, Some(&did.name)).unwrap_or_default().into(),
                uuids: super::story::uuids(&uuids.unwrap_or_default()).into(),
                rse: r.text().map(Rse::new),
            };
            found.insert(did.clone(), applied);
        }
        Ok(found)
    }

    /// How each of these events stands at `target`; those the ledger does not know are left out.
    pub fn states(
        &mut self,
        target: &str,
        events: &[EventId],
    ) -> Result<HashMap<EventId, State>, LedgerError> {
        self.words.trim();
        let store = &mut *self.store;
        self.words.find(store, std::iter::once(target))?;
        let target = self.words.id(target);
        if target == Value::Null {
            return Ok(HashMap::new());
        }
        let asked: HashSet<EventId> = events.iter().copied().collect();
        let keys = asked
            .iter()
            .map(|event| vec![event.to_bytes()[..].into(), target.clone()]);
        let mut found = HashMap::with_capacity(asked.len());
        for row in store.lookup(&STATES, keys.collect())? {
            if let [Value::Blob(event), Value::Int(code)] = row.as_slice()
                && let (Some(event), Some(state)) = (EventId::from_bytes(event), State::from_code(*code))
            {
                found.insert(event, state);
            }
        }
        Ok(found)
    }

    /// The same for events that have ended well: nothing is left to do for these.
    pub fn finished(
        &mut self,
        target: &str,
        events: &[EventId],
    ) -> Result<HashMap<EventId, State>, LedgerError> {
        let mut states = self.states(target, events)?;
        states.retain(|_, state| state.is_settled());
        Ok(states)
    }

    /// All rows, counted by RSE, target and outcome: reads the whole table.
    pub fn summary(&mut self) -> Result<Vec<Tally>, LedgerError> {
        let sql = "SELECT r.word, t.word, x.outcome, x.n FROM ( \
                     SELECT rse, target, outcome, count(*) AS n FROM events \
                     GROUP BY rse, target, outcome) x \
                   JOIN words t ON t.id = x.target LEFT JOIN words r ON r.id = x.rse";
        let mut tallies = Vec::new();
        for cells in self.store.query(sql, &[])? {
            let mut r = Reader::new(cells);
            let (rse, target) = (r.text().unwrap_or_default(), r.text().unwrap_or_default());
            let outcome = r.int().and_then(State::from_code);
            tallies.push(Tally {
                rse,
                target,
                outcome: outcome.ok_or_else(|| super::row::damaged("outcome"))?,
                count: r.int().unwrap_or(0) as u64,
            });
        }
        tallies.sort();
        Ok(tallies)
    }

    /// Records counted so far, by what became of them, over all partitions.
    pub fn counts(&mut self) -> Result<BTreeMap<String, u64>, LedgerError> {
        let sql = "SELECT w.word, x.n FROM ( \
                     SELECT reason, CAST(sum(n) AS BIGINT) AS n FROM counts GROUP BY reason) x \
                   JOIN words w ON w.id = x.reason";
        let rows = self.store.query(sql, &[])?;
        Ok(rows
            .into_iter()
            .filter_map(|cells| {
                let mut r = Reader::new(cells);
                Some((r.text()?, r.int()? as u64))
            })
            .collect())
    }
}
