//! In two processes of two workers each, whatever either publishes is what the other does: the fold of exactly the
//! records that its offsets name; and replicas that one of them asks for are there in both, as of one epoch.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow::util::display::array_value_to_string;
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Basis, Change, Complete, DidKey, DidName, RseName, ScopeName, State},
    publish::{Bound, END, Published, Publisher, heard, publish, publish_offsets},
    replicas::{Keeping, replicas},
    views::{Scan, rse_usage::rse_usage},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};
use timely::{
    CommunicationConfig, Config, WorkerConfig,
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle, Stream,
        channels::pact::Pipeline,
        operators::{
            Input, Probe,
            core::ToStream,
            generic::Operator,
            vec::{Broadcast, Map},
        },
    },
};

const PROCESSES: usize = 2;
const WORKERS: usize = 2;
/// Records of each partition; a worker reads one partition.
const RECORDS: u64 = 600;
const TICKS: Epoch = 120;
const EVERY: Epoch = 3;
const PATIENCE: Duration = Duration::from_secs(60);

type Ticks<'s> = Stream<'s, Epoch, Vec<()>>;
type Records<'s> = Stream<'s, Epoch, Vec<(DidName, Change)>>;

fn stream() -> Arc<str> {
    "records".into()
}

/// A record of a partition: a new file, but each fifth deletes the one that came two before.
fn record(partition: u64, offset: u64) -> (DidName, Change) {
    let deletes = offset % 5 == 4;
    let file = if deletes { offset - 2 } else { offset };
    let (scope, name) = ("raw", format!("f{partition}-{file}"));
    let did = DidKey::new(scope, &name);
    let rse = ["A", "B", "C"][(file % 3) as usize];
    let change = Change {
        did,
        at: Micros(offset as i64),
        tie: 0,
        bytes: file + 1,
        rse: Some(RseName::new(rse)),
        scope: ScopeName::new(scope),
        adler32: 1,
        state: if deletes { State::Gone } else { State::Available },
        basis: Basis::Event,
    };
    let name = DidName {
        did,
        scope: ScopeName::new(scope),
        name: name.into(),
    };
    (name, change)
}

/// With each tick some more records of the worker's own partition.
fn read<'s>(ticks: Ticks<'s>) -> (Records<'s>, Stream<'s, Epoch, Vec<Bound>>) {
    let partition = ticks.scope().worker().index() as u64;
    let mut next = 0;
    let records = ticks.unary::<CapacityContainerBuilder<Vec<(u64, (DidName, Change))>>, _, _, _>(
        Pipeline,
        "read",
        |_, _| {
            move |input, output| {
                input.for_each_stamp(|stamp, _| {
                    let capability = stamp.retain_least(0).unwrap();
                    let some = (capability.time() * 7 + partition * 3) % 11;
                    let until = (next + some).min(RECORDS);
                    let mut session = output.session(&capability);
                    for offset in next..until {
                        session.give((offset, record(partition, offset)));
                    }
                    next = until;
                });
            }
        },
    );
    let bounds = records
        .clone()
        .map(move |(offset, _)| ((stream(), partition as i32), offset + 1));
    (records.map(|(_, record)| record), bounds)
}

/// What a plain fold of the records below these offsets has: rows of usage, and of replicas.
fn fold(published: &Published) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut files = BTreeMap::new();
    for ((_, partition), next) in &published.offsets {
        for offset in 0..*next {
            let (name, change) = record(*partition as u64, offset);
            match change.state {
                State::Gone => files.remove(&name.name),
                _ => files.insert(name.name, change),
            };
        }
    }
    let mut usage: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut replicas = BTreeSet::new();
    for (name, change) in &files {
        let rse = change.rse.as_ref().unwrap().as_str();
        let sum = usage.entry(rse).or_default();
        *sum = (sum.0 + 1, sum.1 + change.bytes);
        replicas.insert(format!("{name} {rse} {}", change.bytes));
    }
    let usage = usage
        .into_iter()
        .map(|(rse, (files, bytes))| format!("{rse} {files} {bytes}"))
        .collect();
    (usage, replicas)
}

/// The rows of a view, of some columns, as text between spaces.
fn rows(published: &Published, view: &str, columns: &[usize]) -> BTreeSet<String> {
    let scan = Scan {
        projection: Some(columns.to_vec()),
        equal: Vec::new(),
    };
    let mut rows = BTreeSet::new();
    for batch in published.tables[view].scan(&scan) {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter();
            let cells: Vec<_> = cells
                .map(|cells| array_value_to_string(cells, row).unwrap())
                .collect();
            assert!(rows.insert(cells.join(" ")), "a row twice");
        }
    }
    rows
}

