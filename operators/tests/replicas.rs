//! Whatever the order, the repeats, the epochs and the workers: the replicas are those of a plain fold of all that
//! was said, sorted by version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Basis, Change, Complete, DidKey, DidName, RseName, ScopeName, State},
    publish::Publisher,
    replicas::{Keeping, Notice, Replica, replicas},
    views::{
        Scan,
        rse_usage::{Amount, Usage},
    },
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use timely::dataflow::{
    InputHandle,
    operators::{Input, Inspect},
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Change(Change),
    Complete(Complete),
}

/// scope, name, RSE, state, bytes, adler32, basis, time: as the view has them.
type Line = (
    String,
    String,
    String,
    String,
    Option<i64>,
    Option<String>,
    String,
    i64,
);

/// What came out of one run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Outcome {
    sums: BTreeMap<Epoch, BTreeMap<Usage, Amount>>,
    replicas: BTreeMap<Replica, isize>,
    lines: BTreeSet<Line>,
    late: Vec<Change>,
}

const NAMES: [(&str, &str); 4] = [
    ("raw", "a"),
    ("raw", "b"),
    ("dp", "a"),
    ("dp", "a long name/with.parts"),
];
const RSES: [&str; 3] = ["SLAC", "IN2P3", "LANCS"];

fn name_of(did: DidKey) -> (&'static str, &'static str) {
    *NAMES
        .iter()
        .find(|(scope, name)| DidKey::new(scope, name) == did)
        .unwrap()
}

/// The oracle. Amounts and lines of all facts, by sorting them first.
fn fold(facts: &[Fact]) -> BTreeSet<Line> {
    type Key = (DidKey, RseName);
    let mut seen: BTreeMap<Key, Micros> = BTreeMap::new();
    let mut bytes: BTreeMap<Key, u64> = BTreeMap::new();
    let mut adler32: BTreeMap<Key, u32> = BTreeMap::new();
    let mut sorted = Vec::new();
    for fact in facts {
        match fact {
            Fact::Complete(complete) => sorted.push(((complete.at, 0, None), fact)),
            Fact::Change(change) => {
                if let Some(rse) = change.rse {
                    let key = (change.did, rse);
                    if let Some(at) = change.seen() {
                        let known = seen.entry(key).or_insert(at);
                        *known = at.max(*known);
                    }
                    if change.bytes != Change::NO_BYTES {
                        let known = bytes.entry(key).or_default();
                        *known = change.bytes.max(*known);
                    }
                    let known = adler32.entry(key).or_default();
                    *known = change.adler32.max(*known);
                }
                let absence = change.rse.is_none() && change.state == State::Gone;
                let order = (change.version(), change.rse.is_some(), change.state, change.basis);
                sorted.push((
                    (
                        change.at,
                        if absence { 0 } else { 1 },
                        (!absence).then_some(order),
                    ),
                    fact,
                ));
            }
        }
    }
    sorted.sort();
    let mut rows: BTreeMap<Key, (State, Basis, Micros, bool)> = BTreeMap::new();
    for (_, fact) in sorted {
        match fact {
            Fact::Complete(complete) => rows.retain(|key, _| {
                let covered = complete.rses.as_ref().is_none_or(|rses| rses.contains(&key.1))
                    && complete
                        .scopes
                        .as_ref()
                        .is_none_or(|scopes| scopes.contains(&ScopeName::new(name_of(key.0).0)));
                !covered || seen.get(key).is_some_and(|seen| *seen >= complete.at)
            }),
            Fact::Change(change) => match (change.rse, change.state) {
                (Some(rse), State::Gone) => {
                    rows.remove(&(change.did, rse));
                }
                (Some(rse), state) => {
                    rows.insert((change.did, rse), (state, change.basis, change.at, false));
                }
                (None, State::Gone) => rows.retain(|key, _| {
                    key.0 != change.did || seen.get(key).is_some_and(|seen| *seen >= change.at)
                }),
                (None, _) => rows
                    .iter_mut()
                    .filter(|(key, _)| key.0 == change.did)
                    .for_each(|(_, row)| {
                        if matches!(row.0, State::Available | State::Bad | State::TemporaryUnavailable)
                            || row.3
                        {
                            *row = (State::Unavailable, change.basis, change.at, true);
                        }
                    }),
            },
        }
    }
    rows.into_iter()
        .map(|((did, rse), (state, basis, at, _))| {
            let (scope, name) = name_of(did);
            let of_did = |told: Option<u64>, others: &dyn Fn(&Key) -> Option<u64>| {
                told.or_else(|| {
                    RSES.iter()
                        .filter_map(|rse| others(&(did, RseName::new(rse))))
                        .max()
                })
            };
            let bytes = of_did(bytes.get(&(did, rse)).copied(), &|key| bytes.get(key).copied());
            let adler = |key: &Key| {
                adler32
                    .get(key)
                    .filter(|adler32| **adler32 != 0)
                    .map(|a| u64::from(*a))
            };
            let adler32 = of_did(adler(&(did, rse)), &adler);
            (
                scope.to_owned(),
                name.to_owned(),
                rse.to_string(),
                state.to_string(),
                bytes.map(|bytes| bytes as i64),
                adler32.map(|adler32| format!("{adler32:08x}")),
                basis.to_string(),
                at.0,
            )
        })
        .collect()
}

