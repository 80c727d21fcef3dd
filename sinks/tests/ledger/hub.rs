//! Rows of a hub: records on their way to topics.

use crate::support::{On, counted, dead, new, on_both, refused, waiting};
use dbb_events::{
    Again, Class, Dependency, Did, Entry, EventId, Micros, Outcome, Outgoing, Place, Reason, Rse, Sent,
    TOPICS,
};
use dbb_sinks::ledger::State;
use std::collections::HashSet;

on_both! {
    what_a_hub_could_not_publish_comes_back_and_ends_in_the_same_row
    an_unreadable_record_that_was_mended_takes_its_row_along
    what_is_held_goes_on_only_when_it_is_released
}

fn outgoing(event: u128, again: Option<Again>) -> Outgoing {
    Outgoing {
        event: EventId(event),
        place: Place {
            stream: "events".into(),
            partition: 1,
            offset: event as u64,
            line: None,
        },
        event_type: "transfer-done".into(),
        did: Did::new("raw", format!("f{event}")),
        rse: Rse::new("IN2P3"),
        url: Some(format!("davs://door/raw/f{event}").into()),
        source_url: None,
        dataset: None,
        class: Class::Landed,
        labelled: false,
        topic: "IN2P3-raw".into(),
        created_at: Micros(1000),
        landed_at: None,
        appended_at: Some(Micros(7)),
        read_at: Micros(10),
        again,
        body: "with labels".into(),
        source: "as it came".into(),
    }
}

fn sent(event: u128, outcome: Outcome, at: i64, again: Option<Again>) -> Entry {
    Entry::Sent(Box::new(Sent {
        outgoing: outgoing(event, again),
        outcome,
        at: Micros(at),
    }))
}

fn what_a_hub_could_not_publish_comes_back_and_ends_in_the_same_row(on: On) {
    let fresh = new(on);
    let (mut ledger, generation) = fresh.begin();
    let later = waiting(Dependency::Labels, 50, true);
    let entries = [sent(1, later, 20, None), counted(2, &[("landing", 2)])];
    ledger.write(generation, &entries).unwrap();
    assert!(ledger.due(Micros(49), 10, &HashSet::new()).unwrap().is_empty());
    let due = ledger.due(Micros(50), 10, &HashSet::new()).unwrap().remove(0);
    assert_eq!(
        (due.target.as_ref(), due.attempts, due.released),
        (TOPICS, 1, false)
    );
    assert_eq!(due.received.body, "as it came");
    let again = Again {
        event: due.event,
        target: due.target,
        attempts: due.attempts,
        waiting_since: due.waiting_since,
        released: due.released,
    };
    let published = sent(1, Outcome::Published, 60, Some(again));
    ledger
        .write(generation, std::slice::from_ref(&published))
        .unwrap();
    assert_eq!(ledger.write(generation, &[published]).unwrap().repeats, 1);
    let tallies = ledger.summary().unwrap();
    assert_eq!(tallies.len(), 1);
    assert_eq!((tallies[0].outcome, tallies[0].count), (State::Published, 1));
    let did = Did::new("raw", "f1");
    let story = ledger
        .explain(&dbb_sinks::ledger::Selector::Did(did))
        .unwrap()
        .remove(0);
    let (row, history) = &story.events[0];
    assert_eq!(
        (row.kind, row.body.as_ref(), row.waiting_since),
        (None, None, None)
    );
    assert_eq!(history[0].waits_for.as_deref(), Some("labels"));
    assert!(story.files.is_empty(), "no Butler has heard of it");
}

fn an_unreadable_record_that_was_mended_takes_its_row_along(on: On) {
    let fresh = new(on);
    let (mut ledger, generation) = fresh.begin();
    let letter = Entry::DeadLetter(Box::new(dead(1, "", Reason::BadField, 5)));
    ledger.write(generation, &[letter]).unwrap();
    let again = Again {
        event: EventId(1),
        target: "".into(),
        attempts: 0,
        waiting_since: None,
        released: false,
    };
    let refusal = refused(Reason::BadSidecar);
    ledger
        .write(generation, &[sent(1, refusal, 30, Some(again))])
        .unwrap();
    let tallies = ledger.summary().unwrap();
    assert_eq!(tallies.len(), 1, "{tallies:?}");
    assert_eq!(
        (tallies[0].target.as_str(), tallies[0].outcome),
        (TOPICS, State::Refused)
    );
}

fn what_is_held_goes_on_only_when_it_is_released(on: On) {
    let fresh = new(on);
    let (mut ledger, generation) = fresh.begin();
    let held = || waiting(Dependency::Embargo, 1_000_000, false);
    let entries = [
        sent(1, held(), 20, None),
        sent(2, held(), 20, None),
        sent(3, waiting(Dependency::Labels, 1_000_000, false), 20, None),
    ];
    ledger.write(generation, &entries).unwrap();
    assert_eq!(ledger.held(None, 10).unwrap().len(), 2);
    let did = Did::new("raw", "f2");
    assert_eq!(ledger.release(Some(&did), Micros(30)).unwrap(), 1);
    let due = ledger.due(Micros(30), 10, &HashSet::new()).unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].event, due[0].released), (EventId(2), true));
    assert_eq!(
        ledger.release(Some(&did), Micros(31)).unwrap(),
        0,
        "it is released already"
    );
    assert_eq!(ledger.release(None, Micros(32)).unwrap(), 1);
    let classes: Vec<_> = ledger.waiting().unwrap().into_iter().map(|w| w.class).collect();
    assert_eq!(
        classes,
        ["labels".into(), "released".into()] as [std::sync::Arc<str>; 2]
    );
}
