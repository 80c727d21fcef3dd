//! Missing: records that a source was to give and had no longer, as part of what every view is based on.
//!
//! In:    losses, from the worker that found them, or from a checkpoint.
//! Out:   for each partition how many are missing and since when, offered at each published epoch.
//! State: that.

use super::{Part, Publisher, kept};
use crate::Epoch;
use dbb_events::Micros;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use timely::dataflow::Stream;

/// The name under which this part is offered.
const MISSING: &str = "(missing)";

/// Records of a partition that nobody has any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lost {
    /// The topic, or the path of the file.
    pub stream: Arc<str>,
    /// The partition of the topic; 0 for files.
    pub partition: i32,
    /// The offset of the first that is missing.
    pub from: u64,
    /// The offset with which the partition goes on.
    pub to: u64,
    /// How many; `None` where nobody can tell.
    // Not left out where there is none: processes tell each other of losses in a form that names no fields.
    #[serde(default)]
    pub records: Option<u64>,
    /// When that was found.
    pub since: Micros,
}

/// What is missing of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// How many records; `None` where nobody can tell.
    pub records: Option<u64>,
    /// When the first of them were found missing.
    pub since: Micros,
}

/// For each topic or file, and partition, of which something is missing, what.
pub type AllMissing = BTreeMap<(Arc<str>, i32), Missing>;

/// Adds a loss to those that are known.
fn add(missing: &mut AllMissing, lost: Lost) {
    let known = missing.entry((lost.stream, lost.partition)).or_insert(Missing {
        records: Some(0),
        since: lost.since,
    });
    known.records = known
        .records
        .zip(lost.records)
        .map(|(known, more)| known.saturating_add(more));
    known.since = known.since.min(lost.since);
}

/// Keeps what readers have found missing, and offers it at each published epoch.
pub fn publish_missing(lost: Stream<'_, Epoch, Vec<Lost>>, publisher: &Arc<Publisher>) {
    let mut missing = AllMissing::new();
    kept(
        lost,
        publisher,
        MISSING,
        |_, epoch| epoch,
        move |lost, _| {
            lost.for_each(|lost| add(&mut missing, lost));
            Part::Missing(missing.clone())
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_a_partition_are_summed_as_long_as_they_can_be_counted() {
        let lost = |records, since| Lost {
            stream: "t".into(),
            partition: 1,
            from: 0,
            to: 0,
            records,
            since: Micros(since),
        };
        let mut missing = AllMissing::new();
        let mut told = |records, since| {
            add(&mut missing, lost(records, since));
            let of = missing[&("t".into(), 1)];
            (of.records, of.since.0)
        };
        assert_eq!(told(Some(3), 20), (Some(3), 20));
        assert_eq!(told(Some(4), 10), (Some(7), 10));
        assert_eq!(told(None, 30), (None, 10));
        assert_eq!(told(Some(1), 40), (None, 10));
    }
}
