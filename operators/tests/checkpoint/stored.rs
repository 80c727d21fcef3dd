//! Checkpoints as they would be stored: bytes in a map, merged as each kind says.

use dbb_operators::{
    Epoch,
    checkpoint::{Collected, Damaged, Kind, Merge, Restored, Row},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

type Value = (Epoch, Option<Epoch>, Vec<u8>);

/// All rows of the newest checkpoint.
#[derive(Default, Clone)]
pub(crate) struct Stored {
    epoch: Option<Epoch>,
    kinds: BTreeMap<&'static str, BTreeMap<Vec<u8>, Value>>,
    pub(crate) refused: Arc<Mutex<Vec<Damaged>>>,
}

impl Stored {
    /// Takes in what changed.
    pub(crate) fn take(&mut self, collected: Collected) {
        let epoch = collected.epoch;
        assert!(self.epoch < Some(epoch), "checkpoints come in order");
        self.epoch = Some(epoch);
        // Of one key, at most one worker has a row of these kinds.
        let mut newest: BTreeSet<(&str, Vec<u8>)> = BTreeSet::new();
        for rows in collected.rows {
            let (kind, remember) = (rows.kind(), rows.remember());
            let stored = self.kinds.entry(kind.name).or_default();
            let mut seen = BTreeSet::new();
            rows.for_each(&mut |key, value| {
                assert!(seen.insert(key.to_vec()), "{} has a key twice", kind.name);
                match (&kind.merge, value) {
                    (Merge::Newest, value) => {
                        assert!(newest.insert((kind.name, key.to_vec())));
                        match value {
                            Some(value) => drop(stored.insert(key.to_vec(), (epoch, None, value.to_vec()))),
                            None => drop(stored.remove(key)),
                        }
                    }
                    (Merge::Sum(add), value) => {
                        let value = value.unwrap();
                        let sum = match stored.get(key) {
                            Some((_, _, known)) => add(known, value).unwrap(),
                            None => Some(value.to_vec()),
                        };
                        match sum {
                            Some(sum) => drop(stored.insert(key.to_vec(), (epoch, None, sum))),
                            None => drop(stored.remove(key)),
                        }
                    }
                    (Merge::Recent, value) => {
                        let value = value.unwrap().to_vec();
                        stored.insert(key.to_vec(), (epoch, remember, value));
                    }
                }
            });
        }
        for rows in self.kinds.values_mut() {
            rows.retain(|_, (at, remember, _)| remember.is_none_or(|remember| *at + remember >= epoch));
        }
    }

    /// True with anything in it.
    pub(crate) fn is_any(&self) -> bool {
        self.epoch.is_some()
    }

    /// How many rows of this kind.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.kinds.get(kind).map_or(0, BTreeMap::len)
    }

    /// Cuts off the end of a value.
    pub(crate) fn damage(&mut self, kind: &str) {
        let rows = self.kinds.get_mut(kind).unwrap();
        let (_, _, value) = rows.values_mut().next().unwrap();
        value.truncate(value.len() / 2);
    }
}

impl Restored for Stored {
    fn epoch(&self) -> Epoch {
        self.epoch.unwrap()
    }

    fn rows(&self, kind: &'static Kind, share: usize, of: usize) -> Box<dyn Iterator<Item = Row> + Send> {
        let rows: Vec<Row> = self
            .kinds
            .get(kind.name)
            .into_iter()
            .flatten()
            .skip(share)
            .step_by(of)
            .map(|(key, (_, _, value))| (key.clone(), value.clone()))
            .collect();
        Box::new(rows.into_iter())
    }

    fn refuse(&self, damaged: Damaged) {
        self.refused.lock().unwrap().push(damaged);
    }
}
