//! What a batch makes of the rows that are there.

mod files;
mod waiting;

use crate::support::{
    On, arrival, counted, dimension, entry, find, letter, new, on_both, refused, request, settled, waiting,
};
use dbb_events::{
    Action, Dependency, Did, Due, Entry, EventId, Incarnation, Micros, Outcome, Position, Reason, Rse,
};
use dbb_sinks::ledger::{Ledger, Selection, State};
use std::collections::HashSet;

on_both! {
    a_row_tells_everything_the_answer_told
    a_later_answer_does_not_change_what_ended_well
    what_waits_or_was_refused_is_overwritten
    only_attempts_that_count_are_counted
    a_repeated_write_after_a_lost_acknowledgement_changes_nothing
    a_routed_event_takes_the_place_of_its_unrouted_dead_letter
    an_unrouted_dead_letter_ends_even_where_its_event_had_ended_before
    a_dead_letter_keeps_what_an_earlier_answer_told
    records_read_twice_are_counted_once
    offsets_come_back_as_they_were_stored
    text_that_no_database_takes_is_taken
    finished_leaves_out_what_waits_and_what_was_refused
    old_rows_go_and_what_waits_stays
}

fn no_skip() -> HashSet<(EventId, std::sync::Arc<str>)> {
    HashSet::new()
}

fn due(ledger: &mut Ledger, now: i64) -> Vec<u128> {
    let due = ledger.due(Micros(now), 100, &no_skip()).unwrap();
    due.into_iter().map(|due| due.event.0).collect()
}

fn a_row_tells_everything_the_answer_told(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let written = ledger
        .write(generation, &[entry(5, Outcome::Ingested, 20)])
        .unwrap();
    assert_eq!(written.rows[&State::Ingested], 1);
    let row = find(&mut ledger, 5).unwrap();
    let asked = request(5, "f5");
    assert_eq!(row.target, asked.target);
    assert_eq!(row.place, asked.place);
    assert_eq!(row.topic, asked.topic);
    assert_eq!(row.event_type, Some(asked.event_type));
    assert_eq!(row.did, Some(asked.did));
    assert_eq!(row.rse, Some(asked.rse));
    assert_eq!(row.kind, asked.action.kind());
    assert_eq!(row.created_at, Some(asked.created_at));
    assert_eq!(row.url.as_deref(), Some(&*asked.url));
    assert_eq!(row.uri.as_deref(), Some(&*asked.uri));
    assert_eq!(row.outcome, State::Ingested);
    assert_eq!(row.verified.as_deref(), Some("size"));
    assert_eq!((row.first_seen_at, row.updated_at), (Micros(10), Micros(20)));
    assert_eq!(row.generation, generation.0);
    assert_eq!((row.reason, row.detail, row.body), (None, None, None));
}

fn a_later_answer_does_not_change_what_ended_well(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let finals = [
        Outcome::Ingested,
        Outcome::AlreadyThere,
        Outcome::AlreadyThereElsewhere { uri: "/else".into() },
        Outcome::Superseded { by: Micros(9) },
    ];
    for (event, outcome) in finals.iter().enumerate() {
        let event = event as u128;
        ledger
            .write(generation, &[entry(event, outcome.clone(), 20)])
            .unwrap();
        let before = find(&mut ledger, event).unwrap();
        for later in [
            refused(Reason::Butler),
            waiting(Dependency::Time, 99, true),
            Outcome::AlreadyThere,
        ] {
            let written = ledger.write(generation, &[entry(event, later, 30)]).unwrap();
            assert_eq!(written.repeats, 1);
        }
        let written = ledger
            .write(generation, &[letter(event, "main", Reason::BadField, 40)])
            .unwrap();
        assert_eq!(written.repeats, 1);
        assert_eq!(find(&mut ledger, event).unwrap(), before);
        assert!(ledger.attempts(before.id).unwrap().is_empty());
    }
}

