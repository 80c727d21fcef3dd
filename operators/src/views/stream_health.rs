//! Stream health: how far each partition has been read, how late its events come, and what is wrong with it.
//!
//! ```text
//!   summaries of readers ---\
//!   counts of operators -----> one worker: totals by partition --> at published epochs, rows instead of those before
//! ```
//!
//! In:    one summary for each partition and batch, from the worker that reads it; counts by kind, from all.
//! Out:   the view `stream_health`, published.
//! State: for each partition some numbers, and how late events were for each minute of the window: kilobytes.
//!
//! Not a collection: it tells of reading, at which two runs over the same records differ. Counts begin with the process.

mod counts;
mod gathered;
mod heard;

pub use counts::{Count, Counters, Noticed};
pub use gathered::gathered;
pub use heard::{Heard, Hearing, Read};

use super::{
    View, ViewRow,
    columns::{texts, told_numbers, told_seconds},
    sketch::quantile,
};
use crate::{
    Epoch,
    publish::{Publisher, publish},
};
use arrow::{
    array::{Int32Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::AsCollection;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{core::Concatenate, generic::Operator, vec::Map},
    },
};

/// The name of the row that stands for all streams.
pub const ALL: &str = "(all)";

const MINUTE_US: i64 = 60_000_000;

/// A row of the view: a partition, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamHealth {
    /// The topic, file or queue; [`ALL`] for the row of all.
    pub stream: Arc<str>,
    /// The partition; `None` for the row of all.
    pub partition: Option<i32>,
    /// The offset of the next record; `None` while none was read.
    pub offset: Option<i64>,
    /// How many records the source has beyond that, where it knows.
    pub lag: Option<i64>,
    /// What 99 % of the events of the window were not later than, in milliseconds.
    pub lateness_p99_ms: Option<u32>,
    /// Records read.
    pub records: i64,
    /// Records read again, by offset; for all, events that came again, by identity.
    pub repeats: i64,
    /// Records that are no events.
    pub unreadable: i64,
    /// Offsets passed over or lost.
    pub gaps: i64,
    /// Records that a hub has numbered and that have not come; `None` where nothing is numbered.
    pub missing: Option<i64>,
    /// Changes that clocks cannot put in order.
    pub conflicts: Option<i64>,
    /// Changes that tell another size or checksum than an earlier one.
    pub disagreements: Option<i64>,
    /// Changes that came too late to be judged.
    pub too_late: Option<i64>,
    /// How long ago the published epoch began, in milliseconds, when this row was made.
    pub epoch_age_ms: Option<u32>,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("stream", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("lag", DataType::Int64, true),
        Field::new("lateness_p99_s", DataType::Float64, true),
        Field::new("records", DataType::Int64, false),
        Field::new("repeats", DataType::Int64, false),
        Field::new("unreadable", DataType::Int64, false),
        Field::new("gaps", DataType::Int64, false),
        Field::new("missing", DataType::Int64, true),
        Field::new("conflicts", DataType::Int64, true),
        Field::new("disagreements", DataType::Int64, true),
        Field::new("too_late", DataType::Int64, true),
        Field::new("epoch_age_s", DataType::Float64, true),
    ]))
});

impl ViewRow for StreamHealth {
    const VIEW: View = View {
        name: "stream_health",
        meaning: "How far a partition of a source has been read since the start, how late its events come, and what \
                  was wrong with them; one row, `(all)`, for all of them together.",
        cost: "Some kilobytes for each partition, and one summary for each partition and epoch.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let number = |of: fn(&Self) -> Option<i64>| told_numbers(rows.iter().map(|row| of(row)));
        super::batch_of(
            Self::schema(),
            vec![
                texts(rows.iter().map(|row| &row.stream)),
                Arc::new(rows.iter().map(|row| row.partition).collect::<Int32Array>()),
                number(|row| row.offset),
                number(|row| row.lag),
                told_seconds(rows.iter().map(|row| row.lateness_p99_ms)),
                number(|row| Some(row.records)),
                number(|row| Some(row.repeats)),
                number(|row| Some(row.unreadable)),
                number(|row| Some(row.gaps)),
                number(|row| row.missing),
                number(|row| row.conflicts),
                number(|row| row.disagreements),
                number(|row| row.too_late),
                told_seconds(rows.iter().map(|row| row.epoch_age_ms)),
            ],
        )
    }
}