fn process(process: usize, addresses: Vec<String>, publisher: Arc<Publisher>) {
    let config = Config {
        communication: CommunicationConfig::Cluster {
            threads: WORKERS,
            process,
            addresses,
            report: false,
            zerocopy: false,
        },
        worker: WorkerConfig::default(),
    };
    let guards = timely::execute(config, move |worker| {
        let mut ticks = InputHandle::new();
        let probe = ProbeHandle::new();
        worker.dataflow::<Epoch, _, _>(|scope| {
            let ticks = heard(scope.input_from(&mut ticks).broadcast(), &publisher);
            let (records, bounds) = read(ticks);
            let changes = records.clone().map(|(_, change)| change);
            let names = records.map(|(name, _)| name);
            let keeping = Keeping {
                names: true,
                publisher: Some(Arc::clone(&publisher)),
                ..Keeping::default()
            };
            let completes = Vec::<Complete>::new().to_stream(scope);
            let sums = replicas(changes, names, completes, keeping, |_| ()).sums;
            sums.inner.clone().probe_with(&probe);
            publish(rse_usage(sums), &publisher);
            publish_offsets(bounds, &publisher);
        });
        if worker.index() == 0 {
            for tick in 0..TICKS {
                ticks.send(Micros(1000 + tick as i64));
                ticks.advance_to(tick + 1);
                let until = Instant::now() + Duration::from_millis(5);
                while Instant::now() < until {
                    worker.step_or_park(Some(Duration::from_millis(1)));
                }
            }
        }
        drop(ticks);
        while worker.step_or_park(Some(Duration::from_millis(1))) {}
    })
    .unwrap();
    for result in guards.join() {
        result.unwrap();
    }
}

/// Everything that is published, until the end.
fn follow(publisher: &Publisher) -> BTreeMap<Epoch, Arc<Published>> {
    let mut all = BTreeMap::new();
    let mut newest = None;
    while newest != Some(END) {
        let published = publisher
            .beyond(newest, PATIENCE)
            .expect("something is published");
        newest = Some(published.epoch);
        all.insert(published.epoch, published);
    }
    all
}

/// Asks again and again; what the asked and the other process have of each answer.
fn ask(asked: &Publisher, other: &Publisher) -> Vec<[Arc<Published>; 2]> {
    let mut answers = Vec::new();
    loop {
        let here = asked.with_replicas(PATIENCE).expect("replicas are published");
        let Some(there) = other.with_replicas_of(here.epoch, PATIENCE) else {
            // One that heard of several epochs only by the end publishes the end alone.
            let newest = other.newest().expect("something is published");
            assert_eq!(newest.epoch, END, "the other has {} too", here.epoch);
            continue;
        };
        let is_last = here.epoch == END;
        answers.push([here, there]);
        if is_last {
            return answers;
        }
    }
}

#[test]
fn each_process_publishes_the_same_fold_and_replicas_of_the_epoch_that_one_asked_for() {
    let listeners: Vec<_> = (0..PROCESSES)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect();
    drop(listeners);
    let publishers: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let publisher = Publisher::new(EVERY).one_of(PROCESSES);
            publisher.announce(format!("process {number}"));
            Arc::new(publisher)
        })
        .collect();
    let running: Vec<_> = publishers
        .iter()
        .enumerate()
        .map(|(number, publisher)| {
            let (addresses, publisher) = (addresses.clone(), Arc::clone(publisher));
            std::thread::spawn(move || process(number, addresses, publisher))
        })
        .collect();
    let (followed, answers) = std::thread::scope(|threads| {
        let followed: Vec<_> = publishers
            .iter()
            .map(|publisher| threads.spawn(|| follow(publisher)))
            .collect();
        // Each process is asked, twice at once.
        let answers: Vec<_> = [0, 1, 0, 1]
            .into_iter()
            .map(|asked| (&publishers[asked], &publishers[1 - asked]))
            .map(|(asked, other)| threads.spawn(|| ask(asked, other)))
            .collect();
        let followed: Vec<_> = followed
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let answers: Vec<_> = answers
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        (followed, answers)
    });
    for process in running {
        process.join().unwrap();
    }

    let mut seen_by_both = 0;
    for (epoch, here) in &followed[0] {
        let Some(there) = followed[1].get(epoch) else {
            continue;
        };
        seen_by_both += 1;
        assert_eq!((here.at, &here.offsets), (there.at, &there.offsets), "{epoch}");
        if *epoch != END {
            assert_eq!(here.at, Micros(1000 + *epoch as i64));
        }
        for published in [here, there] {
            assert_eq!(
                rows(published, "rse_usage", &[0, 3, 4]),
                fold(published).0,
                "{epoch}"
            );
        }
    }
    assert!(seen_by_both > 5, "{seen_by_both}");
    assert!(followed[0][&END].offsets.values().all(|next| *next > 500));

    let epochs: BTreeSet<Epoch> = answers.iter().map(|[here, _]| here.epoch).collect();
    assert!(epochs.len() > 3, "{epochs:?}");
    for [here, there] in &answers {
        assert_eq!((here.epoch, &here.offsets), (there.epoch, &there.offsets));
        let shares = [here, there].map(|published| rows(published, "replicas", &[1, 2, 4]));
        assert!(shares[0].is_disjoint(&shares[1]));
        let all: BTreeSet<String> = shares.iter().flatten().cloned().collect();
        assert_eq!(all, fold(here).1, "{}", here.epoch);
    }
    let known = BTreeMap::from([(0, "process 0".to_owned()), (1, "process 1".to_owned())]);
    assert!(publishers.iter().all(|publisher| publisher.addresses() == known));
}