fn what_waits_or_was_refused_is_overwritten(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let steps = [
        waiting(dimension("exposure/X/1"), 50, true),
        refused(Reason::WaitedTooLong),
        waiting(Dependency::Repository, 60, false),
        Outcome::AlreadyThere,
    ];
    // One by one, and all in one batch: the same row and the same history.
    for (at, step) in steps.iter().enumerate() {
        ledger
            .write(generation, &[entry(1, step.clone(), 20 + at as i64)])
            .unwrap();
    }
    let all: Vec<Entry> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| entry(2, step.clone(), 20 + at as i64))
        .collect();
    ledger.write(generation, &all).unwrap();
    for event in [1, 2] {
        let row = find(&mut ledger, event).unwrap();
        assert_eq!(row.outcome, State::AlreadyThere);
        assert_eq!((row.body, row.waits_for, row.waiting_since), (None, None, None));
        let history = ledger.attempts(row.id).unwrap();
        let told: Vec<_> = history
            .iter()
            .map(|a| (a.at.0, a.outcome, a.reason.as_deref(), a.waits_for.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (20, State::Waiting, None, Some("dimension:exposure/X/1")),
                (21, State::Refused, Some("waited_too_long"), None),
                (22, State::Waiting, None, Some("repository")),
            ]
        );
    }
}

fn only_attempts_that_count_are_counted(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    for (at, counts) in [(20, false), (21, true), (22, false), (23, true)] {
        ledger
            .write(
                generation,
                &[entry(1, waiting(Dependency::Time, at + 5, counts), at)],
            )
            .unwrap();
    }
    let row = find(&mut ledger, 1).unwrap();
    assert_eq!((row.attempts, row.waiting_since), (2, Some(Micros(20))));
    assert_eq!(row.not_before, Some(Micros(28)));
    // The same wait again and again is one outcome.
    assert!(ledger.attempts(row.id).unwrap().is_empty());
}

fn a_repeated_write_after_a_lost_acknowledgement_changes_nothing(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let batch = [
        entry(1, waiting(Dependency::Time, 50, true), 20),
        entry(2, refused(Reason::Butler), 20),
        counted(10, &[("events", 2)]),
    ];
    ledger.write(generation, &batch).unwrap();
    let before = (find(&mut ledger, 1), find(&mut ledger, 2));
    let written = ledger.write(generation, &batch).unwrap();
    assert_eq!(written.repeats, 2);
    assert_eq!((find(&mut ledger, 1), find(&mut ledger, 2)), before);
    assert_eq!(ledger.counts().unwrap()["events"], 2);
}

fn a_routed_event_takes_the_place_of_its_unrouted_dead_letter(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(generation, &[letter(1, "", Reason::Unmapped, 20)])
        .unwrap();
    let mut routed = settled(request(1, "f1"), Outcome::Ingested, 30);
    routed.request.was_unrouted = true;
    ledger
        .write(generation, &[Entry::Settled(Box::new(routed))])
        .unwrap();
    assert!(ledger.states("", &[EventId(1)]).unwrap().is_empty());
    let row = find(&mut ledger, 1).unwrap();
    assert_eq!((&*row.target, row.outcome), ("main", State::Ingested));
    let history = ledger.attempts(row.id).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].reason.as_deref(), Some("unmapped"));
}

