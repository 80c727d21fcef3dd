//! How long does each view take for one fact, all of differential-dataflow's work included?
//!
//! The facts are made up: transfers of files in 40 Rucio datasets from one RSE to three others over two days, one
//! in twenty failed; thousands of facts an epoch, as in a replay.
//!
//! ```text
//! make bench BENCH=views
//! ```
//!
//! One group and one function a view. A dataflow's start and end is included: each is of many facts.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dbb_events::{EventId, Micros};
use dbb_operators::{
    Epoch,
    facts::{
        Attempt, Contents, DatasetName, DidKey, FailureClass, Lost, RseName, RuleSaid, RuleWord, ScopeName,
        State, Step, UNKNOWN_MS,
    },
    replicas::Replica,
    views::{
        ViewRow,
        available::available,
        dataset_progress::{Keeping, dataset_progress},
        failures::failures,
        listings::listings,
        lost_files::lost_files,
        rules::rules,
        transfers::transfers,
    },
};
use differential_dataflow::{
    Data, VecCollection,
    input::{Input, InputSession},
};
use std::hint::black_box;
use timely::dataflow::Scope;

/// Files transferred; each has three attempts.
const FILES: u64 = 30_000;
/// Facts in an epoch.
const EPOCH: usize = 4096;

type Facts<'s, D> = VecCollection<'s, Epoch, D, isize>;

/// Measures a view that is fed with `facts`, beside what it knows `before`.
fn measure<D: Data + Send + Sync, R: ViewRow>(
    c: &mut Criterion,
    facts: &[D],
    view: impl for<'s> Fn(Scope<'s, Epoch>, Facts<'s, D>) -> Facts<'s, R> + Copy + Send + Sync + 'static,
) {
    let mut group = c.benchmark_group(R::VIEW.name);
    group.sample_size(10);
    group.throughput(Throughput::Elements(facts.len() as u64));
    group.bench_function("fact", |b| {
        b.iter_batched(
            || facts.to_vec(),
            |facts| feed(facts, view),
            BatchSize::LargeInput,
        )
    });
    group.finish();
}

fn feed<D: Data + Send + Sync, R: ViewRow>(
    facts: Vec<D>,
    view: impl for<'s> Fn(Scope<'s, Epoch>, Facts<'s, D>) -> Facts<'s, R> + Send + Sync + 'static,
) {
    timely::execute_directly(move |worker| {
        let mut input = InputSession::new();
        let probe = worker.dataflow(|scope| {
            let (probe, _) = view(scope, input.to_collection(scope))
                .inspect(|row| {
                    black_box(row);
                })
                .probe();
            probe
        });
        let mut facts = facts.into_iter().peekable();
        let mut epoch = 0;
        while facts.peek().is_some() {
            facts.by_ref().take(EPOCH).for_each(|fact| input.update(fact, 1));
            epoch += 1;
            input.advance_to(epoch);
            input.flush();
            worker.step_while(|| probe.less_than(&epoch));
        }
    });
}

fn did(file: u64) -> DidKey {
    // The hash spreads the files, as a name's does.
    DidKey {
        high: file.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        low: file.wrapping_mul(0xd1b5_4a32_d192_ed03),
    }
}

fn dataset(file: u64) -> DatasetName {
    DatasetName::new("raw", &format!("LSSTCam/20260401/group-{:05}", file % 40))
}

fn destination(file: u64) -> RseName {
    RseName::new(["IN2P3_RAW_DISK", "RAL_RAW_DISK", "LANC_RAW_DISK"][file as usize % 3])
}

