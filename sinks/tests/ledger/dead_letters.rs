//! Dead letters as operators handle them.

use crate::support::{On, entry, find, letter, new, on_both, refused};
use dbb_events::{EventId, Micros, Outcome, Reason};
use dbb_sinks::ledger::{Filter, Selection, State};
use std::collections::HashSet;

on_both! {
    they_are_listed_newest_first_page_by_page
    a_retry_makes_them_due_now_with_their_age_begun_anew
    a_retry_while_another_process_writes_disturbs_neither
}

fn they_are_listed_newest_first_page_by_page(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut entries: Vec<_> = (0..6).map(|n| letter(n, "", Reason::Unreadable, 20)).collect();
    entries.push(entry(50, refused(Reason::FileMissing), 20));
    entries.push(entry(51, Outcome::Ingested, 20));
    ledger.write(generation, &entries).unwrap();
    assert_eq!(
        ledger.dead_letters_by_reason().unwrap(),
        [("file_missing".into(), 1), ("unreadable".into(), 6)].into()
    );
    assert_eq!(ledger.dead_letter_count().unwrap(), 7);
    let mut filter = Filter::default();
    let mut seen = Vec::new();
    loop {
        let page = ledger.dead_letters(&filter, 3).unwrap();
        let Some(last) = page.last() else { break };
        filter.before_id = Some(last.id);
        seen.extend(page.iter().map(|row| row.event.0));
    }
    assert_eq!(seen, [50, 5, 4, 3, 2, 1, 0]);
    let missing = Filter {
        reason: Some(Reason::FileMissing),
        ..Filter::default()
    };
    let found = ledger.dead_letters(&missing, 10).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(ledger.row(found[0].id).unwrap().as_ref(), Some(&found[0]));
    let unrouted = Filter {
        target: Some(String::new()),
        ..Filter::default()
    };
    let mut exported = Vec::new();
    ledger
        .export(&unrouted, |row| {
            exported.push(serde_json::to_value(row).unwrap());
            exported.len() < 4
        })
        .unwrap();
    assert_eq!(exported.len(), 4);
    assert_eq!(exported[0]["reason"], "unreadable");
    assert_eq!(exported[0]["body"], "\u{fffd}\0x");
}

fn a_retry_makes_them_due_now_with_their_age_begun_anew(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(
            generation,
            &[
                letter(1, "", Reason::Unmapped, 20),
                entry(2, refused(Reason::FileMissing), 20),
                entry(3, refused(Reason::Butler), 20),
                entry(4, Outcome::Ingested, 20),
            ],
        )
        .unwrap();
    let id = |ledger: &mut _, event| find(ledger, event).unwrap().id;
    let (one, four) = (id(&mut ledger, 1), id(&mut ledger, 4));
    let now = Micros(100);
    assert_eq!(
        ledger.retry(&Selection::Ids(vec![one, four, 999]), now).unwrap(),
        1
    );
    assert_eq!(ledger.retry(&Selection::Reason(Reason::Butler), now).unwrap(), 1);
    let due = ledger.due(now, 10, &HashSet::new()).unwrap();
    let events: Vec<_> = due
        .iter()
        .map(|d| (d.event.0, &*d.target, d.waiting_since))
        .collect();
    assert_eq!(events, [(1, "", None), (3, "main", None)]);
    assert_eq!(&due[0].received.body[..], [0xff, 0, b'x']);
    let row = find(&mut ledger, 3).unwrap();
    assert_eq!((row.outcome, row.attempts), (State::Waiting, 0));
    assert_eq!(
        ledger.attempts(row.id).unwrap()[0].reason.as_deref(),
        Some("butler")
    );
    assert_eq!(ledger.retry(&Selection::All, now).unwrap(), 1);
    assert_eq!(ledger.dead_letter_count().unwrap(), 0);
}

fn a_retry_while_another_process_writes_disturbs_neither(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    for round in 0..10u128 {
        let refuse: Vec<_> = (0..20)
            .map(|n| entry(round * 20 + n, refused(Reason::Butler), 20))
            .collect();
        ledger.write(generation, &refuse).unwrap();
        std::thread::scope(|scope| {
            let retried = scope.spawn(|| place.open().retry(&Selection::All, Micros(100)).unwrap());
            let again: Vec<_> = (0..20)
                .map(|n| entry(round * 20 + n, refused(Reason::Conflict), 200))
                .collect();
            ledger.write(generation, &again).unwrap();
            assert_eq!(retried.join().unwrap(), 20);
        });
        // Whichever came first, both are remembered.
        let events: Vec<EventId> = (0..20).map(|n| EventId(round * 20 + n)).collect();
        assert_eq!(ledger.states("main", &events).unwrap().len(), 20);
        ledger.retry(&Selection::All, Micros(300)).unwrap();
        let end: Vec<_> = (0..20)
            .map(|n| entry(round * 20 + n, Outcome::Ingested, 400))
            .collect();
        ledger.write(generation, &end).unwrap();
    }
}