/// Whoever routes it, and when: a retry, or the record read again under a configuration that knows more.
fn an_unrouted_dead_letter_ends_even_where_its_event_had_ended_before(on: On) {
    for was_unrouted in [true, false] {
        let place = new(on);
        let (mut ledger, generation) = place.begin();
        let routed = |outcome, at| {
            let mut routed = settled(request(1, "f1"), outcome, at);
            routed.request.was_unrouted = was_unrouted;
            Entry::Settled(Box::new(routed))
        };
        let unrouted = |event| letter(event, "", Reason::UnknownPrefix, 20);
        ledger
            .write(generation, &[routed(Outcome::Ingested, 30), unrouted(2)])
            .unwrap();
        // As programs before this one left it: two rows of one event.
        place.execute(
            "UPDATE events SET event = (SELECT event FROM events WHERE outcome = 1) WHERE outcome = 6",
        );
        if was_unrouted {
            let selection = Selection::Reason(Reason::UnknownPrefix);
            assert_eq!(ledger.retry(&selection, Micros(40)).unwrap(), 1);
        }
        ledger
            .write(generation, &[routed(Outcome::AlreadyThere, 50)])
            .unwrap();
        assert!(ledger.states("", &[EventId(1)]).unwrap().is_empty());
        assert!(ledger.due(Micros(1000), 10, &HashSet::new()).unwrap().is_empty());
        let row = find(&mut ledger, 1).unwrap();
        assert_eq!((&*row.target, row.outcome), ("main", State::Ingested));
        // And a configuration that knows less again begins no second story.
        let written = ledger.write(generation, &[unrouted(1)]).unwrap();
        assert_eq!(written.repeats, 1);
        assert!(ledger.states("", &[EventId(1)]).unwrap().is_empty());
        assert_eq!(ledger.dead_letter_count().unwrap(), 0);
    }
}

fn a_dead_letter_keeps_what_an_earlier_answer_told(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let first = |event| entry(event, waiting(Dependency::Time, 50, true), 20);
    ledger.write(generation, &[first(1)]).unwrap();
    ledger
        .write(
            generation,
            &[
                letter(1, "main", Reason::BadField, 30),
                first(2),
                letter(2, "main", Reason::BadField, 30),
            ],
        )
        .unwrap();
    for event in [1, 2] {
        let row = find(&mut ledger, event).unwrap();
        let asked = request(event, &format!("f{event}"));
        assert_eq!(row.outcome, State::Refused);
        assert_eq!(row.reason.as_deref(), Some("bad_field"));
        assert_eq!(row.place, asked.place);
        assert_eq!(row.did, Some(asked.did));
        assert_eq!(row.url.as_deref(), Some(&*asked.url));
        assert_eq!(row.body.as_deref(), Some(&[0xff, 0, b'x'][..]));
    }
}

fn records_read_twice_are_counted_once(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(generation, &[counted(10, &[("events", 8), ("not_our_type", 2)])])
        .unwrap();
    ledger
        .write(
            generation,
            &[
                counted(10, &[("events", 8)]),
                counted(7, &[("events", 3)]),
                counted(12, &[("events", 2)]),
                counted(12, &[("events", 2)]),
            ],
        )
        .unwrap();
    let counts = ledger.counts().unwrap();
    assert_eq!((counts["events"], counts["not_our_type"]), (10, 2));
    assert_eq!(ledger.counted_to().unwrap()[&("IN2P3-raw".into(), 3)].next, 12);
}

fn offsets_come_back_as_they_were_stored(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    assert!(ledger.handled_to().unwrap().is_empty());
    let at = |next: u64| Position::new(Incarnation::of(next.into()), next);
    ledger
        .write(generation, &[counted(10, &[("events", 1)])])
        .unwrap();
    let first = [(("IN2P3-raw".into(), 3), at(5)), (("/logs/a".into(), 0), at(700))].into();
    ledger.store_handled(generation, &first).unwrap();
    ledger
        .store_handled(generation, &[(("/logs/a".into(), 0), at(900))].into())
        .unwrap();
    let stored = place.open().handled_to().unwrap();
    assert_eq!(stored[&("IN2P3-raw".into(), 3)], at(5));
    assert_eq!(stored[&("/logs/a".into(), 0)], at(900));
    assert_eq!(ledger.counted_to().unwrap().len(), 1);
}

