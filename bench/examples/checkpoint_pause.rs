//! How long does a checkpoint stop a worker, what does a changed row cost to write, and how soon is all of it back?
//!
//! ```text
//! cargo run --release -p dbb-bench --example checkpoint_pause -- 5 100 3
//! ```
//!
//! The millions of replicas, the changes in an epoch of 10 ms, and how many checkpoints are taken, one each 30 s of
//! epochs, which follow each other without a rest. Each file has 4 replicas and a name of 80 bytes; what changes is
//! far apart. Of each checkpoint it tells how long the epoch took in which it was taken, and the slowest of those
//! while it was encoded by another thread; then rows, nanoseconds and bytes. The first has all there is. In the end
//! a second dataflow takes everything back, with the sums of `rse_usage` and the index of what is AVAILABLE.

// A measurement reports its failure by stopping.
#![allow(clippy::expect_used, clippy::print_stdout)]

use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    checkpoint::{Checkpoints, Collected, Damaged, Keep, Kind, Restored, Row},
    facts::{Basis, Change, Complete, DidKey, DidName, RseName, ScopeName, State},
    replicas::{Keeping, Replicas, replicas},
    views::{available::available, rse_usage::rse_usage},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle, Scope,
        operators::{Input, Probe},
    },
};

/// Replicas of a file.
const COPIES: u64 = 4;
/// Changes in an epoch while all there is comes in.
const BLOCK: u64 = 10_000;
/// Epochs between checkpoints: 30 s.
const EVERY: Epoch = 3000;

type Handle<T> = InputHandle<Epoch, CapacityContainerBuilder<Vec<T>>>;

/// The rows of each kind, merged.
type Stored = HashMap<&'static str, HashMap<Vec<u8>, Vec<u8>>>;

/// What has been written.
#[derive(Default)]
struct Disk {
    stored: Mutex<Stored>,
    is_writing: AtomicBool,
}

impl Disk {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes the rows, which is timed, and keeps them, which is not.
    fn write(&self, collected: Collected) {
        self.is_writing.store(true, Ordering::Relaxed);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let start = Instant::now();
        for part in collected.rows {
            let kind = part.kind().name;
            part.for_each(&mut |key, value| {
                bytes += key.len() + value.map_or(0, <[u8]>::len);
                rows.push((kind, key.to_vec(), value.unwrap_or_default().to_vec()));
            });
        }
        let spent = start.elapsed();
        self.is_writing.store(false, Ordering::Relaxed);
        let count = rows.len().max(1);
        println!(
            "  written in {} ms: {} rows, {} ns and {} bytes each",
            spent.as_millis(),
            rows.len(),
            spent.as_nanos() as usize / count,
            bytes / count,
        );
        let mut stored = self.stored();
        for (kind, key, value) in rows {
            stored.entry(kind).or_default().insert(key, value);
        }
    }
}

struct Back {
    epoch: Epoch,
    disk: Arc<Disk>,
}

impl Restored for Back {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn rows(&self, kind: &'static Kind, _share: usize, _of: usize) -> Box<dyn Iterator<Item = Row> + Send> {
        let rows = self.disk.stored().remove(kind.name).unwrap_or_default();
        Box::new(rows.into_iter())
    }

    fn refuse(&self, damaged: Damaged) {
        println!("{damaged}");
    }
}

struct Inputs {
    changes: Handle<Change>,
    names: Handle<DidName>,
    completes: Handle<Complete>,
}

impl Inputs {
    fn advance_to(&mut self, epoch: Epoch) {
        self.changes.advance_to(epoch);
        self.names.advance_to(epoch);
        self.completes.advance_to(epoch);
    }
}

fn build(scope: Scope<'_, Epoch>, keep: Keep, probe: &ProbeHandle<Epoch>) -> Inputs {
    let mut inputs = Inputs {
        changes: Handle::new(),
        names: Handle::new(),
        completes: Handle::new(),
    };
    let keeping = Keeping {
        names: true,
        emits: true,
        keep: Some(keep),
        ..Keeping::default()
    };
    let Replicas { sums, replicas, .. } = replicas(
        scope.input_from(&mut inputs.changes),
        scope.input_from(&mut inputs.names),
        scope.input_from(&mut inputs.completes),
        keeping,
        |_| {},
    );
    rse_usage(sums).inner.probe_with(probe);
    available(replicas).stream.probe_with(probe);
    inputs
}

