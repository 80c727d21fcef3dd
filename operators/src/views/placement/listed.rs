//! Listed: which files are in the Rucio datasets that policies speak of, by the newest listing of each.
//!
//! ```text
//!   contents --by dataset--> newest listing --> files that came into a policy's datasets, or left them
//! ```
//!
//! In:    what is said, of which contents alone count, in any order, repeated any number of times.
//! Out:   `(file, slot)`, plus or minus one for each dataset that holds the file.
//! State: 16 bytes for each file of each dataset that fits a pattern of a policy.

use super::{book::Word, policy::Policy};
use crate::{
    Epoch,
    facts::{DatasetName, DidKey, Said},
    views::closed::{Closed, Placing, fold_closed},
};
use dbb_events::Micros;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use timely::dataflow::{Stream, operators::vec::Map};
use xxhash_rust::xxh3::xxh3_64;

/// A list of datasets of one policy: those its files must be in, or those they must not be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The place of the policy in the list.
    pub(crate) policy: u16,
    /// It is about `not_in_datasets`.
    pub(crate) excludes: bool,
}

/// A listing of a dataset that some policy speaks of. The newest is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Listing {
    dataset: DatasetName,
    at: Micros,
    members: Vec<DidKey>,
}

/// What is kept of a dataset.
struct Known {
    slots: Vec<Slot>,
    newest: Listing,
}

/// See the module.
pub(crate) fn listed<'s>(
    said: Stream<'s, Epoch, Vec<Said>>,
    policies: Arc<[Policy]>,
) -> Stream<'s, Epoch, Vec<Word>> {
    let spoken_of = Arc::clone(&policies);
    let listings = said.flat_map(move |said| match said {
        Said::Contents(contents) if !slots(&spoken_of, contents.dataset).is_empty() => {
            let members: BTreeSet<DidKey> = contents.members.iter().map(|(did, _)| *did).collect();
            Some(Listing {
                dataset: contents.dataset,
                at: contents.at,
                members: members.into_iter().collect(),
            })
        }
        _ => None,
    });
    let mut known: HashMap<DatasetName, Known> = HashMap::new();
    fold_closed(
        listings,
        "listed",
        Placing {
            exchange: |listing| xxh3_64(listing.dataset.name.as_bytes()),
            epoch: |_| None,
        },
        move |Closed { mut records, .. }, words| {
            // Only the newest of an epoch's listings of one dataset makes a difference.
            records.sort_unstable_by(|a, b| b.cmp(a));
            records.dedup_by_key(|listing| listing.dataset);
            for listing in records {
                let known = known.entry(listing.dataset).or_insert_with(|| Known {
                    slots: slots(&policies, listing.dataset),
                    newest: Listing {
                        dataset: listing.dataset,
                        at: Micros(i64::MIN),
                        members: Vec::new(),
                    },
                });
                if listing <= known.newest {
                    continue;
                }
                let of_all = |did: DidKey, times: isize| {
                    let slots = known.slots.iter();
                    slots.map(move |slot| Word::Member(did, *slot, times))
                };
                let (old, new) = (&known.newest.members, &listing.members);
                let left = old.iter().filter(|did| new.binary_search(did).is_err());
                words.extend(left.flat_map(|did| of_all(*did, -1)));
                let came = new.iter().filter(|did| old.binary_search(did).is_err());
                words.extend(came.flat_map(|did| of_all(*did, 1)));
                known.newest = listing;
            }
        },
    )
}

/// The lists that `dataset` fits.
fn slots(policies: &[Policy], dataset: DatasetName) -> Vec<Slot> {
    if policies
        .iter()
        .all(|policy| policy.in_datasets.is_empty() && policy.not_in_datasets.is_empty())
    {
        return Vec::new();
    }
    let text = dataset.to_string();
    let mut slots = Vec::new();
    for (at, policy) in (0..).zip(policies) {
        for (patterns, excludes) in [(&policy.in_datasets, false), (&policy.not_in_datasets, true)] {
            if patterns.iter().any(|pattern| pattern.matches(&text)) {
                slots.push(Slot { policy: at, excludes });
            }
        }
    }
    slots
}
