//! Merging shards of one kind: each key once, in order, with what all shards together say of it.
//!
//! In:    a base, whose shards follow each other by key, and deltas, the older first.
//! Out:   rows, sorted by key.
//! State: a batch of rows for each delta, and one for the base.

use super::{
    error::CheckpointError,
    manifest::{Role, ShardEntry},
    shard::Reader,
    store::Store,
};
use dbb_operators::checkpoint::Merge;
use std::{collections::VecDeque, ops::RangeInclusive};

/// The rows of some shards that follow each other by key, opened one at a time.
struct Chain {
    reader: Option<Reader>,
    later: VecDeque<ShardEntry>,
}

/// Takes a row: its key, and its value if it is not a removal.
pub(super) type Take<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), CheckpointError> + 'a;

/// See the module.
pub(super) struct Merged {
    store: Store,
    keys: RangeInclusive<u64>,
    merge: Merge,
    /// Rows without a value are given too: they must go on to remove what an older shard has.
    removals: bool,
    /// The older first.
    chains: Vec<Chain>,
    /// Those at the least key, the older first.
    least: Vec<usize>,
}

impl Merged {
    /// The rows of `shards` with a key whose head is among `keys`. With `removals`, rows that remove are given too.
    pub(super) fn new(
        store: &Store,
        shards: &[ShardEntry],
        merge: Merge,
        keys: RangeInclusive<u64>,
        removals: bool,
    ) -> Result<Self, CheckpointError> {
        let of = |role: Role| shards.iter().filter(move |shard| shard.role == role).cloned();
        let base: VecDeque<_> = of(Role::Base).collect();
        let mut chains = Vec::new();
        for later in [base]
            .into_iter()
            .filter(|base| !base.is_empty())
            .chain(of(Role::Delta).map(|delta| VecDeque::from([delta])))
        {
            let mut chain = Chain { reader: None, later };
            chain.open(store, &keys)?;
            chains.push(chain);
        }
        Ok(Self {
            store: store.clone(),
            keys,
            merge,
            removals,
            least: Vec::with_capacity(chains.len()),
            chains,
        })
    }

    /// Gives the next row; false when there are no more.
    pub(super) fn next(&mut self, give: &mut Take<'_>) -> Result<bool, CheckpointError> {
        if !self.find_least() {
            return Ok(false);
        }
        let Self {
            chains, least, merge, ..
        } = self;
        let readers = || least.iter().filter_map(|at| chains[*at].reader.as_ref());
        let Some(newest) = readers().next_back() else {
            return Ok(false);
        };
        match merge {
            Merge::Sum(add) => {
                let mut sum: Option<Vec<u8>> = None;
                for value in readers().filter_map(Reader::value) {
                    sum = match sum {
                        None => Some(value.to_vec()),
                        Some(sum) => add(&sum, value)?,
                    };
                }
                if let Some(sum) = &sum {
                    give(newest.key(), Some(sum))?;
                }
            }
            Merge::Newest | Merge::Recent => {
                let value = newest.value();
                if value.is_some() || self.removals {
                    give(newest.key(), value)?;
                }
            }
        }
        for at in &self.least {
            self.chains[*at].advance(&self.store, &self.keys)?;
        }
        Ok(true)
    }

    /// Finds the chains at the least key; false when all are at their ends.
    fn find_least(&mut self) -> bool {
        self.least.clear();
        let mut least: Option<(u64, &[u8])> = None;
        for (at, chain) in self.chains.iter().enumerate() {
            let Some(reader) = &chain.reader else { continue };
            let Some(head) = reader.head() else { continue };
            if least.is_some_and(|(other, _)| head > other) {
                continue;
            }
            let here = (head, reader.key());
            match least {
                Some(other) if here > other => continue,
                Some(other) if here == other => {}
                _ => {
                    self.least.clear();
                    least = Some(here);
                }
            }
            self.least.push(at);
        }
        least.is_some()
    }
}

impl Chain {
    /// Opens shards until one has a row.
    fn open(&mut self, store: &Store, keys: &RangeInclusive<u64>) -> Result<(), CheckpointError> {
        self.reader = None;
        while let Some(shard) = self.later.pop_front() {
            let reader = Reader::open(store, &shard, keys.clone())?;
            if reader.head().is_some() {
                self.reader = Some(reader);
                break;
            }
        }
        Ok(())
    }

    fn advance(&mut self, store: &Store, keys: &RangeInclusive<u64>) -> Result<(), CheckpointError> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        reader.advance()?;
        if reader.head().is_none() {
            self.open(store, keys)?;
        }
        Ok(())
    }
}