fn name(file: u64) -> String {
    format!("LSSTCam/20261121/MC_O_20261121_{file:09}/MC_O_20261121_{file:09}_R22_S11.fits.fz")
}

fn change(n: u64, at: i64, state: State) -> Change {
    let (file, copy) = (n / COPIES, n % COPIES);
    let rse = format!("RSE_{}", (file + copy * 5) % 20);
    Change {
        did: DidKey::new("raw", &name(file)),
        at: Micros(1_790_000_000_000_000 + at),
        tie: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        bytes: 20_000_000 + file,
        rse: Some(RseName::new(&rse)),
        scope: ScopeName::new("raw"),
        adler32: file as u32 + 1,
        state,
        basis: Basis::Event,
    }
}

fn named(file: u64) -> DidName {
    DidName {
        did: DidKey::new("raw", &name(file)),
        scope: ScopeName::new("raw"),
        name: name(file).into(),
    }
}

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|n| n.parse::<u64>().expect("a number"));
    let mut next = |otherwise| numbers.next().unwrap_or(otherwise);
    let (millions, each, taken) = (next(5), next(100), next(3));
    timely::execute_directly(move |worker| {
        let all = millions * 1_000_000;
        let (checkpoints, collected) = Checkpoints::new(EVERY, None);
        let checkpoints = Arc::new(checkpoints);
        let disk = Arc::new(Disk::default());
        let writing = Arc::clone(&disk);
        let writer = std::thread::spawn(move || collected.iter().for_each(|part| writing.write(part)));
        let keep = Keep {
            checkpoints: Arc::clone(&checkpoints),
            restored: None,
        };
        let probe = ProbeHandle::new();
        let mut inputs = worker.dataflow(|scope| build(scope, keep, &probe));
        // Epoch 0 has a checkpoint of nothing.
        let mut epoch: Epoch = 0;
        let mut step = |mut changes: Vec<Change>, mut names: Vec<DidName>| {
            checkpoints.minted(epoch, Micros(0));
            let start = Instant::now();
            inputs.changes.send_batch(&mut changes);
            inputs.names.send_batch(&mut names);
            inputs.advance_to(epoch + 1);
            worker.step_while(|| probe.less_equal(&epoch));
            epoch += 1;
            (epoch - 1, start.elapsed())
        };
        for first in (0..all).step_by(BLOCK as usize) {
            let changes = (first..first + BLOCK).map(|n| change(n, 0, State::Copying));
            let names = (first / COPIES..(first + BLOCK) / COPIES).map(named);
            step(changes.collect(), names.collect());
        }
        let mut random = 1u64;
        let mut usual: Vec<Duration> = Vec::new();
        let mut slowest = Duration::ZERO;
        let mut left = taken + 1;
        let mut last = 0;
        while left > 0 {
            let changes = (0..each).map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                change((random >> 20) % all, usual.len() as i64 + 1, State::Available)
            });
            let changes = changes.collect();
            let was_writing = disk.is_writing.load(Ordering::Relaxed);
            let (at, took) = step(changes, Vec::new());
            if at.is_multiple_of(EVERY) {
                left -= 1;
                last = at;
                usual.sort_unstable();
                let median = usual.get(usual.len() / 2).copied().unwrap_or_default();
                println!("at {at}: {took:?}, where an epoch takes {median:?}");
                usual.clear();
                if left == 0 {
                    break;
                }
            } else if was_writing {
                slowest = slowest.max(took);
            } else {
                if !slowest.is_zero() {
                    println!("  the slowest epoch while it was written: {slowest:?}");
                    slowest = Duration::ZERO;
                }
                usual.push(took);
            }
        }
        drop((inputs, checkpoints));
        worker.step_while(|| !probe.done());
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
        writer.join().expect("a writer");

        let (checkpoints, _collected) = Checkpoints::new(EVERY, Some(last));
        let keep = Keep {
            checkpoints: Arc::new(checkpoints),
            restored: Some(Arc::new(Back { epoch: last, disk })),
        };
        let probe = ProbeHandle::new();
        let start = Instant::now();
        let mut inputs = worker.dataflow(|scope| build(scope, keep, &probe));
        inputs.advance_to(last + 1);
        worker.step_while(|| probe.less_equal(&last));
        println!(
            "{all} replicas are back after {:?}, by one worker",
            start.elapsed()
        );
    });
}
