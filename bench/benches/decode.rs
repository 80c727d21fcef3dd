//! How long does one event take, and which JSON parser is the one to keep?
//!
//! All parsers fill the same struct from the same bodies: a captured night (7511 events of all types, as a hub
//! reads them), and arrivals with Rubin's sidecar (as a site reads them).
//!
//! ```text
//! make bench BENCH=decode
//! ```
//!
//! `facts` is the way of a replay, stage by stage: each stage does all before it again, for a captured night and
//! for invented events of 929 bytes.
//!
//! The time of an iteration is the time of all events; `thrpt` counts events a second.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dbb_bench::{capture, synthetic};
use dbb_events::{Event, Glimpse, decode, decode_record, glimpse, scan, wire::Wire};
use dbb_operators::{
    facts::{Told, Wanted},
    tell::Teller,
};
use std::{hint::black_box, time::Duration};

fn bodies(name: &str) -> Vec<Vec<u8>> {
    capture(name)
        .expect("the captures are in tests/data/rucio-events")
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
    let text = capture("rubin-topic-sample").expect("the captures are in tests/data/rucio-events");
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

/// From the bytes of a file to facts.
fn facts(c: &mut Criterion) {
    let night = capture("night-a-events").expect("the captures are in tests/data/rucio-events");
    for (name, text) in [("night", night), ("synthetic", synthetic::events(20_000))] {
        let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
        let mut group = c.benchmark_group(format!("facts/{name}"));
        group
            .throughput(Throughput::Elements(lines.len() as u64))
            .measurement_time(Duration::from_secs(4));
        group.bench_function("lines", |b| {
            b.iter(|| memchr::memchr_iter(b'\n', text.as_bytes()).fold(0, |all, at| all ^ at))
        });
        group.bench_function("scan", |b| {
            b.iter(|| {
                for line in &lines {
                    black_box(scan(line));
                }
            })
        });
        group.bench_function("scan, identity", |b| {
            b.iter(|| {
                for line in &lines {
                    black_box(glimpse(line, |glimpse| glimpse.identity(line)).expect("an event"));
                }
            })
        });
        let changes = Wanted {
            changes: true,
            ..Wanted::default()
        };
        let names = Wanted {
            names: true,
            ..changes
        };
        let attempts = Wanted {
            attempts: true,
            ..names
        };
        let all = Wanted {
            said: true,
            ..attempts
        };
        for (stage, wanted) in [
            ("scan, changes", changes),
            ("scan, changes, names", names),
            ("scan, changes, names, attempts", attempts),
            ("scan, all", all),
        ] {
            let mut telling = Telling::new(wanted);
            group.bench_function(stage, |b| {
                b.iter(|| {
                    for line in &lines {
                        glimpse(line, |glimpse| telling.tell(glimpse, line)).expect("an event");
                    }
                })
            });
        }
        let mut telling = Telling::new(all);
        group.bench_function("decode, all", |b| {
            b.iter(|| {
                for line in &lines {
                    let event: Event<'_> = decode(line).expect("an event");
                    telling.tell(&event.glimpse(), line);
                }
            })
        });
        group.finish();
    }
}

struct Telling {
    teller: Teller,
    told: Told,
}

impl Telling {
    fn new(wanted: Wanted) -> Self {
        Self {
            teller: Teller::new(wanted),
            told: Told::default(),
        }
    }

    fn tell(&mut self, glimpse: &Glimpse<'_>, line: &[u8]) {
        self.teller.tell(glimpse, line, &mut self.told).expect("facts");
        // As often as they are sent on.
        if self.told.changes.len() + self.told.attempts.len() + self.told.said.len() > 2000 {
            self.told.changes.clear();
            self.told.names.clear();
            self.told.attempts.clear();
            self.told.said.clear();
        }
    }
}

criterion_group!(benches, parsers, records, facts);
criterion_main!(benches);