/// Queued, submitted, and done or failed, a few seconds apart; requests of two days.
fn attempts() -> Vec<Attempt> {
    let day_us = 86_400_000_000;
    let mut attempts: Vec<Attempt> = (0..FILES)
        .flat_map(|file| {
            let asked = 1_790_000_000_000_000 + (file * 2 * day_us / FILES) as i64;
            let failed = file % 20 == 7;
            let last = if failed { Step::Failed } else { Step::Done };
            let noise = (file.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32;
            [
                (Step::Queued, 0),
                (Step::Submitted, 4_000_000),
                (last, 40_000_000),
            ]
            .map(|(step, after)| Attempt {
                event: EventId(
                    u128::from(did(file).high) << 64 | u128::from(did(file).low) << 4 | step as u128,
                ),
                did: did(file),
                scope: ScopeName::new("raw"),
                step,
                at: Micros(asked + after),
                src: (step != Step::Queued).then(|| RseName::new("SLAC_RAW_DISK")),
                rse: destination(file),
                bytes: Some(20_000_000),
                dataset: (step != Step::Queued).then(|| dataset(file)),
                rule: (step == Step::Queued).then(|| u128::from(file % 120)),
                failure: (failed && step == last).then_some(FailureClass::Unreachable),
                waited_ms: if step == last {
                    1000 + noise / 8
                } else {
                    UNKNOWN_MS
                },
                queued_ms: if step == last { 500 + noise / 4 } else { UNKNOWN_MS },
                ran_ms: if step == last { 2000 + noise } else { UNKNOWN_MS },
                noticed_ms: if step == last { noise / 16 } else { UNKNOWN_MS },
            })
        })
        .collect();
    attempts.sort_by_key(|attempt| attempt.at);
    attempts
}

fn replica(file: u64) -> Replica {
    Replica {
        did: did(file),
        rse: destination(file),
        scope: ScopeName::new("raw"),
        state: State::Available,
        bytes: 20_000_000,
    }
}

fn of_transfers(c: &mut Criterion) {
    measure(c, &attempts(), |_, attempts| transfers(attempts, None));
}

fn of_failures(c: &mut Criterion) {
    measure(c, &attempts(), |_, attempts| failures(attempts, None));
}

/// With 1200 rules told of beside their transfers.
fn of_rules(c: &mut Criterion) {
    measure(c, &attempts(), |scope, attempts| {
        let said = (0..1200u64).map(|said| RuleSaid {
            rule: u128::from(said % 120),
            did: dataset(said % 120),
            at: Micros(1_790_000_000_000_000 + said as i64),
            word: RuleWord::Progress(said as u8 / 12),
            event: EventId(u128::from(said)),
        });
        rules(scope.new_collection_from(said).1, attempts, None)
    });
}

/// A replica each for the files, a thousandth of which were lost: the index of what is AVAILABLE is included.
fn of_lost_files(c: &mut Criterion) {
    let replicas: Vec<Replica> = (0..3 * FILES).map(replica).collect();
    measure(c, &replicas, |scope, replicas| {
        let lost = (0..3 * FILES).step_by(1000).map(|file| Lost {
            did: did(file),
            scope: ScopeName::new("raw"),
            name: format!("LSSTCam/20260401/file-{file}").into(),
            dataset: Some(dataset(file)),
            at: Micros(1_790_000_000_000_000),
            event: EventId(u128::from(file)),
        });
        lost_files(scope.new_collection_from(lost).1, available(replicas), None)
    });
}

/// With the contents of all datasets listed, and a replica of each file: the work for those is included.
fn of_dataset_progress(c: &mut Criterion) {
    measure(c, &attempts(), |scope, attempts| {
        let contents = (0..40).map(|first| Contents {
            dataset: dataset(first),
            at: Micros(1_790_000_000_000_000),
            members: (first..FILES).step_by(40).map(|file| (did(file), None)).collect(),
        });
        let contents = scope.new_collection_from(contents).1;
        let replicas = scope.new_collection_from((0..FILES).map(replica)).1;
        dataset_progress(
            attempts,
            listings(contents, None),
            available(replicas),
            Keeping::all(None),
        )
    });
}

criterion_group!(
    benches,
    of_transfers,
    of_failures,
    of_rules,
    of_lost_files,
    of_dataset_progress
);
criterion_main!(benches);
