//! Lanes: which partition a record is for, and how far each is numbered.
//!
//! ```text
//!   SCOPE:NAME --murmur2--> partition, as Kafka's own clients choose it
//!   published -----------> Lanes: the last number that the brokers have confirmed --> heartbeats, resending
//! ```
//!
//! State: a name and a number for each lane.

use dbb_events::{Lane, Rse};
use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// The partition of a key among `partitions`, as the default of Kafka's Java client has it.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff;
    (hash % partitions.max(1) as u32) as i32
}

/// How far each lane is numbered; shared by the sink and the threads beside it.
#[derive(Debug, Clone, Default)]
pub struct Lanes(Arc<RwLock<BTreeMap<Lane, Standing>>>);

/// How far a lane is numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose topic it is.
    pub rse: Rse,
    /// The last number that the brokers have confirmed; 0 before the first.
    pub confirmed: u64,
}

impl Lanes {
    /// All of them.
    pub fn all(&self) -> Vec<(Lane, Standing)> {
        self.read()
            .iter()
            .map(|(lane, standing)| (lane.clone(), standing.clone()))
            .collect()
    }

    /// How far one of them is numbered.
    pub fn get(&self, lane: &Lane) -> Option<Standing> {
        self.read().get(lane).cloned()
    }

    pub(super) fn confirm(&self, lane: &Lane, rse: &Rse, last: u64) {
        let mut lanes = self.write();
        match lanes.get_mut(lane) {
            Some(standing) => standing.confirmed = standing.confirmed.max(last),
            None => {
                let standing = Standing {
                    rse: rse.clone(),
                    confirmed: last,
                };
                lanes.insert(lane.clone(), standing);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Lane, Standing>> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Lane, Standing>> {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_hash_that_kafkas_own_tests_name() {
        let hashes = [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in hashes {
            assert_eq!(
                murmur2::murmur2(key.as_bytes(), murmur2::KAFKA_SEED) as i32,
                hash,
                "{key}"
            );
            assert_eq!(partition_of(key.as_bytes(), 7), (hash & 0x7fff_ffff) % 7);
        }
    }
}