fn usage(lines: &BTreeSet<Line>) -> BTreeMap<Usage, Amount> {
    let mut usage: BTreeMap<Usage, Amount> = BTreeMap::new();
    for (scope, _, rse, state, bytes, ..) in lines {
        let of = Usage {
            rse: RseName::new(rse),
            scope: ScopeName::new(scope),
            state: State::parse(state).unwrap(),
        };
        let (files, total) = usage.entry(of).or_default();
        *files += 1;
        *total += bytes.unwrap_or(0) as isize;
    }
    usage
}

fn lines(batches: impl Iterator<Item = RecordBatch>) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    for batch in batches {
        let text = |column: usize, row: usize| -> Option<String> {
            let column: &ArrayRef = batch.column(column);
            (!column.is_null(row)).then(|| column.as_string::<i32>().value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let bytes = batch.column(4);
            let line = (
                text(0, row).unwrap(),
                text(1, row).unwrap(),
                text(2, row).unwrap(),
                text(3, row).unwrap(),
                (!bytes.is_null(row)).then(|| bytes.as_primitive::<Int64Type>().value(row)),
                text(5, row),
                text(6, row).unwrap(),
                batch
                    .column(7)
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(row),
            );
            assert!(lines.insert(line), "a replica twice");
        }
    }
    lines
}

/// Feeds the facts, each at its epoch and from a worker that its place decides, and gathers what comes out.
fn run(facts: &[(Epoch, Fact)], workers: usize, keeping: Keeping) -> Outcome {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let publisher = Arc::new(Publisher::new(0));
    let keeping = Keeping {
        names: true,
        emits: true,
        publisher: Some(Arc::clone(&publisher)),
        ..keeping
    };
    let (facts, filled) = (facts.to_vec(), Arc::clone(&outcome));
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mut changes = InputHandle::new();
        let mut names = InputHandle::new();
        let mut completes = InputHandle::new();
        worker.dataflow::<Epoch, _, _>(|scope| {
            let out = replicas(
                scope.input_from(&mut changes),
                scope.input_from(&mut names),
                scope.input_from(&mut completes),
                keeping.clone(),
                |_: Notice| {},
            );
            let filled = [Arc::clone(&filled), Arc::clone(&filled), Arc::clone(&filled)];
            let [sums, replicas, late] = filled;
            out.sums.inner.inspect(move |(usage, epoch, amount)| {
                let mut outcome = sums.lock().unwrap();
                let known = outcome.sums.entry(*epoch).or_default().entry(*usage).or_default();
                *known = (known.0 + amount.0, known.1 + amount.1);
            });
            out.replicas.inner.inspect(move |(replica, _, times)| {
                *replicas.lock().unwrap().replicas.entry(*replica).or_default() += times;
            });
            out.late
                .inspect(move |change| late.lock().unwrap().late.push(*change));
        });
        let mine: Vec<_> = facts
            .iter()
            .enumerate()
            .filter(|(n, _)| n % worker.peers() == worker.index())
            .collect();
        let last = facts.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        for epoch in 0..=last {
            if epoch == 0 {
                for (scope, name) in NAMES {
                    names.send(DidName {
                        did: DidKey::new(scope, name),
                        scope: ScopeName::new(scope),
                        name: name.into(),
                    });
                }
            }
            for (_, (_, fact)) in mine.iter().filter(|(_, (at, _))| *at == epoch) {
                match fact {
                    Fact::Change(change) => changes.send(*change),
                    Fact::Complete(complete) => completes.send(complete.clone()),
                }
            }
            names.advance_to(epoch + 1);
            changes.advance_to(epoch + 1);
            completes.advance_to(epoch + 1);
            worker.step();
        }
    })
    .unwrap();
    for result in guards.join() {
        result.unwrap();
    }
    let mut outcome = std::mem::take(&mut *outcome.lock().unwrap());
    let published = publisher.newest().expect("the end is published");
    let table = &published.tables["replicas"];
    outcome.lines = lines(table.scan(&Scan::default()));
    assert_eq!(table.rows(), outcome.lines.len());
    outcome.replicas.retain(|_, times| *times != 0);
    outcome
}

