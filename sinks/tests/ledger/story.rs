//! `explain`: a file found by whatever an operator has of it.

use crate::support::{On, entry, new, on_both, request, settled, waiting};
use dbb_events::{Dependency, Did, Entry, Outcome};
use dbb_sinks::ledger::{Ledger, Selector, State};
use uuid::Uuid;

on_both! {
    a_file_is_found_by_did_uuid_and_url
    each_dataset_of_a_zip_finds_the_zip
    a_url_that_does_not_end_in_the_name_is_found_too
    a_path_from_another_door_finds_the_file_by_its_name
}

fn names(ledger: &mut Ledger, selector: Selector) -> Vec<String> {
    let stories = ledger.explain(&selector).unwrap();
    stories
        .into_iter()
        .map(|story| story.did.name.to_string())
        .collect()
}

fn url(text: &str) -> Selector {
    Selector::Url(text.into())
}

fn a_file_is_found_by_did_uuid_and_url(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(
            generation,
            &[
                entry(1, waiting(Dependency::Time, 50, true), 20),
                entry(2, Outcome::Ingested, 20),
            ],
        )
        .unwrap();
    ledger
        .write(generation, &[entry(1, Outcome::Ingested, 30)])
        .unwrap();
    for selector in [
        Selector::Did(Did::new("raw", "f1")),
        Selector::Uuid(Uuid::from_u128(1)),
        url("davs://door/raw/f1"),
        url("/data/raw/f1"),
    ] {
        let stories = ledger.explain(&selector).unwrap();
        assert_eq!(stories.len(), 1, "{selector:?}");
        let story = &stories[0];
        assert_eq!(story.did, Did::new("raw", "f1"));
        let (row, history) = &story.events[0];
        assert_eq!(row.outcome, State::Ingested);
        assert_eq!(history[0].outcome, State::Waiting);
        assert_eq!(story.files[0].uri.as_deref(), Some("/data/raw/f1"));
        assert_eq!(story.files[0].uuids, [Uuid::from_u128(1)]);
    }
    for selector in [
        Selector::Did(Did::new("dp2", "f1")),
        Selector::Uuid(Uuid::from_u128(1 << 100)),
        url("davs://door/raw/f9"),
    ] {
        assert!(ledger.explain(&selector).unwrap().is_empty(), "{selector:?}");
    }
}

fn each_dataset_of_a_zip_finds_the_zip(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut zip = settled(request(1, "all.zip"), Outcome::Ingested, 20);
    zip.uuids = (0..300u128).map(|n| Uuid::from_u128(n << 64 | 7)).collect();
    ledger
        .write(generation, &[Entry::Settled(Box::new(zip))])
        .unwrap();
    for n in [0u128, 1, 299] {
        let uuid = Uuid::from_u128(n << 64 | 7);
        assert_eq!(names(&mut ledger, Selector::Uuid(uuid)), ["all.zip"]);
    }
    // Its first half is that of a dataset, but not the whole.
    assert!(names(&mut ledger, Selector::Uuid(Uuid::from_u128(1 << 64 | 8))).is_empty());
}

fn a_url_that_does_not_end_in_the_name_is_found_too(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut odd = settled(request(1, "a name"), Outcome::Ingested, 20);
    odd.request.url = "davs://door/raw/a%20name".into();
    ledger
        .write(generation, &[Entry::Settled(Box::new(odd))])
        .unwrap();
    assert_eq!(names(&mut ledger, url("davs://door/raw/a%20name")), ["a name"]);
}

fn a_path_from_another_door_finds_the_file_by_its_name(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let files = ["2026/x.fits", "x.fits"].map(|name| {
        Entry::Settled(Box::new(settled(
            request(name.len() as u128, name),
            Outcome::Ingested,
            20,
        )))
    });
    ledger.write(generation, &files).unwrap();
    assert_eq!(
        names(&mut ledger, url("root://other//raw/2026/x.fits")),
        ["2026/x.fits"]
    );
    assert_eq!(names(&mut ledger, url("/data/raw/x.fits")), ["x.fits"]);
}
