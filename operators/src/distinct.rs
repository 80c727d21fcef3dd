//! Distinct: facts that are counted, each once, however often its event was delivered.
//!
//! ```text
//!   attempts, said --by event id--> seen before? --no--> attempts, said
//!   identities of a checkpoint -------/
//! ```
//!
//! In:    facts, in any order, repeated any number of times; what an earlier run had seen.
//! Out:   the first of each event that arrives, at its epoch; what is of no event passes.
//! State: [`BYTES_PER_EVENT`] bytes, about, for each event of the last `remember` epochs to twice that, or of the
//!        whole run; with checkpoints 16 more for each since the last. What is restored counts as seen just then.
//!
//! Of two copies at different epochs read by two workers either may come first. The facts are equal, so the
//! views are too, once both epochs are complete.

use crate::{
    Epoch,
    checkpoint::{
        Keep, Kind, Merge,
        met::{self, Met},
        restored,
    },
    facts::{Attempt, Said},
};
use dbb_events::EventId;
use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};
use timely::{
    ExchangeData,
    dataflow::{Stream, channels::pact::Exchange, operators::generic::Operator},
};

/// Memory of one remembered identity: 16 bytes and a control byte in a table between half and seven eighths full.
pub const BYTES_PER_EVENT: usize = 28;

/// A fact that must be counted once.
pub trait Counted {
    /// The identities in a checkpoint.
    const KIND: &'static Kind;

    /// The identity of the event that it is a fact of; `None` if it is of none and cannot be repeated.
    fn event(&self) -> Option<EventId>;
}

pub(crate) static ATTEMPTS: Kind = Kind {
    name: "distinct_attempts",
    version: 1,
    merge: Merge::Recent,
};
pub(crate) static SAID: Kind = Kind {
    name: "distinct_said",
    version: 1,
    merge: Merge::Recent,
};

impl Counted for Attempt {
    const KIND: &'static Kind = &ATTEMPTS;

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }
}

impl Counted for Said {
    const KIND: &'static Kind = &SAID;

    fn event(&self) -> Option<EventId> {
        match self {
            Said::Rule(rule) => Some(rule.event),
            Said::Lost(lost) => Some(lost.event),
            // Of either the newest counts, however often it is told.
            Said::Contents(_) | Said::Outcome(_) => None,
        }
    }
}

/// See the module. Events are forgotten when `remember` to twice as many epochs have passed; with `None` never.
pub fn distinct<'s, F>(
    facts: Stream<'s, Epoch, Vec<F>>,
    remember: Option<Epoch>,
    keep: Option<&Keep>,
) -> Stream<'s, Epoch, Vec<F>>
where
    F: Counted + ExchangeData,
{
    let scope = facts.scope();
    let from = keep.and_then(|keep| keep.restored.clone());
    let known = restored(scope, F::KIND, from.clone());
    let mut met = keep.map(|keep| Met::new(F::KIND, remember, keep, scope.worker().index()));
    let by_event = |fact: &F| fact.event().map_or(0, |event| event.0 as u64);
    let (by_event, by_place) = (Exchange::new(by_event), Exchange::new(met::place));
    facts.binary_frontier(known, by_event, by_place, "distinct", move |_, _| {
        let mut seen = Seen::new(remember);
        move |(facts, of_facts), (known, of_known), output| {
            known.for_each_stamp(|stamp, data| {
                seen.advance(stamp.least().copied());
                for row in data.flat_map(|rows| rows.drain(..)) {
                    match (met::event(F::KIND, &row), &from) {
                        (Ok(event), _) => drop(seen.is_new(event)),
                        (Err(damaged), Some(from)) => from.refuse(damaged),
                        (Err(_), None) => {}
                    }
                }
            });
            facts.for_each_stamp(|stamp, data| {
                let epoch = stamp.least().copied();
                seen.advance(epoch);
                let mut session = output.session(&stamp);
                for fact in data.flat_map(|facts| facts.drain(..)) {
                    if let Some(event) = fact.event() {
                        if !seen.is_new(event) {
                            continue;
                        }
                        if let (Some(met), Some(epoch)) = (&mut met, epoch) {
                            met.meets(event, epoch);
                        }
                    }
                    session.give(fact);
                }
            });
            if let Some(met) = &mut met {
                met.offer([of_facts, of_known]);
            }
        }
    })
}

/// The identities of the last while: two tables, of which the older is dropped as a whole.
struct Seen {
    remember: Option<Epoch>,
    since: Epoch,
    young: Ids,
    old: Ids,
}

