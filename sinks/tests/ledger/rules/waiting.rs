//! What waits: woken by what it waits for, due when its time has come.

use super::*;

on_both! {
    an_arrival_wakes_exactly_those_who_wait_for_it
    an_arrival_wakes_rows_of_its_own_target_only
    an_arrival_written_before_the_row_that_waits_still_wakes_it
    what_is_due_comes_back_as_it_was_read
}

fn an_arrival_wakes_exactly_those_who_wait_for_it(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let keys = ["exposure/X/1", "exposure/X/2", "exposure", "visit", ""];
    let rows: Vec<Entry> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| entry(n as u128, waiting(dimension(key), 1000, true), 20))
        .chain([entry(
            9,
            waiting(Dependency::File("/a_dimensions.yaml".into()), 1000, true),
            20,
        )])
        .collect();
    ledger.write(generation, &rows).unwrap();
    assert!(due(&mut ledger, 500).is_empty());
    let written = ledger
        .write(generation, &[arrival(50, &["dimension:exposure/X/1"], 30)])
        .unwrap();
    assert_eq!(written.woken, 3);
    assert_eq!(due(&mut ledger, 500), [0, 2, 4]);
    ledger
        .write(generation, &[arrival(51, &["file:/a_dimensions.yaml"], 31)])
        .unwrap();
    assert_eq!(due(&mut ledger, 500), [0, 2, 4, 9]);
    assert_eq!(ledger.due_count(Micros(500)).unwrap(), 4);
    assert_eq!(ledger.next_due().unwrap(), Some(Micros(30)));
    let waits: Vec<_> = ledger.waiting().unwrap();
    let told: Vec<_> = waits.iter().map(|w| (&*w.class, w.count, w.oldest.0)).collect();
    assert_eq!(told, [("dimension", 5, 20), ("file", 1, 20)]);
}

fn an_arrival_wakes_rows_of_its_own_target_only(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut other = settled(
        request(1, "f"),
        waiting(dimension("exposure/X/1"), 1000, true),
        20,
    );
    other.request.target = "other".into();
    let own = entry(2, waiting(dimension("exposure/X/1"), 1000, true), 20);
    ledger
        .write(generation, &[Entry::Settled(Box::new(other)), own])
        .unwrap();
    ledger
        .write(generation, &[arrival(50, &["dimension:exposure/X/1"], 30)])
        .unwrap();
    assert_eq!(due(&mut ledger, 500), [2]);
}

fn an_arrival_written_before_the_row_that_waits_still_wakes_it(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let wait = |event, at| entry(event, waiting(dimension("exposure/X/1"), 1000, true), at);
    // In one batch.
    ledger
        .write(
            generation,
            &[arrival(50, &["dimension:exposure/X/1"], 30), wait(1, 25)],
        )
        .unwrap();
    // In a later one: it was tried before the arrival, so the arrival is news to it.
    ledger.write(generation, &[wait(2, 29)]).unwrap();
    // Tried after: what had come did not help it.
    ledger.write(generation, &[wait(3, 40)]).unwrap();
    assert_eq!(due(&mut ledger, 500), [1, 2]);
}

fn what_is_due_comes_back_as_it_was_read(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(generation, &[entry(1, waiting(Dependency::Time, 50, true), 20)])
        .unwrap();
    let asked = request(1, "f1");
    let expected = Due {
        event: EventId(1),
        target: "main".into(),
        attempts: 1,
        waiting_since: Some(Micros(20)),
        released: false,
        received: dbb_events::Received {
            place: asked.place,
            topic: asked.topic,
            appended_at: asked.appended_at,
            marks: None,
            body: asked.body,
        },
    };
    assert!(ledger.due(Micros(49), 10, &no_skip()).unwrap().is_empty());
    assert_eq!(ledger.due(Micros(50), 10, &no_skip()).unwrap(), [expected]);
    let skip = HashSet::from([(EventId(1), "main".into())]);
    assert!(ledger.due(Micros(50), 10, &skip).unwrap().is_empty());
}
