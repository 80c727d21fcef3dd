//! How long does the ledger take to make a thousand outcomes durable?
//!
//! ```text
//! make bench BENCH=ledger
//! ```
//!
//! Each write is one transaction with new events of new files, on SQLite in the system's folder for temporary files
//! (`TMPDIR` names another), fsync included: on a memory file system it measures the processor alone.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dbb_events::{
    Action, Did, Entry, EventId, Kind, Micros, Outcome, Place, Request, Rse, Settled, Verified,
};
use dbb_sinks::ledger::{Ledger, LedgerSettings, Process, Who};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

const ENTRIES: u128 = 1000;
const NOW: Micros = Micros(1_790_000_000_000_000);

fn settled(number: u128) -> Entry {
    let name: Arc<str> = format!(
        "run/{:04}/detector_metadata/20260401/detector_metadata_{number:013}.json",
        number / 10_000
    )
    .into();
    // A hash in the real thing: rows do not arrive in the order of their keys.
    let event = EventId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let url = format!("davs://dtn.example.org:443/rucio/butler_disk/dp1/{name}");
    Entry::Settled(Box::new(Settled {
        request: Request {
            event,
            target: "main".into(),
            place: Place {
                stream: "SITE_BUTLER_DISK-dp1".into(),
                partition: 0,
                offset: number as u64,
                line: None,
            },
            event_type: "transfer-done".into(),
            did: Did::new("dp1", Arc::clone(&name)),
            rse: Rse::new("SITE_BUTLER_DISK"),
            action: Action::Register(Kind::DataProduct),
            created_at: NOW,
            url: url.into(),
            uri: format!("/sps/butler_disk/dp1/{name}").into(),
            sidecar: "{}".into(),
            bytes: Some(100),
            adler32: None,
            landed_at: Some(NOW),
            appended_at: Some(NOW),
            read_at: NOW,
            attempts: 0,
            waiting_since: None,
            was_unrouted: false,
            topic: Some("SITE_BUTLER_DISK-dp1".into()),
            body: vec![b'x'; 1500].into(),
        },
        outcome: Outcome::Ingested,
        at: NOW,
        took: Some(Duration::from_millis(u64::from(number as u16 % 400))),
        uuids: vec![Uuid::from_u128(event.0)],
        verified: Verified::Size,
        provides: Vec::new(),
    }))
}

fn write(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = LedgerSettings {
        url: format!("sqlite:{}", folder.path().join("ledger.sqlite").display()),
        ..LedgerSettings::default()
    };
    let mut ledger = Ledger::open(&settings).expect("a ledger");
    let who = Who {
        host: "bench".into(),
        process: Process::default(),
        version: "bench".into(),
        started_at: NOW,
        instance: String::new(),
    };
    let generation = ledger.begin_generation(&who).expect("a generation");
    let mut next = 0;
    let mut group = c.benchmark_group("ledger/sqlite");
    group
        .throughput(Throughput::Elements(ENTRIES as u64))
        .sample_size(20)
        .measurement_time(Duration::from_secs(5));
    group.bench_function("write 1000 new events", |b| {
        b.iter_batched(
            || {
                next += ENTRIES;
                (next - ENTRIES..next).map(settled).collect::<Vec<Entry>>()
            },
            |entries| ledger.write(generation, &entries).expect("written"),
            BatchSize::PerIteration,
        )
    });
    group.finish();
    println!(
        "ledger/sqlite: {} bytes an event, after {next} events",
        ledger.size_bytes().expect("a size") as u128 / next.max(1)
    );
}

criterion_group!(benches, write);
criterion_main!(benches);
