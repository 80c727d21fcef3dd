//! What a ledger knows of a file: its newest version, and that it is gone.

use super::*;

on_both! {
    the_newest_version_of_a_file_stays_whatever_the_order
    only_applied_outcomes_are_a_files_state
    a_file_that_is_gone_keeps_what_it_was_registered_as
    that_one_replica_is_gone_says_nothing_of_another
}

fn the_newest_version_of_a_file_stays_whatever_the_order(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let version = |event: u128, created_at: i64| {
        let mut settled = settled(request(event, "same"), Outcome::Ingested, 20);
        settled.request.created_at = Micros(created_at);
        Entry::Settled(Box::new(settled))
    };
    let did = Did::new("raw", "same");
    let applied = |ledger: &mut Ledger| {
        ledger
            .applied("main", std::slice::from_ref(&did))
            .unwrap()
            .get(&did)
            .map(|applied| applied.version)
    };
    assert_eq!(applied(&mut ledger), None);
    ledger.write(generation, &[version(1, 500)]).unwrap();
    ledger
        .write(generation, &[version(2, 400), version(3, 600), version(4, 300)])
        .unwrap();
    assert_eq!(applied(&mut ledger), Some(Micros(600)));
    ledger.write(generation, &[version(5, 599)]).unwrap();
    assert_eq!(applied(&mut ledger), Some(Micros(600)));
    assert!(ledger.applied("nowhere", &[did]).unwrap().is_empty());
}

fn only_applied_outcomes_are_a_files_state(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(
            generation,
            &[
                entry(1, Outcome::Superseded { by: Micros(1) }, 20),
                entry(2, waiting(Dependency::Time, 1, false), 20),
                entry(3, refused(Reason::Butler), 20),
                entry(4, Outcome::AlreadyThereElsewhere { uri: "/x/f4".into() }, 20),
            ],
        )
        .unwrap();
    let dids: Vec<Did> = (1..5).map(|n| Did::new("raw", format!("f{n}"))).collect();
    let applied = ledger.applied("main", &dids).unwrap();
    assert_eq!(applied.keys().collect::<Vec<_>>(), [&dids[3]]);
}

fn removal(event: u128, created_at: i64, outcome: Outcome) -> Entry {
    let mut settled = settled(request(event, "same"), outcome, 20);
    settled.request.created_at = Micros(created_at);
    settled.request.action = Action::Remove;
    settled.request.url = "".into();
    settled.request.uri = "".into();
    settled.uuids.clear();
    Entry::Settled(Box::new(settled))
}

fn a_file_that_is_gone_keeps_what_it_was_registered_as(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let did = Did::new("raw", "same");
    let landing = |event: u128, created_at: i64, outcome: Outcome| {
        let mut settled = settled(request(event, "same"), outcome, 20);
        settled.request.created_at = Micros(created_at);
        Entry::Settled(Box::new(settled))
    };
    let elsewhere = Outcome::AlreadyThereElsewhere {
        uri: "file:///data/raw/same".into(),
    };
    let kept = Outcome::KeptElsewhere { uri: "/else".into() };
    // Each in a batch of its own, and all in one.
    for batches in [1, 5] {
        let entries = [
            landing(1, 10, Outcome::Ingested),
            landing(2, 11, elsewhere.clone()),
            removal(3, 12, kept.clone()),
            removal(4, 20, Outcome::Removed),
            landing(5, 20, Outcome::Ingested),
        ];
        let place = if batches == 1 { &place } else { &new(on) };
        let (mut ledger, generation) = if batches == 1 {
            (place.open(), generation)
        } else {
            place.begin()
        };
        for batch in entries.chunks(5usize.div_ceil(batches)) {
            ledger.write(generation, batch).unwrap();
        }
        let applied = ledger
            .applied("main", std::slice::from_ref(&did))
            .unwrap()
            .remove(&did)
            .unwrap();
        assert_eq!((applied.version, applied.state), (Micros(20), State::Removed));
        assert_eq!(
            (&*applied.uri, applied.rse),
            ("/data/raw/same", Some(Rse::new("IN2P3")))
        );
        assert_eq!(*applied.uuids, [uuid::Uuid::from_u128(2)]);
        let row = find(&mut ledger, 4).unwrap();
        assert_eq!(
            (row.kind, row.url, row.uri, row.outcome),
            (None, None, None, State::Removed)
        );
        assert_eq!(find(&mut ledger, 3).unwrap().detail.as_deref(), Some("/else"));
    }
    ledger
        .write(generation, &[landing(6, 21, Outcome::Ingested)])
        .unwrap();
    assert_eq!(
        ledger.applied("main", std::slice::from_ref(&did)).unwrap()[&did].state,
        State::Ingested
    );
}

fn that_one_replica_is_gone_says_nothing_of_another(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut landing = settled(request(2, "same"), Outcome::Ingested, 20);
    landing.request.rse = Rse::new("OTHER");
    landing.request.created_at = Micros(5);
    let entries = [
        removal(1, 10, Outcome::NotThere),
        Entry::Settled(Box::new(landing)),
    ];
    ledger.write(generation, &entries[..1]).unwrap();
    ledger.write(generation, &entries[1..]).unwrap();
    let did = Did::new("raw", "same");
    let applied = &ledger.applied("main", std::slice::from_ref(&did)).unwrap()[&did];
    assert_eq!((applied.version, applied.state), (Micros(5), State::Ingested));
}
