//! How long does one event take, and which JSON parser is the one to keep?
//!
//! All parsers fill the same struct from the same bodies: a captured night (7511 events of all types, as a hub
//! reads them), and arrivals with Rubin's sidecar (as a site reads them).
//!
//! ```text
//! cargo bench -p dbb-bench --bench decode
//! RUSTFLAGS="-C target-cpu=x86-64-v3" cargo bench -p dbb-bench --bench decode     # as profile.dist builds
//! ```
//!
//! The time of an iteration is the time of all events; `thrpt` counts events a second.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dbb_events::{decode, decode_record, wire::Wire};
use std::{fs::File, hint::black_box, io::Read, time::Duration};

fn capture(name: &str) -> String {
    let path = format!(
        "{}/../tests/data/rucio-events/{name}.ndjson.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut text = String::new();
    let file = File::open(path).expect("the captures are in tests/data/rucio-events");
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("gzip");
    text
}

fn bodies(name: &str) -> Vec<Vec<u8>> {
    capture(name)
        .lines()
        .map(|line| decode_record(line.as_bytes()).body.into_owned())
        .collect()
}

fn parsers(c: &mut Criterion) {
    for (name, bodies) in [
        ("night", bodies("night-a-events")),
        ("arrivals", bodies("rubin-topic-sample")),
    ] {
        let mut group = c.benchmark_group(format!("decode/{name}"));
        group
            .throughput(Throughput::Elements(bodies.len() as u64))
            .measurement_time(Duration::from_secs(4));
        group.bench_function("serde_json", |b| {
            b.iter(|| {
                for body in &bodies {
                    black_box(serde_json::from_slice::<Wire<'_>>(body).expect("an event"));
                }
            })
        });
        // With the check that the bytes are UTF-8, which the others do as they go.
        group.bench_function("sonic-rs", |b| {
            b.iter(|| {
                for body in &bodies {
                    let text = std::str::from_utf8(body).expect("UTF-8");
                    black_box(sonic_rs::from_str::<Wire<'_>>(text).expect("an event"));
                }
            })
        });
        // It writes into its input, which others still need, so that copying is part of the price.
        group.bench_function("simd-json", |b| {
            let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
            b.iter(|| {
                for body in &bodies {
                    copy.clear();
                    copy.extend_from_slice(body);
                    let wire: Wire<'_> =
                        simd_json::serde::from_slice_with_buffers(&mut copy, &mut buffers).expect("an event");
                    black_box(&wire);
                }
            })
        });
        // What the dataflow does: parse, judge, identify.
        group.bench_function("dbb", |b| {
            b.iter(|| {
                for body in &bodies {
                    let event = decode(body).expect("an event");
                    black_box(event.identity(body));
                }
            })
        });
        group.finish();
    }
}

fn records(c: &mut Criterion) {
    let text = capture("rubin-topic-sample");
    let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function("topic and body of a recorded line", |b| {
        b.iter(|| {
            for line in &lines {
                black_box(decode_record(line));
            }
        })
    });
    group.finish();
}

criterion_group!(benches, parsers, records);
criterion_main!(benches);