fn text_that_no_database_takes_is_taken(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let long = "é\0'\"$1?1".repeat(20_000);
    let mut odd = settled(request(1, &long), waiting(dimension(&long), 9000, true), 20);
    odd.request.rse = dbb_events::Rse::new(&*long);
    odd.request.event_type = long.as_str().into();
    odd.request.place.stream = long.as_str().into();
    odd.request.place.offset = u64::MAX;
    odd.request.created_at = Micros(i64::MIN);
    let mut big = crate::support::dead(2, &long, Reason::Unreadable, 20);
    big.detail = long.clone();
    big.body = vec![b'x'; (1 << 20) + 5].into();
    let entries = [
        Entry::Settled(Box::new(odd.clone())),
        Entry::DeadLetter(Box::new(big)),
    ];
    ledger.write(generation, &entries).unwrap();
    ledger.write(generation, &entries).unwrap();
    // Found again, though it is stored shortened.
    let mut arrived = settled(request(3, "dim"), Outcome::Ingested, 30);
    arrived.provides = vec![dimension(&long).key().into()];
    let written = ledger
        .write(generation, &[Entry::Settled(Box::new(arrived))])
        .unwrap();
    assert_eq!(written.woken, 1);
    odd.outcome = Outcome::Ingested;
    odd.at = Micros(40);
    ledger
        .write(generation, &[Entry::Settled(Box::new(odd.clone()))])
        .unwrap();
    let applied = ledger
        .applied("main", std::slice::from_ref(&odd.request.did))
        .unwrap();
    assert_eq!(applied[&odd.request.did].version, Micros(i64::MIN));
    let row = find(&mut ledger, 2).unwrap();
    assert_eq!(row.body.map(|body| body.len()), Some(1 << 20));
    assert!(row.detail.unwrap().len() <= 4000);
}

fn finished_leaves_out_what_waits_and_what_was_refused(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(
            generation,
            &[
                entry(1, Outcome::Ingested, 20),
                entry(2, waiting(Dependency::Time, 1, false), 20),
                entry(3, refused(Reason::Butler), 20),
            ],
        )
        .unwrap();
    let asked = [EventId(1), EventId(2), EventId(3), EventId(4)];
    let finished = ledger.finished("main", &asked).unwrap();
    assert_eq!(finished, [(EventId(1), State::Ingested)].into());
    assert_eq!(ledger.states("main", &asked).unwrap().len(), 3);
    let tallies = ledger.summary().unwrap();
    let told: Vec<_> = tallies
        .iter()
        .map(|t| (t.rse.as_str(), t.target.as_str(), t.outcome, t.count))
        .collect();
    assert_eq!(
        told,
        [
            ("IN2P3", "main", State::Ingested, 1),
            ("IN2P3", "main", State::Waiting, 1),
            ("IN2P3", "main", State::Refused, 1),
        ]
    );
}

fn old_rows_go_and_what_waits_stays(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let entries: Vec<Entry> = (0..50)
        .map(|n| match n % 5 {
            0 => entry(n, waiting(Dependency::Time, 1, false), 20),
            1 => entry(n, refused(Reason::Butler), 20),
            2 => entry(n, Outcome::Superseded { by: Micros(3) }, 20),
            _ => entry(n, Outcome::Ingested, if n < 25 { 20 } else { 2000 }),
        })
        .collect();
    ledger.write(generation, &entries).unwrap();
    // One of them has a history.
    ledger
        .write(generation, &[entry(0, Outcome::Ingested, 30)])
        .unwrap();
    let mut gone = 0;
    for _ in 0..100 {
        let pruned = ledger.prune(generation, Micros(1000), 7).unwrap();
        gone += pruned.rows;
        if pruned.finished {
            break;
        }
    }
    // 10 superseded, 10 ingested early, and the one that had waited.
    assert_eq!(gone, 21);
    assert_eq!(find(&mut ledger, 0), None);
    assert_eq!(find(&mut ledger, 5).unwrap().outcome, State::Waiting);
    assert_eq!(find(&mut ledger, 1).unwrap().outcome, State::Refused);
    assert_eq!(find(&mut ledger, 28).unwrap().outcome, State::Ingested);
    // The state of the file outlives its event.
    let did = Did::new("raw", "f3");
    assert!(ledger.applied("main", &[did]).unwrap().len() == 1);
}