fn total<'a>(sums: impl Iterator<Item = &'a BTreeMap<Usage, Amount>>) -> BTreeMap<Usage, Amount> {
    let mut total: BTreeMap<Usage, Amount> = BTreeMap::new();
    for (usage, (files, bytes)) in sums.flatten() {
        let known = total.entry(*usage).or_default();
        *known = (known.0 + files, known.1 + bytes);
    }
    total.retain(|_, amount| *amount != (0, 0));
    total
}

fn change() -> impl Strategy<Value = Change> {
    let whole = prop::sample::select(vec![State::Unavailable, State::Gone]);
    let state = prop::sample::select(State::ALL.to_vec());
    let basis = prop::sample::select(vec![Basis::Event, Basis::Listing, Basis::Journal]);
    let rse = prop::option::weighted(0.85, prop::sample::select(RSES.to_vec()));
    let told = (
        prop::sample::select(vec![Change::NO_BYTES, 10, 10, 10, 20]),
        prop::sample::select(vec![0u32, 1, 1, 2]),
    );
    let when = (0i64..40, 0u64..3, 0i64..2);
    (0..NAMES.len(), rse, state, whole, basis, told, when).prop_map(
        |(did, rse, state, whole, basis, (bytes, adler32), (at, tie, lag))| {
            let (scope, name) = NAMES[did];
            Change {
                did: DidKey::new(scope, name),
                at: Micros(at),
                tie: if basis == Basis::Listing {
                    (at + 6 * lag) as u64
                } else {
                    tie
                },
                bytes,
                rse: rse.map(RseName::new),
                scope: ScopeName::new(scope),
                adler32,
                state: if rse.is_some() { state } else { whole },
                basis: match (rse, whole) {
                    (Some(_), _) => basis,
                    (None, State::Gone) => Basis::Listing,
                    _ => Basis::Event,
                },
            }
        },
    )
}

fn complete() -> impl Strategy<Value = Complete> {
    let rses = prop::option::of(prop::sample::subsequence(RSES.to_vec(), 0..=3));
    let scopes = prop::option::of(prop::sample::subsequence(vec!["raw", "dp"], 0..=2));
    (0i64..40, rses, scopes).prop_map(|(at, rses, scopes)| Complete {
        at: Micros(at),
        rses: rses.map(|rses| rses.into_iter().map(RseName::new).collect()),
        scopes: scopes.map(|scopes| scopes.into_iter().map(ScopeName::new).collect()),
    })
}

fn facts() -> impl Strategy<Value = Vec<(Epoch, Fact)>> {
    let fact = prop_oneof![20 => change().prop_map(Fact::Change), 1 => complete().prop_map(Fact::Complete)];
    (prop::collection::vec((fact, 0u64..8), 0..90), any::<u64>()).prop_flat_map(|(facts, _)| {
        let repeats = facts
            .iter()
            .step_by(4)
            .map(|(fact, epoch)| (7 - *epoch, fact.clone()));
        let all: Vec<_> = facts
            .iter()
            .map(|(fact, epoch)| (*epoch, fact.clone()))
            .chain(repeats)
            .collect();
        Just(all).prop_shuffle()
    })
}

fn check(facts: &[(Epoch, Fact)], workers: usize, eager: bool) {
    let outcome = run(
        facts,
        workers,
        Keeping {
            eager,
            ..Keeping::default()
        },
    );
    let until = |epoch: Epoch| -> Vec<Fact> {
        facts
            .iter()
            .filter(|(at, _)| *at <= epoch)
            .map(|(_, fact)| fact.clone())
            .collect()
    };
    let end = fold(&until(Epoch::MAX));
    assert_eq!(outcome.lines, end);
    assert_eq!(total(outcome.sums.values()), usage(&end));
    let of_replicas: BTreeMap<Replica, isize> = end
        .iter()
        .map(|(scope, name, rse, state, bytes, ..)| Replica {
            did: DidKey::new(scope, name),
            rse: RseName::new(rse),
            scope: ScopeName::new(scope),
            state: State::parse(state).unwrap(),
            bytes: bytes.unwrap_or(0) as u64,
        })
        .map(|replica| (replica, 1))
        .collect();
    assert_eq!(outcome.replicas, of_replicas);
    assert!(outcome.late.is_empty());
    if !eager {
        for epoch in 0..8 {
            let sums = total(outcome.sums.range(..=epoch).map(|(_, sums)| sums));
            assert_eq!(sums, usage(&fold(&until(epoch))), "at epoch {epoch}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_epoch_is_the_fold_of_what_was_said_by_then(facts in facts()) {
        check(&facts, 1, false);
    }

    #[test]
    fn taking_changes_in_as_they_come_ends_the_same(facts in facts()) {
        check(&facts, 1, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_number_of_workers_makes_no_difference(facts in facts(), eager: bool) {
        for workers in [2, 4] {
            check(&facts, workers, eager);
        }
    }
}
