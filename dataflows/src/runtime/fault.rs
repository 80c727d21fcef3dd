//! Fault points: places between two steps at which a test ends the process, as a loss of power would.
//!
//! They are there with the feature `fault_points` alone, which nothing that is shipped has. `DBB_FAULT=NAME:N` ends the
//! process when it comes to the point of that name for the `N`th time.

/// Those of a hub alone.
pub const HUB_POINTS: [&str; 2] = ["publish", "published"];

/// Every point of a site, in the order in which a record passes them.
pub const POINTS: [&str; 10] = [
    "polled",
    "ledger_write",
    "ledger_written",
    "offsets_commit",
    "shards_write",
    "shards_written",
    "manifest_write",
    "manifest_written",
    "merged",
    "drained",
];

/// Ends the process here, if that was asked for.
#[cfg(feature = "fault_points")]
pub fn point(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    static ASKED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let asked = std::env::var("DBB_FAULT").ok()?;
        let (name, times) = asked.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });
    debug_assert!(POINTS.contains(&name) || HUB_POINTS.contains(&name), "{name}");
    if let Some((asked, left)) = &*ASKED
        && asked == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Nothing happens here.
#[cfg(not(feature = "fault_points"))]
#[inline(always)]
pub fn point(_: &str) {}
