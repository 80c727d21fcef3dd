//! Numbered: following a hub's numbers in the dataflow of a site.
//!
//! ```text
//!   records --> records; numbers --> sequences --> entries for the ledger
//!   brokers' word that all was read, each second --/     \--> what is missing, for `stream_health`
//! ```
//!
//! State: when lines of the log were written lately, so that a flood of gaps makes none of lines.

use super::work::{Shared, now};
use dbb_events::{Entry, Lane};
use dbb_operators::{
    Epoch,
    sequences::{End, Noticed, Numbered, sequences},
    views::stream_health::{Heard, gathered},
};
use dbb_serving::Metrics;
use dbb_sources::kafka::KafkaStatistics;
use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};
use timely::dataflow::{
    Stream,
    operators::vec::{Broadcast, Map},
};

/// How often workers are told what was read to its end.
const ENDS_EVERY: Duration = Duration::from_secs(1);
/// Lines about gaps in one span of time.
const LINES: (u32, Duration) = (20, Duration::from_secs(10));

/// What comes of it.
pub(super) struct Sequenced<'s> {
    pub(super) entries: Stream<'s, Epoch, Vec<Entry>>,
    pub(super) missing: Stream<'s, Epoch, Vec<Heard>>,
}

/// Follows the lanes of `numbered`; each process tells of its own partitions on its first worker.
pub(super) fn sequenced<'s>(
    numbered: Stream<'s, Epoch, Vec<Numbered>>,
    ticks: Stream<'s, Epoch, Vec<()>>,
    is_first: bool,
    shared: &Arc<Shared>,
) -> Option<Sequenced<'s>> {
    let following = shared.following.clone()?;
    let statistics = shared.statistics.clone().filter(|_| is_first);
    let ends = gathered(ticks, "ends", ends(statistics)).broadcast();
    let (entries, missing) = sequences(numbered, ends, following, notices(shared.metrics.clone()));
    let missing = missing.map(|((stream, partition), missing)| Heard::missing(stream, partition, missing));
    Some(Sequenced { entries, missing })
}

fn ends(statistics: Option<KafkaStatistics>) -> impl FnMut(&mut Vec<End>) + 'static {
    let mut told: Option<Instant> = None;
    move |ends| {
        let Some(statistics) = &statistics else { return };
        if told.is_some_and(|told| told.elapsed() < ENDS_EVERY) {
            return;
        }
        told = Some(Instant::now());
        let now = now();
        let read = statistics
            .snapshot()
            .partitions
            .into_iter()
            .filter(|of| of.lag == 0);
        ends.extend(read.map(|of| ((of.partition.stream, of.partition.partition), now)));
    }
}

fn notices(metrics: Metrics) -> impl Fn(&Lane, Noticed) + 'static {
    let lines = Cell::new((Instant::now(), 0));
    let may_tell = move || {
        let (since, count) = lines.get();
        let (since, count) = if since.elapsed() > LINES.1 {
            (Instant::now(), 0)
        } else {
            (since, count)
        };
        lines.set((since, count + 1));
        if count == LINES.0 {
            tracing::warn!("there are more gaps than lines here: `dbb gaps list` shows all");
        }
        count < LINES.0
    };
    move |lane, noticed| match noticed {
        Noticed::Missing { first, last } => {
            metrics.gap_records("missed", (last - first).saturating_add(1));
            if may_tell() {
                tracing::warn!(%lane, first, last, "records of a hub have not arrived");
            }
        }
        Noticed::Filled => metrics.gap_records("filled", 1),
        Noticed::Gone(records) => {
            metrics.gap_records("unavailable", records);
            if may_tell() {
                tracing::error!(%lane, records, "the hub does not have missing records any more");
            }
        }
        Noticed::Closed { first, last } => {
            if may_tell() {
                tracing::info!(%lane, first, last, "all that was missing has arrived");
            }
        }
    }
}
