//! Any order, repetition and splitting of the same answers leaves the same rows.

use crate::support::{On, counted, entry, letter, new, refused, request, settled, waiting};
use dbb_events::{Dependency, Did, Entry, EventId, Micros, Outcome, Reason};
use dbb_sinks::ledger::State;
use proptest::{prelude::*, sample::SizeRange};
use std::collections::BTreeMap;

/// How one event ends, and what it went through before: at most one of its answers is final for good.
#[derive(Debug, Clone)]
struct Life {
    file: u8,
    created_at: i64,
    end: usize,
    waits: u8,
    refusals: u8,
}

fn lives(count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Life>> {
    let life =
        (0..4u8, 0..6i64, 0..5usize, 0..3u8, 0..2u8).prop_map(|(file, created_at, end, waits, refusals)| {
            Life {
                file,
                created_at,
                end,
                waits,
                refusals,
            }
        });
    prop::collection::vec(life, count)
}

const ENDS: [State; 5] = [
    State::Ingested,
    State::AlreadyThere,
    State::AlreadyThereElsewhere,
    State::Superseded,
    // Never came to an end: refused.
    State::Refused,
];

fn answers(event: u128, life: &Life) -> Vec<Entry> {
    let answer = |outcome: Outcome, at: i64| {
        let mut settled = settled(request(event, &format!("file{}", life.file)), outcome, at);
        settled.request.created_at = Micros(life.created_at);
        Entry::Settled(Box::new(settled))
    };
    let mut answers = Vec::new();
    match ENDS[life.end] {
        State::Ingested => answers.push(answer(Outcome::Ingested, 90)),
        State::AlreadyThere => answers.push(answer(Outcome::AlreadyThere, 90)),
        State::AlreadyThereElsewhere => {
            answers.push(answer(Outcome::AlreadyThereElsewhere { uri: "/else".into() }, 90))
        }
        State::Superseded => answers.push(answer(Outcome::Superseded { by: Micros(77) }, 90)),
        // Only refusals, all alike: which is last must not matter.
        _ => return vec![answer(refused(Reason::Conflict), 90)],
    }
    for n in 0..life.waits {
        answers.push(answer(waiting(Dependency::Time, 500, true), 20 + i64::from(n)));
    }
    for _ in 0..life.refusals {
        answers.push(letter(event, "main", Reason::BadField, 30));
    }
    answers
}

/// Ten lines that say what the ledger is to hold: how each event ends, and the newest version of each file.
fn fold(lives: &[Life]) -> (BTreeMap<u128, State>, BTreeMap<u8, i64>) {
    let mut files: BTreeMap<u8, i64> = BTreeMap::new();
    let mut events = BTreeMap::new();
    for (event, life) in lives.iter().enumerate() {
        events.insert(event as u128, ENDS[life.end]);
        if ENDS[life.end].is_applied() {
            let version = files.entry(life.file).or_insert(life.created_at);
            *version = (*version).max(life.created_at);
        }
    }
    (events, files)
}

fn check(on: On, lives: &[Life], order: &[prop::sample::Index], cuts: &[usize]) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut all: Vec<Entry> = lives
        .iter()
        .enumerate()
        .flat_map(|(event, life)| answers(event as u128, life))
        .collect();
    all.extend((1..4).map(|n| counted(n * 10, &[("events", 10)])));
    // Everything once, in some order, with repeats among it.
    let mut stream: Vec<Entry> = Vec::new();
    for index in order {
        stream.push(all[index.index(all.len())].clone());
    }
    stream.extend(all.iter().cloned());
    let mut rest = stream.as_slice();
    for cut in cuts.iter().cycle() {
        let (batch, more) = rest.split_at((*cut).min(rest.len()));
        ledger.write(generation, batch).unwrap();
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    let (events, files) = fold(lives);
    let asked: Vec<EventId> = (0..lives.len()).map(|n| EventId(n as u128)).collect();
    let found: BTreeMap<u128, State> = ledger
        .states("main", &asked)
        .unwrap()
        .into_iter()
        .map(|(event, state)| (event.0, state))
        .collect();
    assert_eq!(found, events);
    let dids: Vec<Did> = (0..4).map(|n| Did::new("raw", format!("file{n}"))).collect();
    let applied = ledger.applied("main", &dids).unwrap();
    let applied: BTreeMap<u8, i64> = (0..4u8)
        .filter_map(|n| Some((n, applied.get(&dids[usize::from(n)])?.version.0)))
        .collect();
    assert_eq!(applied, files);
    let rows: u64 = ledger.summary().unwrap().iter().map(|t| t.count).sum();
    assert_eq!(rows, lives.len() as u64);
    assert_eq!(ledger.counted_to().unwrap()[&("IN2P3-raw".into(), 3)].next, 30);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_order_repetition_and_splitting_leaves_the_same_rows_in_sqlite(
        lives in lives(1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        cuts in prop::collection::vec(1usize..9, 1..5),
    ) {
        check(On::Sqlite, &lives, &order, &cuts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_order_repetition_and_splitting_leaves_the_same_rows_in_postgres(
        lives in lives(1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        cuts in prop::collection::vec(1usize..9, 1..5),
    ) {
        check(On::Postgres, &lives, &order, &cuts);
    }
}

/// Where the order of answers is kept, the whole row is the same however they are split.
#[test]
fn one_batch_or_many_writes_the_same_row_and_history() {
    let steps = |event| {
        vec![
            entry(event, waiting(Dependency::Time, 50, true), 20),
            entry(event, waiting(Dependency::Repository, 51, false), 21),
            letter(event, "main", Reason::WaitedTooLong, 22),
            entry(event, waiting(Dependency::Time, 53, true), 23),
        ]
    };
    let mut seen = Vec::new();
    for size in 1..=4 {
        let place = new(On::Sqlite);
        let (mut ledger, generation) = place.begin();
        for batch in steps(1).chunks(size) {
            ledger.write(generation, batch).unwrap();
        }
        let row = ledger.row(1).unwrap().unwrap();
        seen.push((ledger.attempts(1).unwrap(), row));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}
