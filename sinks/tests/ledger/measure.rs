//! Rows a second and bytes a file: `cargo test --release -p dbb-sinks --test ledger measure -- --ignored --nocapture`.

use crate::support::{On, new, request, settled};
use dbb_events::{Did, Entry, Micros, Outcome};
use std::time::Instant;
use uuid::Uuid;

/// A file with names as long as those at Rubin.
fn file(n: u128) -> Entry {
    let name = format!(
        "LSSTCam/20260401/MC_O_20260401_{:06}/MC_O_20260401_{:06}_R22_S{:02}.fits",
        n / 189,
        n / 189,
        n % 189
    );
    let mut asked = request(
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        "",
    );
    asked.did = Did::new("raw", name.as_str());
    asked.url =
        format!("davs://ccdavrubinint.in2p3.fr:2880/pnfs/in2p3.fr/data/lsst/instrument/raw/{name}").into();
    asked.uri = format!("/sdf/data/rubin/lsstdata/offline/instrument/raw/{name}").into();
    asked.created_at = Micros(1_790_000_000_000_000 + n as i64 * 1000);
    asked.read_at = Micros(1_790_000_000_500_000 + n as i64 * 1000);
    asked.place.offset = n as u64;
    let mut done = settled(asked, Outcome::Ingested, 1_790_000_001_000_000 + n as i64 * 1000);
    done.uuids = vec![Uuid::from_u128(
        (n + 1).wrapping_mul(0xda94_2042_e4dd_58b5_9e37_79b9_7f4a_7c15),
    )];
    Entry::Settled(Box::new(done))
}

fn measure(on: On) {
    let batches: u128 = std::env::var("BATCHES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200);
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let empty = ledger.size_bytes().unwrap();
    let mut times = Vec::new();
    for batch in 0..batches {
        let entries: Vec<Entry> = (batch * 1000..batch * 1000 + 1000).map(file).collect();
        let start = Instant::now();
        ledger.write(generation, &entries).unwrap();
        times.push(start.elapsed().as_secs_f64());
    }
    let total: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    let rows = (batches * 1000) as f64;
    println!(
        "{on:?}: {:.0} rows/s, median batch {:.1} ms, slowest {:.1} ms, {:.0} bytes a file",
        rows / total,
        times[times.len() / 2] * 1e3,
        times[times.len() - 1] * 1e3,
        (ledger.size_bytes().unwrap() - empty) as f64 / rows,
    );
}

#[test]
#[ignore = "a measurement"]
fn rows_a_second_and_bytes_a_file() {
    measure(On::Sqlite);
    measure(On::Postgres);
}
