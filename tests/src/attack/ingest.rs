//! Ingest: records published at a steady rate while something else goes on, and how long each took to its outcome.

use super::watch::Now;
use crate::{Recorded, Site, recording::Publisher};
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// When a file was announced, and during which case: microseconds since 1970.
type Published = HashMap<String, (i64, &'static str)>;

/// A thread that publishes, until it is told to stop; then it publishes what is left.
pub(super) struct Ingest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Published>>,
}

impl Ingest {
    /// So many records a second.
    pub(super) fn start(mut publisher: Publisher, records: Vec<Recorded>, rate: u32, now: &Now) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, now) = (Arc::clone(&stop), now.clone());
        let thread = thread::spawn(move || {
            let mut published = Published::new();
            let begun = Instant::now();
            for (n, record) in records.iter().enumerate() {
                let due = begun + Duration::from_secs(1) * n as u32 / rate;
                while !told.load(Relaxed) && Instant::now() < due {
                    thread::sleep(Duration::from_millis(5));
                }
                // What is published at the end, all at once, is nobody's measure.
                if !told.load(Relaxed)
                    && let Some(did) = record.did()
                {
                    let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
                    published.entry(did).or_insert((i64::try_from(at)?, now.get()));
                }
                publisher.send([record])?;
            }
            publisher.flush()?;
            Ok(published)
        });
        Self { stop, thread }
    }

    /// Publishes what is left; what was announced when.
    pub(super) fn finish(self) -> Result<Published> {
        self.stop.store(true, Relaxed);
        self.thread.join().ok().context("the publisher panicked")?
    }
}

/// By case: how long each file took from its announcement to its outcome, in milliseconds, in order.
pub(super) fn latencies(site: &Site, published: &Published) -> Result<BTreeMap<&'static str, Vec<u64>>> {
    let path = site.ledger_url().trim_start_matches("sqlite:");
    let ledger = rusqlite::Connection::open(path)?;
    let mut statement = ledger.prepare(
        "SELECT w.word || ':' || d.name, min(e.updated_at) FROM events e \
         JOIN dids d ON d.id = e.did JOIN words w ON w.id = d.scope GROUP BY e.did",
    )?;
    let mut rows = statement.query([])?;
    let mut found: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (did, at): (String, i64) = (row.get(0)?, row.get(1)?);
        if let Some((since, case)) = published.get(&did) {
            let took = u64::try_from(at - since).unwrap_or(0) / 1000;
            found.entry(case).or_default().push(took);
        }
    }
    found.values_mut().for_each(|all| all.sort_unstable());
    Ok(found)
}

/// What 99 of 100 are below.
pub(super) fn p99(sorted: &[u64]) -> u64 {
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}
