//! Labels of files, remembered for a while within bounds.
//!
//! In:    labels by DID, as they are learnt.
//! Out:   the same, until they are too old or others need the room.
//! State: at most `max_files` entries and `max_bytes` of labels, in shards with a lock each, which readers share.

use super::CacheSettings;
use dbb_events::{Did, Labels};
use quick_cache::{Weighter, sync};
use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Labels of files; clones share it.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    entries: sync::Cache<Did, Entry, Weigh>,
    ttl: Duration,
    unlabelled_ttl: Duration,
    hits: AtomicU64,
}

#[derive(Clone)]
struct Entry {
    labels: Arc<Labels>,
    until: Instant,
    bytes: u64,
}

/// An entry weighs its bytes, but no less than its share of the memory: so one bound is both.
#[derive(Clone)]
struct Weigh {
    least: u64,
}

impl Weighter<Did, Entry> for Weigh {
    fn weight(&self, _: &Did, entry: &Entry) -> u64 {
        entry.bytes.max(self.least)
    }
}

impl Cache {
    /// An empty one.
    pub fn new(settings: &CacheSettings) -> Self {
        let files = usize::try_from(settings.max_files).unwrap_or(usize::MAX);
        let least = settings.max_bytes.div_ceil(settings.max_files.max(1));
        let entries = sync::Cache::with_weighter(files, settings.max_bytes, Weigh { least });
        Self(Arc::new(Inner {
            entries,
            ttl: Duration::from_secs(settings.ttl_s),
            unlabelled_ttl: Duration::from_secs(settings.unlabelled_ttl_s),
            hits: AtomicU64::new(0),
        }))
    }

    /// What is known of `did`: empty of `rubin_butler` where it is no Butler dataset.
    pub fn get(&self, did: &Did) -> Option<Arc<Labels>> {
        let found = self.fresh(did, Instant::now())?;
        self.0.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// As [`Cache::get`], uncounted.
    pub(super) fn peek(&self, did: &Did) -> Option<Arc<Labels>> {
        self.fresh(did, Instant::now())
    }

    fn fresh(&self, did: &Did, now: Instant) -> Option<Arc<Labels>> {
        let entry = self.0.entries.get(did)?;
        // What is too old is written over by the answer, or goes when others need the room.
        (now < entry.until).then_some(entry.labels)
    }

    pub(super) fn put(&self, did: Did, labels: Arc<Labels>) {
        let ttl = match labels.contains_key("rubin_butler") {
            true => self.0.ttl,
            false => self.0.unlabelled_ttl,
        };
        let entry = Entry {
            bytes: bytes(&did, &labels),
            until: Instant::now() + ttl,
            labels,
        };
        self.0.entries.insert(did, entry);
    }

    /// Files found by [`Cache::get`].
    pub(super) fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Relaxed)
    }

    /// Entries, those that are too old among them.
    pub fn files(&self) -> u64 {
        self.0.entries.len() as u64
    }

    /// What they weigh, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.entries.weight()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("files", &self.files())
            .finish_non_exhaustive()
    }
}

/// About what an entry takes in memory.
fn bytes(did: &Did, labels: &Labels) -> u64 {
    const ENTRY: usize = mem::size_of::<(Did, Entry)>() + 96;
    const LABEL: usize = mem::size_of::<(Arc<str>, serde_json::Value)>() + 48;
    let text = |(name, value): (&Arc<str>, &serde_json::Value)| LABEL + name.len() + size(value);
    let labels: usize = labels.iter().map(text).sum();
    (ENTRY + did.scope.len() + did.name.len() + labels) as u64
}

fn size(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| 32 + size(value)).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| 64 + name.len() + size(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn labels(sidecar: &str) -> Arc<Labels> {
        Arc::new(Labels::from([
            ("rubin_butler".into(), json!("raw_file")),
            ("rubin_sidecar".into(), json!(sidecar)),
        ]))
    }

    fn did(n: usize) -> Did {
        Did::new("raw", format!("{n}.fits"))
    }

    #[test]
    fn what_was_put_in_is_found_by_all_clones() {
        let cache = Cache::new(&CacheSettings::default());
        cache.put(did(1), labels("{}"));
        assert_eq!(cache.clone().get(&did(1)), Some(labels("{}")));
        assert_eq!(cache.get(&did(2)), None);
        assert_eq!(cache.hits(), 1);
    }

    #[test]
    fn it_holds_no_more_files_than_it_may() {
        let settings = CacheSettings {
            max_files: 100,
            ..CacheSettings::default()
        };
        let cache = Cache::new(&settings);
        (0..10_000).for_each(|n| cache.put(did(n), labels("{}")));
        assert!((1..=100).contains(&cache.files()), "{}", cache.files());
    }

    #[test]
    fn it_holds_no_more_bytes_than_it_may() {
        let settings = CacheSettings {
            max_bytes: 1 << 20,
            max_files: 1 << 20,
            ..CacheSettings::default()
        };
        let cache = Cache::new(&settings);
        (0..1000).for_each(|n| cache.put(did(n), labels(&"x".repeat(10_000))));
        assert!((1..=104).contains(&cache.files()), "{}", cache.files());
        assert!(cache.bytes() <= 1 << 20, "{}", cache.bytes());
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_sooner_where_nothing_is_known() {
        let cache = Cache::new(&CacheSettings {
            ttl_s: 3600,
            unlabelled_ttl_s: 60,
            ..CacheSettings::default()
        });
        cache.put(did(1), labels("{}"));
        cache.put(did(2), Arc::default());
        let after = |s| Instant::now() + Duration::from_secs(s);
        let known = |s| [did(1), did(2)].map(|did| cache.fresh(&did, after(s)).is_some());
        assert_eq!(known(50), [true, true]);
        assert_eq!(known(70), [true, false]);
        assert_eq!(known(3700), [false, false]);
    }
}
