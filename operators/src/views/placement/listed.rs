//! Listed: which files are in the Rucio datasets that policies speak of, by the newest listing of each.
//!
//! ```text
//!   listings --by dataset--> the newest --> files that came into a policy's datasets, or left them
//! ```
//!
//! In:    listings of contents, in any order, repeated any number of times.
//! Out:   `(file, slot)`, plus or minus one for each dataset that holds the file.
//! State: 16 bytes for each file of each dataset that fits a pattern of a policy.

use super::{book::Word, policy::Policy};
use crate::{
    Epoch,
    facts::{DatasetName, DidKey},
    views::{
        closed::{Closed, Placing, fold_closed},
        listings::Listing,
        newest::Newest,
    },
};
use dbb_events::Micros;
use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};
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

/// A listing of a dataset that some policy speaks of, and the epoch it is of.
type Told = (DatasetName, Listing, Epoch);

/// What is kept of a dataset.
struct Known {
    slots: Vec<Slot>,
    newest: Listing,
}

/// See the module.
pub(crate) fn listed<'s>(
    listings: VecCollection<'s, Epoch, DatasetName, Listing>,
    policies: Arc<[Policy]>,
) -> Stream<'s, Epoch, Vec<Word>> {
    let spoken_of = Arc::clone(&policies);
    let listings = listings.inner.flat_map(move |(dataset, epoch, listing)| {
        (!slots(&spoken_of, dataset).is_empty()).then_some((dataset, listing, epoch))
    });
    let mut known: HashMap<DatasetName, Known> = HashMap::new();
    fold_closed(
        listings,
        "listed",
        Placing {
            exchange: |(dataset, ..): &Told| xxh3_64(dataset.name.as_bytes()),
            epoch: |(.., epoch)| Some(*epoch),
        },
        move |Closed { mut records, .. }, words| {
            // Only the newest of an epoch's listings of one dataset makes a difference.
            records.sort_unstable_by(|a, b| b.cmp(a));
            records.dedup_by_key(|(dataset, ..)| *dataset);
            for (dataset, listing, _) in records {
                let known = known.entry(dataset).or_insert_with(|| Known {
                    slots: slots(&policies, dataset),
                    newest: Newest((Micros(i64::MIN), Vec::new())),
                });
                if listing <= known.newest {
                    continue;
                }
                let of_all = |did: DidKey, times: isize| {
                    let slots = known.slots.iter();
                    slots.map(move |slot| Word::Member(did, *slot, times))
                };
                let (Newest((_, old)), Newest((_, new))) = (&known.newest, &listing);
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
