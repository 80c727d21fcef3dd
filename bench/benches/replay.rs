//! How long does `dbb replay` take for one event, the whole program from start to end?
//!
//! Invented events as those of the race, from a file that is in the page cache.
//!
//! ```text
//! make bench BENCH=replay
//! ```

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{path::Path, process::Command, time::Duration};

const EVENTS: u64 = 300_000;

/// What is asked for beside `rse_usage`, and by how many workers.
const RUNS: [(&str, &[&str]); 4] = [
    ("usage, 1 worker", &["--workers", "1"]),
    ("usage, 2 workers", &["--workers", "2"]),
    (
        "usage and archive, 1 worker",
        &["--workers", "1", "--archive", "archive"],
    ),
    (
        "all views, 1 worker",
        &[
            "--workers",
            "1",
            "--view",
            "replicas",
            "--view",
            "transfers",
            "--view",
            "failures",
            "--view",
            "rules",
        ],
    ),
];

fn replay(c: &mut Criterion) {
    let dbb = dbb_bench::program().expect("an optimised dbb");
    let folder = dbb_test_services::scratch("replay").expect("a folder");
    let log = folder.path().join("events.ndjson");
    std::fs::write(&log, dbb_bench::synthetic::events(EVENTS)).expect("a log");
    let mut group = c.benchmark_group("replay");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(EVENTS));
    for (name, arguments) in RUNS {
        group.bench_function(name, |b| b.iter(|| run(&dbb, folder.path(), &log, arguments)));
    }
    group.finish();
}

fn run(dbb: &Path, folder: &Path, log: &Path, arguments: &[&str]) {
    let ended = Command::new(dbb)
        .arg("replay")
        .arg(log)
        .args(["--view", "rse_usage", "--out", "out"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("dbb runs");
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

criterion_group!(benches, replay);
criterion_main!(benches);
