//! How long does each operator take for one event, on its way to the Butler?
//!
//! The events are arrivals with Rubin's sidecar, as a site reads them, and a captured night of all types.
//!
//! ```text
//! make bench BENCH=operators
//! ```
//!
//! `identify` and `distinct` are dataflows of their own, start and end of timely included: their time is for many events.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dbb_events::{Micros, Request};
use dbb_operators::{
    Arrival, Classified, Incoming, classify,
    distinct::distinct,
    facts::{Attempt, Told, Wanted},
    identify::{Remember, identify},
    mapping::{Mapping, Route, Selector},
    route::requests_for,
    tell::Teller,
};
use std::{collections::BTreeSet, hint::black_box, time::Duration};
use timely::dataflow::operators::{Inspect, Probe, vec::ToStream};

const SITE: &str = "rubin-topic-sample";

fn incoming(name: &str) -> Vec<Incoming> {
    dbb_bench::records(name)
        .expect("the captures are in tests/data/rucio-events")
        .into_iter()
        .map(|received| Incoming {
            received,
            read_at: Micros(1_790_000_000_500_000),
            again: None,
            incarnation: Default::default(),
            known: false,
        })
        .collect()
}

fn arrivals() -> Vec<Arrival> {
    incoming(SITE)
        .iter()
        .filter_map(|incoming| match classify(incoming, &Mapping::default()) {
            Classified::Arrival(arrival) => Some(*arrival),
            _ => None,
        })
        .collect()
}

/// A route for every (RSE, scope) of the capture, with the prefixes a site has: two doors.
fn mapping(arrivals: &[Arrival]) -> Mapping {
    let replicas: BTreeSet<(&str, &str)> = arrivals.iter().map(|a| (a.rse.as_str(), &*a.did.scope)).collect();
    let routes = replicas.into_iter().map(|(rse, scope)| {
        let (site, disk) = rse.split_once('_').expect("an RSE named SITE_KIND_DISK");
        let host = format!("dtn-{}.example.org", site.to_lowercase());
        let disk = disk.to_lowercase();
        let doors = [
            format!("root://{host}:1094//rucio/{disk}/"),
            format!("davs://{host}:443/rucio/{disk}/"),
        ];
        let to = format!("/sps/{disk}/");
        let selector = Selector::Replica {
            rse: rse.into(),
            scope: Some(scope.into()),
        };
        let prefixes = doors.iter().map(|from| (from, &to));
        Route::new(selector, vec!["main".into()], Vec::new(), prefixes).expect("a sound route")
    });
    Mapping::new(routes.collect())
}

fn operators(c: &mut Criterion) {
    let mut group = c.benchmark_group("operators");
    group.measurement_time(Duration::from_secs(4));
    for (name, incoming) in [
        ("arrivals", incoming(SITE)),
        ("night", incoming("night-a-events")),
    ] {
        group.throughput(Throughput::Elements(incoming.len() as u64));
        group.bench_function(format!("classify/{name}"), |b| {
            b.iter(|| {
                incoming
                    .iter()
                    .map(|incoming| classify(incoming, &Mapping::default()))
                    .for_each(|classified| drop(black_box(classified)))
            })
        });
    }
    let arrivals = arrivals();
    let mapping = mapping(&arrivals);
    group.throughput(Throughput::Elements(arrivals.len() as u64));
    group.bench_function("identify", |b| {
        b.iter_batched(|| arrivals.clone(), count_new, BatchSize::LargeInput)
    });
    let attempts = attempts();
    group.throughput(Throughput::Elements(attempts.len() as u64));
    group.bench_function("distinct", |b| {
        b.iter_batched(|| attempts.clone(), count_distinct, BatchSize::LargeInput)
    });
    group.throughput(Throughput::Elements(arrivals.len() as u64));
    group.bench_function("route", |b| {
        b.iter(|| {
            for arrival in &arrivals {
                let requests: Vec<Request> = requests_for(arrival, &mapping).expect("a request");
                black_box(requests);
            }
        })
    });
    let route = mapping.routes().first().expect("a route");
    let url = arrivals
        .iter()
        .find(|arrival| {
            mapping
                .route(arrival.rse.as_str(), &arrival.did.scope)
                .is_some_and(|r| std::ptr::eq(r, route))
        })
        .map(|arrival| &arrival.url)
        .expect("an arrival of that route");
    group.throughput(Throughput::Elements(1));
    group.bench_function("rewrite", |b| {
        b.iter(|| route.rewrite(black_box(url)).expect("a path"))
    });
    group.finish();
}

/// The steps of all requests of a night, each twice.
fn attempts() -> Vec<Attempt> {
    let wanted = Wanted {
        attempts: true,
        ..Wanted::default()
    };
    let (mut teller, mut told) = (Teller::new(wanted), Told::default());
    let records = dbb_bench::records("night-a-events").expect("the captures are in tests/data/rucio-events");
    for record in &records {
        // What cannot be read is no attempt.
        let _ = dbb_events::glimpse(&record.body, |glimpse| {
            teller.tell(glimpse, &record.body, &mut told)
        });
    }
    let again = told.attempts.clone();
    told.attempts.extend(again);
    told.attempts
}

fn count_distinct(attempts: Vec<Attempt>) {
    timely::execute_directly(move |worker| {
        worker.dataflow::<u64, _, _>(|scope| {
            distinct(attempts.to_stream(scope), None, None)
                .inspect(|attempt| {
                    black_box(attempt);
                })
                .probe();
        });
    });
}

fn count_new(arrivals: Vec<Arrival>) {
    timely::execute_directly(move |worker| {
        worker.dataflow::<u64, _, _>(|scope| {
            let remember = Remember {
                seconds: 3600,
                epochs: None,
            };
            identify(arrivals.to_stream(scope), remember, None, |_| {})
                .inspect(|arrival| {
                    black_box(arrival);
                })
                .probe();
        });
    });
}

criterion_group!(benches, operators);
criterion_main!(benches);
