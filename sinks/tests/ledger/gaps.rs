//! Lanes and gaps: what a start goes on from, what is asked for, and when a gap is over.

use crate::support::{On, new, on_both};
use dbb_events::{Entry, Gap, Lane, Micros, Numbers, Ranges};
use dbb_sinks::ledger::{GapState, Generation, Ledger};

on_both! {
    a_start_goes_on_from_what_was_written_last
    a_gap_is_asked_for_when_it_is_due_and_again_later
    a_gap_that_is_filled_is_over_and_is_forgotten_with_time
    what_the_hub_does_not_have_is_kept_and_may_be_asked_for_once_more
    lanes_of_an_older_generation_are_not_written
}

fn lane(partition: i32) -> Lane {
    Lane {
        topic: "R-raw".into(),
        partition,
    }
}

fn numbers(partition: i32, last: u64, gaps: &[Gap], at: i64) -> Entry {
    Entry::Numbers(Box::new(Numbers {
        lane: lane(partition),
        begins: Some(3),
        last,
        gaps: gaps.to_vec(),
        at: Micros(at),
    }))
}

fn gap(first: u64, last: u64) -> Gap {
    Gap::new(first, last, Micros(10), Micros(70))
}

fn write(ledger: &mut Ledger, generation: Generation, entries: &[Entry]) {
    ledger.write(generation, entries).unwrap();
}

fn due(ledger: &mut Ledger, now: i64) -> Vec<String> {
    let rows = ledger.gaps_to_ask(Micros(now), 100).unwrap();
    rows.iter()
        .map(|row| format!("{} {}", row.lane, row.gap.left))
        .collect()
}

fn a_start_goes_on_from_what_was_written_last(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut split = gap(5, 9);
    split.left.remove(7, 7);
    let entries = [
        numbers(0, 10, &[gap(5, 9)], 10),
        numbers(1, 4, &[], 11),
        numbers(0, 12, std::slice::from_ref(&split), 12),
    ];
    write(&mut ledger, generation, &entries);
    // A write whose acknowledgement was lost is made again.
    write(&mut ledger, generation, &entries);
    let found = place.open().numbers().unwrap();
    let zero = Numbers {
        lane: lane(0),
        begins: Some(3),
        last: 12,
        gaps: vec![split],
        at: Micros(12),
    };
    let one = Numbers {
        lane: lane(1),
        last: 4,
        gaps: Vec::new(),
        at: Micros(11),
        ..zero.clone()
    };
    assert_eq!(found, [zero, one]);
}

fn a_gap_is_asked_for_when_it_is_due_and_again_later(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    write(&mut ledger, generation, &[numbers(0, 10, &[gap(5, 9)], 10)]);
    assert!(due(&mut ledger, 69).is_empty());
    assert_eq!(due(&mut ledger, 70), ["R-raw/0 5-9"]);
    ledger
        .asked(generation, Micros(70), &[(lane(0), 5, Some(Micros(100)))])
        .unwrap();
    assert!(due(&mut ledger, 99).is_empty());
    // Part of it comes: it stays asked for, at the same time again.
    let mut less = gap(5, 9);
    less.left.remove(5, 8);
    write(&mut ledger, generation, &[numbers(0, 11, &[less], 80)]);
    let row = ledger.gaps(false, 9).unwrap().remove(0);
    assert_eq!(
        (row.state, row.asks, row.asked_at),
        (GapState::Asked, 1, Some(Micros(70)))
    );
    assert_eq!(due(&mut ledger, 100), ["R-raw/0 9"]);
    let sums = ledger.gap_sums().unwrap();
    assert_eq!(
        (sums[0].gaps, sums[0].records, sums[0].oldest),
        (1, 1, Micros(10))
    );
}

fn a_gap_that_is_filled_is_over_and_is_forgotten_with_time(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut filled = gap(5, 9);
    filled.left = Ranges::default();
    write(&mut ledger, generation, &[numbers(0, 10, &[gap(5, 9)], 10)]);
    write(&mut ledger, generation, &[numbers(0, 10, &[filled], 90)]);
    assert!(due(&mut ledger, 1000).is_empty() && ledger.gap_sums().unwrap().is_empty());
    assert!(ledger.numbers().unwrap()[0].gaps.is_empty());
    assert!(ledger.gaps(false, 9).unwrap().is_empty());
    let row = ledger.gaps(true, 9).unwrap().remove(0);
    assert_eq!((row.state, row.closed_at), (GapState::Filled, Some(Micros(90))));
    assert_eq!((row.gap.first, row.gap.last), (5, 9));
    assert_eq!(ledger.ask_again(None, Micros(95)).unwrap(), 0);
    while !ledger.prune(generation, Micros(91), 10).unwrap().finished {}
    assert!(ledger.gaps(true, 9).unwrap().is_empty());
}

fn what_the_hub_does_not_have_is_kept_and_may_be_asked_for_once_more(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut gone = gap(5, 9);
    gone.gone = gone.left.take(5, 9);
    write(&mut ledger, generation, &[numbers(0, 10, &[gap(5, 9)], 10)]);
    write(&mut ledger, generation, &[numbers(0, 10, &[gone.clone()], 90)]);
    assert!(due(&mut ledger, 1000).is_empty());
    let row = ledger.gaps(false, 9).unwrap().remove(0);
    assert_eq!(
        (row.state, row.gap.gone.to_string().as_str()),
        (GapState::Unavailable, "5-9")
    );
    assert_eq!(ledger.ask_again(Some(&lane(1)), Micros(95)).unwrap(), 0);
    assert_eq!(ledger.ask_again(Some(&lane(0)), Micros(95)).unwrap(), 1);
    assert_eq!(ledger.gaps_to_ask(Micros(95), 9).unwrap().len(), 1);
    ledger
        .asked(generation, Micros(95), &[(lane(0), 5, Some(Micros(200)))])
        .unwrap();
    assert!(ledger.gaps_to_ask(Micros(1000), 9).unwrap().is_empty());
    // A start knows it, so that what comes all the same fills it.
    assert_eq!(ledger.numbers().unwrap()[0].gaps[0].gone, gone.gone);
}

fn lanes_of_an_older_generation_are_not_written(on: On) {
    let place = new(on);
    let (mut ledger, old) = place.begin();
    let (_, new) = place.begin();
    assert!(ledger.write(old, &[numbers(0, 10, &[], 10)]).is_err());
    assert!(ledger.asked(old, Micros(1), &[(lane(0), 5, None)]).is_err());
    ledger.write(new, &[numbers(0, 10, &[], 10)]).unwrap();
}
