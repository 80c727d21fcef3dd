//! How long does a change of a replica take, and what does a snapshot cost, with a million replicas?
//!
//! ```text
//! make bench BENCH=replicas
//! ```
//!
//! Each measurement is of one epoch of 1000 changes of replicas far apart, which is 50 ms at 20,000 changes/s:
//! exchange, stash and sums of the dataflow included. Where each epoch is asked for, a snapshot of it is held until
//! the next, and every chunk that is written to is copied first.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput};
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Basis, Change, DidKey, DidName, RseName, ScopeName, State},
    publish::Publisher,
    replicas::{Keeping, replicas},
};
use std::{sync::Arc, time::Duration};
use timely::dataflow::{
    InputHandle, ProbeHandle,
    operators::{Input, Probe},
};

const REPLICAS: u64 = 1_000_000;
const BLOCK: u64 = 1000;
const RSES: [&str; 4] = ["SLAC", "IN2P3", "LANCS", "RAL"];

/// The `n`th replica at a time; its state is another each time.
fn change(n: u64, at: u64) -> Change {
    let (file, replica) = (n / 4, n % 4);
    Change {
        did: DidKey::new("raw", &file.to_string()),
        at: Micros(1_790_000_000_000_000 + at as i64),
        tie: n,
        bytes: 20_000_000,
        rse: RSES.get(replica as usize).map(|rse| RseName::new(rse)),
        scope: ScopeName::new("raw"),
        adler32: file as u32 + 1,
        state: if at.is_multiple_of(2) {
            State::Available
        } else {
            State::Copying
        },
        basis: Basis::Event,
    }
}

fn main() {
    timely::execute_directly(|worker| {
        let mut criterion = Criterion::default().configure_from_args();
        for asked in [false, true] {
            let publisher = Arc::new(Publisher::new(1));
            let keeping = Keeping {
                names: true,
                publisher: Some(Arc::clone(&publisher)),
                ..Keeping::default()
            };
            let (mut changes, mut names) = (InputHandle::new(), InputHandle::new());
            let mut completes = InputHandle::new();
            let probe = ProbeHandle::<Epoch>::new();
            worker.dataflow(|scope| {
                let out = replicas(
                    scope.input_from(&mut changes),
                    scope.input_from(&mut names),
                    scope.input_from(&mut completes),
                    keeping,
                    |_| {},
                );
                out.sums.inner.probe_with(&probe);
            });
            completes.close();
            for file in 0..REPLICAS / 4 {
                let name = file.to_string();
                let did = DidKey::new("raw", &name);
                let scope = ScopeName::new("raw");
                names.send(DidName {
                    did,
                    scope,
                    name: name.into(),
                });
            }
            names.close();
            let mut epoch = 0;
            let mut take_in = |block: &mut Vec<Change>| {
                publisher.minted(epoch, Micros(epoch as i64));
                if asked {
                    // Asks for this epoch and does not wait for it.
                    let _ = publisher.with_replicas(Duration::ZERO);
                }
                changes.send_batch(block);
                epoch += 1;
                changes.advance_to(epoch);
                while probe.less_than(&epoch) {
                    worker.step();
                }
            };
            for n in (0..REPLICAS).step_by(BLOCK as usize) {
                take_in(&mut (n..n + BLOCK).map(|n| change(n, 0)).collect());
            }
            let name = if asked {
                "replicas, each epoch asked for"
            } else {
                "replicas"
            };
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Elements(BLOCK));
            let (mut at, mut new) = (0, REPLICAS);
            let apart = |at: u64| move |n: u64| ((at * BLOCK + n) * 7919) % REPLICAS;
            group.bench_function("newer", |bencher| {
                bencher.iter_batched_ref(
                    || {
                        at += 1;
                        (0..BLOCK).map(apart(at)).map(|n| change(n, at)).collect()
                    },
                    &mut take_in,
                    BatchSize::PerIteration,
                );
            });
            group.bench_function("repeated", |bencher| {
                bencher.iter_batched_ref(
                    || {
                        at += 1;
                        (0..BLOCK).map(apart(at)).map(|n| change(n, 0)).collect()
                    },
                    &mut take_in,
                    BatchSize::PerIteration,
                );
            });
            group.bench_function("new", |bencher| {
                bencher.iter_batched_ref(
                    || {
                        new += BLOCK;
                        (new..new + BLOCK).map(|n| change(n, 0)).collect()
                    },
                    &mut take_in,
                    BatchSize::PerIteration,
                );
            });
            group.finish();
        }
        criterion.final_summary();
    });
}