impl Seen {
    fn new(remember: Option<Epoch>) -> Self {
        Self {
            remember,
            since: 0,
            young: Ids::default(),
            old: Ids::default(),
        }
    }

    fn advance(&mut self, epoch: Option<Epoch>) {
        let (Some(remember), Some(epoch)) = (self.remember, epoch) else {
            return;
        };
        let passed = epoch.saturating_sub(self.since);
        if passed >= remember {
            let older = std::mem::take(&mut self.young);
            // After a silence of twice that long the younger ones are too old as well.
            self.old = if passed >= remember.saturating_mul(2) {
                Ids::default()
            } else {
                older
            };
            self.since = epoch;
        }
    }

    fn is_new(&mut self, event: EventId) -> bool {
        !self.old.contains(event) && self.young.insert(event)
    }
}

/// Identities, in tables small enough that none stops the worker while it grows.
struct Ids {
    tables: [HashSet<EventId, BuildHasherDefault<AsItIs>>; TABLES],
}

const TABLES: usize = 64;

impl Default for Ids {
    fn default() -> Self {
        Self {
            tables: std::array::from_fn(|_| HashSet::default()),
        }
    }
}

impl Ids {
    /// By bits that neither the exchange nor a table goes by.
    fn table(event: EventId) -> usize {
        (event.0 >> 112) as usize % TABLES
    }

    fn contains(&self, event: EventId) -> bool {
        self.tables[Self::table(event)].contains(&event)
    }

    fn insert(&mut self, event: EventId) -> bool {
        self.tables[Self::table(event)].insert(event)
    }
}

/// An identity is a hash already; its upper half is, since workers share out events by the lower.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, identity: u128) {
        self.0 = (identity >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::facts::{Contents, DatasetName, Lost};
    use dbb_events::Micros;
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };
    use timely::dataflow::{
        InputHandle,
        operators::{Input, Inspect},
    };

    fn lost(n: u64) -> Said {
        Said::Lost(Lost {
            did: crate::facts::DidKey::new("raw", &n.to_string()),
            scope: crate::facts::ScopeName::new("raw"),
            name: "x".into(),
            dataset: None,
            at: Micros(0),
            event: EventId::of_bytes(&n.to_le_bytes()),
        })
    }

    /// How often each of the facts came out, given by `workers` which all read the same.
    fn counted(workers: usize, remember: Option<Epoch>, given: &[(Epoch, Said)]) -> BTreeMap<Said, usize> {
        let out = Arc::new(Mutex::new(BTreeMap::new()));
        let (given, result) = (given.to_vec(), Arc::clone(&out));
        timely::execute(timely::Config::process(workers), move |worker| {
            let mut input = InputHandle::<Epoch, _>::new();
            let out = Arc::clone(&out);
            worker.dataflow(|scope| {
                distinct(scope.input_from(&mut input), remember, None).inspect(move |fact: &Said| {
                    *out.lock().unwrap().entry(fact.clone()).or_default() += 1;
                });
            });
            for (epoch, fact) in &given {
                input.advance_to(*epoch);
                input.send(fact.clone());
                worker.step();
            }
        })
        .unwrap()
        .join();
        Arc::try_unwrap(result).unwrap().into_inner().unwrap()
    }

    #[test]
    fn each_event_passes_once_whoever_reads_it() {
        let given: Vec<(Epoch, Said)> = (0..1000).map(|n| (n / 10, lost(n % 300))).collect();
        for workers in [1, 2, 4] {
            let counted = counted(workers, None, &given);
            assert_eq!(counted.len(), 300);
            assert!(counted.values().all(|times| *times == 1), "{workers} workers");
        }
    }

    #[test]
    fn what_is_of_no_event_always_passes() {
        let contents = Said::Contents(Contents {
            dataset: DatasetName::new("raw", "d"),
            at: Micros(0),
            members: Vec::new(),
        });
        let counted = counted(1, None, &[(0, contents.clone()), (1, contents.clone())]);
        assert_eq!(counted[&contents], 2);
    }

    #[test]
    fn an_event_is_known_for_as_long_as_was_said_and_forgotten_after_twice_that() {
        let times = |epochs: &[Epoch]| {
            let given: Vec<_> = epochs.iter().map(|epoch| (*epoch, lost(1))).collect();
            counted(1, Some(10), &given)[&lost(1)]
        };
        assert_eq!(times(&[3, 12]), 1);
        // Dropped with the younger table of its time, and not kept alive by its repeats.
        assert_eq!(times(&[10, 19, 20, 29]), 1);
        assert_eq!(times(&[10, 30]), 2);
        assert_eq!(times(&[10, 10_000]), 2);
    }
}
