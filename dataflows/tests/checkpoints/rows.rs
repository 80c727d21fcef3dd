//! Kinds of state of the tests, random rows of them, and what they come to.

use dbb_operators::{
    Epoch,
    checkpoint::{Damaged, Give, Kind, Merge, Rows, spread},
};
use std::collections::BTreeMap;

pub(crate) static THINGS: Kind = Kind {
    name: "things",
    version: 1,
    merge: Merge::Newest,
};
pub(crate) static SUMS: Kind = Kind {
    name: "sums",
    version: 2,
    merge: Merge::Sum(add),
};
pub(crate) static SEEN: Kind = Kind {
    name: "seen",
    version: 1,
    merge: Merge::Recent,
};
pub(crate) static KINDS: [&Kind; 3] = [&THINGS, &SUMS, &SEEN];

fn number(bytes: &[u8]) -> Result<i64, Damaged> {
    let bytes = bytes.try_into().map_err(|_| Damaged {
        kind: "sums",
        reason: "not eight bytes".into(),
    })?;
    Ok(i64::from_le_bytes(bytes))
}

fn add(a: &[u8], b: &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
    let sum = number(a)? + number(b)?;
    Ok((sum != 0).then(|| sum.to_le_bytes().to_vec()))
}

/// What an operator would hand out.
pub(crate) struct Handed {
    pub(crate) kind: &'static Kind,
    pub(crate) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) remember: Option<Epoch>,
}

impl Rows for Handed {
    fn kind(&self) -> &'static Kind {
        self.kind
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn remember(&self) -> Option<Epoch> {
        self.remember
    }

    fn for_each(self: Box<Self>, give: &mut Give<'_>) {
        for (key, value) in &self.rows {
            give(key, value.as_deref());
        }
    }
}

/// Splitmix64: the same numbers from the same seed.
#[derive(Clone)]
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// The state, folded the plain way.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Fold {
    pub(crate) things: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) sums: BTreeMap<Vec<u8>, i64>,
}

impl Fold {
    pub(crate) fn apply(&mut self, handed: &Handed) {
        for (key, value) in &handed.rows {
            if handed.kind.name == THINGS.name {
                match value {
                    Some(value) => drop(self.things.insert(key.clone(), value.clone())),
                    None => drop(self.things.remove(key)),
                }
            } else if handed.kind.name == SUMS.name {
                let sum = self.sums.entry(key.clone()).or_default();
                *sum += number(value.as_ref().unwrap()).unwrap();
                if *sum == 0 {
                    self.sums.remove(key);
                }
            }
        }
    }

    pub(crate) fn rows(&self, kind: &Kind) -> BTreeMap<Vec<u8>, Vec<u8>> {
        match kind.name {
            "things" => self.things.clone(),
            _ => self
                .sums
                .iter()
                .map(|(key, sum)| (key.clone(), sum.to_le_bytes().to_vec()))
                .collect(),
        }
    }
}

/// Random changes of one process: keys of different processes are others, as if exchanged by key.
pub(crate) fn changes(dice: &mut Dice, process: u64, of: u64, most: u64) -> Vec<Handed> {
    let keys = |dice: &mut Dice| {
        let mut keys: Vec<u64> = (0..dice.roll(most + 1))
            .map(|_| dice.roll(most * 2) * of + process)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    let things = keys(dice).into_iter().map(|key| {
        let value = (dice.roll(3) > 0).then(|| {
            let length = dice.roll(40);
            (0..length).map(|_| dice.roll(256) as u8).collect()
        });
        (spread(&key.to_be_bytes()), value)
    });
    let things = things.collect();
    let sums = keys(dice)
        .into_iter()
        .map(|key| {
            let by = [-2_i64, -1, 1, 2][dice.roll(4) as usize];
            (spread(&key.to_be_bytes()), Some(by.to_le_bytes().to_vec()))
        })
        .collect();
    let handed = |kind, rows| Handed {
        kind,
        rows,
        remember: None,
    };
    vec![handed(&THINGS, things), handed(&SUMS, sums)]
}