/// Where the view goes, and by what it is measured.
pub struct Health {
    /// Where it is published.
    pub publisher: Arc<Publisher>,
    /// How long, by the time of reading, an event counts for lateness, in microseconds; in whole minutes.
    pub window_us: i64,
    /// The time now.
    pub clock: Box<dyn Fn() -> Micros>,
}

/// What changes the totals.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Word {
    Heard(Heard),
    Count(Count),
}

/// See the module.
pub fn stream_health<'s>(
    heard: Stream<'s, Epoch, Vec<Heard>>,
    counts: Stream<'s, Epoch, Vec<Count>>,
    health: Health,
) {
    let Health {
        publisher,
        window_us,
        clock,
    } = health;
    let scope = heard.scope();
    let words = scope.concatenate([heard.map(Word::Heard), counts.map(Word::Count)]);
    let (keeps, epochs) = (scope.worker().index() == 0, Arc::clone(&publisher));
    let rows = words.unary_frontier::<CapacityContainerBuilder<Vec<(StreamHealth, Epoch, isize)>>, _, _, _>(
        Exchange::new(|_: &Word| 0),
        StreamHealth::VIEW.name,
        move |capability, _| {
            let mut totals = Totals::new(window_us);
            let mut open: BTreeMap<Epoch, Vec<Word>> = BTreeMap::new();
            let mut shown: Vec<StreamHealth> = Vec::new();
            let mut done = None;
            // Never later than the next epoch to publish, which so waits for what it has to say.
            let mut held = keeps.then_some(capability);
            move |(input, frontier), output| {
                input.for_each_stamp(|stamp, data| {
                    // Words of no epoch would be of none that is published.
                    let Some(epoch) = stamp.least().copied() else {
                        return;
                    };
                    let open = open.entry(epoch).or_default();
                    open.extend(data.flat_map(|words| words.drain(..)));
                });
                let Some(capability) = &mut held else { return };
                let frontier = frontier.frontier().first().copied();
                for due in epochs.due(done, frontier) {
                    let later = match due.checked_add(1) {
                        Some(next) => open.split_off(&next),
                        None => BTreeMap::new(),
                    };
                    for word in std::mem::replace(&mut open, later).into_values().flatten() {
                        totals.apply(word);
                    }
                    let age = epochs.began(due).map(|began| clock().0.saturating_sub(began.0));
                    let rows = totals.rows(age);
                    let of_due = capability.delayed(&due);
                    let mut session = output.session(&of_due);
                    session.give_iterator(shown.drain(..).map(|row| (row, due, -1)));
                    session.give_iterator(rows.iter().map(|row| (row.clone(), due, 1)));
                    shown = rows;
                    done = Some(due);
                }
                match frontier {
                    Some(frontier) => capability.downgrade(&epochs.next(frontier)),
                    None => held = None,
                }
            }
        },
    );
    publish(rows.as_collection(), &publisher);
}

/// All that is known.
struct Totals {
    minutes: i64,
    partitions: BTreeMap<(Arc<str>, i32), Partition>,
    noticed: [i64; 4],
}

/// What is known of a partition.
#[derive(Default)]
struct Partition {
    next: u64,
    lag: Option<u64>,
    records: u64,
    again: u64,
    unreadable: u64,
    gaps: u64,
    missing: Option<u64>,
    late: Window,
}

/// How many events were late by how much, in the last minutes.
#[derive(Default)]
struct Window {
    by_minute: BTreeMap<i64, Vec<(u16, u32)>>,
    sum: BTreeMap<u16, isize>,
}

