//! Late: a change that comes too late to be judged becomes a dead letter.
//!
//! ```text
//!   late changes --\
//!   names ----------> by DID --> a dead letter with DID, RSE and time, and no event
//! ```
//!
//! In:    changes that no view can judge; names, at the epoch of a change or shortly before.
//! Out:   entries for the ledger: one for each such change, however often it comes.
//! State: the names of the last [`REMEMBERED`] epochs. A file that was named longer ago is told by its key.

use super::work::now;
use dbb_events::{DeadLetter, Did, Entry, EventId, Place, Reason, Rse};
use dbb_operators::{
    Epoch,
    facts::{Change, DidKey, DidName},
};
use std::{collections::BTreeMap, collections::HashMap, fmt::Write as _};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{Stream, channels::pact::Exchange, operators::generic::Operator},
};

/// Epochs for which a name is remembered: a second.
const REMEMBERED: Epoch = 100;

/// What stands for the place of a change: none of a source.
const PLACE: &str = "(views)";

/// See the module. `on_letter` is told of each.
pub(super) fn late<'s>(
    changes: Stream<'s, Epoch, Vec<Change>>,
    names: Stream<'s, Epoch, Vec<DidName>>,
    on_letter: impl Fn(&DeadLetter) + 'static,
) -> Stream<'s, Epoch, Vec<Entry>> {
    let mut known: BTreeMap<Epoch, HashMap<DidKey, Did>> = BTreeMap::new();
    changes.binary::<_, CapacityContainerBuilder<Vec<Entry>>, _, _, _, _>(
        names,
        Exchange::new(|change: &Change| change.did.place()),
        Exchange::new(|name: &DidName| name.did.place()),
        "late",
        move |_capability, _info| {
            move |changes, names, output| {
                names.for_each_stamp(|stamp, data| {
                    let Some(epoch) = stamp.least().copied() else {
                        return;
                    };
                    let named = known.entry(epoch).or_default();
                    for name in data.flat_map(|names| names.drain(..)) {
                        named.insert(name.did, Did::new(name.scope.as_str(), &*name.name));
                    }
                    known = known.split_off(&epoch.saturating_sub(REMEMBERED));
                });
                changes.for_each_stamp(|stamp, data| {
                    let mut session = output.session(&stamp);
                    for change in data.flat_map(|changes| changes.drain(..)) {
                        let did = known.values().rev().find_map(|named| named.get(&change.did));
                        let letter = letter(&change, did.cloned());
                        on_letter(&letter);
                        session.give(Entry::DeadLetter(Box::new(letter)));
                    }
                });
            }
        },
    )
}

fn letter(change: &Change, did: Option<Did>) -> DeadLetter {
    let rse = change.rse.map(|rse| Rse::new(rse.as_str()));
    let mut detail = format!("{} at ", change.state);
    // A string cannot fail to take more.
    let _ = match &rse {
        Some(rse) => write!(detail, "{rse}"),
        None => write!(detail, "every RSE"),
    };
    let _ = write!(
        detail,
        " since {}, told by {}, is older than what is remembered of deleted replicas",
        change.at, change.basis
    );
    if did.is_none() {
        let _ = write!(
            detail,
            "; file {:016x}{:016x} of scope {}",
            change.did.high, change.did.low, change.scope
        );
    }
    let identity = format!(
        "{:016x}{:016x} {} {} {} {}",
        change.did.high,
        change.did.low,
        change.rse.map_or("", |rse| rse.as_str()),
        change.at.0,
        change.state,
        change.basis,
    );
    DeadLetter {
        event: EventId::of_bytes(identity.as_bytes()),
        target: "".into(),
        place: Place {
            stream: PLACE.into(),
            partition: 0,
            offset: 0,
            line: None,
        },
        topic: None,
        event_type: None,
        did,
        rse,
        created_at: Some(change.at),
        at: now(),
        reason: Reason::TooLate,
        detail,
        body: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbb_events::Micros;
    use dbb_operators::facts::{Basis, RseName, ScopeName, State};

    #[test]
    fn a_change_that_is_too_late_names_its_file_its_rse_and_its_time() {
        let change = Change {
            did: DidKey::new("raw", "a.fits"),
            at: Micros(1_000_000),
            tie: 3,
            bytes: 7,
            rse: Some(RseName::new("A_DISK")),
            scope: ScopeName::new("raw"),
            adler32: 0,
            state: State::Available,
            basis: Basis::Event,
        };
        let named = letter(&change, Some(Did::new("raw", "a.fits")));
        assert_eq!(
            named.detail,
            "AVAILABLE at A_DISK since 1970-01-01T00:00:01.000000Z, told by event, is older than what is \
             remembered of deleted replicas"
        );
        let unnamed = letter(&Change { tie: 4, ..change }, None);
        assert!(unnamed.detail.ends_with("of scope raw"), "{}", unnamed.detail);
        assert_eq!(named.event, unnamed.event, "the same change, told again");
        assert_eq!(
            (named.reason, named.created_at),
            (Reason::TooLate, Some(change.at))
        );
    }
}