impl Window {
    /// Adds what was read in `minute`, and drops what was read `minutes` before the newest or earlier.
    fn add(&mut self, minute: i64, late: Vec<(u16, u32)>, minutes: i64) {
        for (bucket, count) in &late {
            *self.sum.entry(*bucket).or_default() += *count as isize;
        }
        let of_minute = self.by_minute.entry(minute).or_default();
        for (bucket, count) in late {
            match of_minute.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(at) => of_minute[at].1 = of_minute[at].1.saturating_add(count),
                Err(at) => of_minute.insert(at, (bucket, count)),
            }
        }
        let newest = self
            .by_minute
            .last_key_value()
            .map_or(minute, |(newest, _)| *newest);
        while let Some(oldest) = self.by_minute.first_entry()
            && *oldest.key() <= newest.saturating_sub(minutes)
        {
            for (bucket, count) in oldest.remove() {
                let sum = self.sum.entry(bucket).or_default();
                *sum -= count as isize;
                if *sum == 0 {
                    self.sum.remove(&bucket);
                }
            }
        }
    }
}

fn p99(late: &BTreeMap<u16, isize>) -> Option<u32> {
    let buckets: Vec<(u16, isize)> = late.iter().map(|(bucket, count)| (*bucket, *count)).collect();
    quantile(&buckets, 99)
}

impl Totals {
    fn new(window_us: i64) -> Self {
        Self {
            minutes: (window_us / MINUTE_US).max(1),
            partitions: BTreeMap::new(),
            noticed: [0; 4],
        }
    }

    fn apply(&mut self, word: Word) {
        match word {
            Word::Count(Count { what, times }) => {
                let noticed = &mut self.noticed[what as usize];
                *noticed = noticed.saturating_add_unsigned(times);
            }
            Word::Heard(heard) => {
                let of = self
                    .partitions
                    .entry((heard.stream, heard.partition))
                    .or_default();
                of.next = of.next.max(heard.next);
                of.lag = heard.lag.or(of.lag);
                of.records += heard.records;
                of.again += heard.again;
                of.unreadable += heard.unreadable;
                of.gaps += heard.gaps;
                of.missing = heard.missing.or(of.missing);
                if heard.records > 0 {
                    let minute = heard.read_at.0.div_euclid(MINUTE_US);
                    of.late.add(minute, heard.lateness, self.minutes);
                }
            }
        }
    }

    /// The rows, when the epoch began `age` microseconds ago.
    fn rows(&self, age: Option<i64>) -> Vec<StreamHealth> {
        let epoch_age_ms = age.map(|us| u32::try_from((us / 1000).max(0)).unwrap_or(u32::MAX));
        let mut rows = Vec::with_capacity(self.partitions.len() + 1);
        let mut late: BTreeMap<u16, isize> = BTreeMap::new();
        let mut all = StreamHealth {
            stream: ALL.into(),
            partition: None,
            offset: None,
            lag: None,
            lateness_p99_ms: None,
            records: 0,
            repeats: self.noticed[Noticed::Repeat as usize],
            unreadable: 0,
            gaps: 0,
            missing: None,
            conflicts: Some(self.noticed[Noticed::Conflict as usize]),
            disagreements: Some(self.noticed[Noticed::Disagreement as usize]),
            too_late: Some(self.noticed[Noticed::TooLate as usize]),
            epoch_age_ms,
        };
        for ((stream, partition), of) in &self.partitions {
            let row = StreamHealth {
                stream: Arc::clone(stream),
                partition: Some(*partition),
                offset: (of.next > 0).then_some(of.next as i64),
                lag: of.lag.map(|lag| lag as i64),
                lateness_p99_ms: p99(&of.late.sum),
                records: of.records as i64,
                repeats: of.again as i64,
                unreadable: of.unreadable as i64,
                gaps: of.gaps as i64,
                missing: of
                    .missing
                    .map(|missing| i64::try_from(missing).unwrap_or(i64::MAX)),
                conflicts: None,
                disagreements: None,
                too_late: None,
                epoch_age_ms,
            };
            all.records += row.records;
            all.unreadable += row.unreadable;
            all.gaps += row.gaps;
            if let Some(missing) = row.missing {
                all.missing = Some(all.missing.unwrap_or(0).saturating_add(missing));
            }
            if let Some(lag) = row.lag {
                all.lag = Some(all.lag.unwrap_or(0).saturating_add(lag));
            }
            for (bucket, count) in &of.late.sum {
                *late.entry(*bucket).or_default() += count;
            }
            rows.push(row);
        }
        all.lateness_p99_ms = p99(&late);
        rows.push(all);
        rows
    }
}
