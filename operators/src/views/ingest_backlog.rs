//! Ingest backlog: what was meant for a Butler repository and has no final outcome there yet.
//!
//! ```text
//!   requests --\
//!   settled ----> at the open epoch --> by (repository, RSE, scope): which are open? --> files, bytes, oldest
//! ```
//!
//! In:    requests, and what became of each, once.
//! Out:   `(IngestBacklog, epoch, +1 or -1)`, one live row for each (repository, RSE, scope) with anything open: of
//!        the requests of each epoch and before, those that had not been answered when the epoch ended.
//! State: 200 bytes for each open request, and its `created_at` once more in an ordered list, so that the oldest is
//!        exact when it leaves; nothing for what is final.
//!
//! A request is known by (repository, event): one that the ledger sends again is the same one. It is open while it has
//! more requests than answers, or its newest answer is `waiting`.

#[cfg(test)]
mod tests;

use super::{
    View, ViewRow,
    answers::answers,
    closed::{Closed, Placing, fold_closed},
    columns::{numbers, texts, time_type, times},
    wide::Wide,
};
use crate::Epoch;
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::{EventId, Micros, Outcome, Request, Settled};
use differential_dataflow::{
    AsCollection, VecCollection,
    difference::{Multiply, Semigroup},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};
use timely::dataflow::{Stream, operators::vec::Map};
use xxhash_rust::xxh3::Xxh3;

/// What a backlog is counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Destination {
    /// The Butler repository, by its name in the configuration.
    pub repository: Arc<str>,
    /// Where the files landed.
    pub rse: Arc<str>,
    /// Their scope.
    pub scope: Arc<str>,
}

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IngestBacklog {
    /// Of what.
    pub to: Destination,
    /// Files with no final outcome, the waiting ones too.
    pub files: i64,
    /// Their bytes; of a file whose size nobody tells, none.
    pub bytes: i64,
    /// Of those, the files that were tried, and wait for something.
    pub waiting: i64,
    /// Their bytes.
    pub waiting_bytes: i64,
    /// `created_at` of the oldest event.
    pub oldest: Micros,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("repository", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("scope", DataType::Utf8, false),
        Field::new("files", DataType::Int64, false),
        Field::new("bytes", DataType::Int64, false),
        Field::new("waiting", DataType::Int64, false),
        Field::new("waiting_bytes", DataType::Int64, false),
        Field::new("oldest", time_type(), false),
    ]))
});

impl ViewRow for IngestBacklog {
    const VIEW: View = View {
        name: "ingest_backlog",
        meaning: "How many files and bytes of a scope, landed at an RSE, are meant for a Butler repository and have no \
                  final outcome in the ledger, how many of them wait for something, and since when the oldest.",
        cost: "200 bytes for each file without a final outcome.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let text = |of: fn(&Destination) -> &Arc<str>| texts(rows.iter().map(|row| of(&row.to)));
        let number = |of: fn(&Self) -> i64| numbers(rows.iter().map(|row| of(row)));
        super::batch_of(
            Self::schema(),
            vec![
                text(|to| &to.repository),
                text(|to| &to.rse),
                text(|to| &to.scope),
                number(|row| row.files),
                number(|row| row.bytes),
                number(|row| row.waiting),
                number(|row| row.waiting_bytes),
                times(rows.iter().map(|row| row.oldest)),
            ],
        )
    }
}

/// What the backlog needs of a request or an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    to: Destination,
    event: EventId,
    created_at: Micros,
    bytes: u64,
    /// `None` for a request; of an answer, when it came and whether it is final.
    answer: Option<Answer>,
}

/// The newest is the greatest, and of two of one moment the final one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Answer {
    at: Micros,
    is_final: bool,
}

impl Step {
    fn of(request: &Request, answer: Option<Answer>) -> Self {
        Self {
            to: Destination {
                repository: Arc::clone(&request.target),
                rse: Arc::clone(&request.rse.0),
                scope: Arc::clone(&request.did.scope),
            },
            event: request.event,
            created_at: request.created_at,
            bytes: request.bytes.unwrap_or(0),
            answer,
        }
    }

    fn place(&self) -> u64 {
        let mut hasher = Xxh3::new();
        for part in [&self.to.repository, &self.to.rse, &self.to.scope] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        hasher.digest()
    }
}

/// See the module.
pub fn ingest_backlog<'s>(
    meant: Stream<'s, Epoch, Vec<Request>>,
    settled: Stream<'s, Epoch, Vec<Settled>>,
) -> VecCollection<'s, Epoch, IngestBacklog, isize> {
    let asked = meant.map(|request| Step::of(&request, None));
    let answered = settled.map(|settled| {
        let answer = Answer {
            at: settled.at,
            is_final: !matches!(settled.outcome, Outcome::Waiting { .. }),
        };
        Step::of(&settled.request, Some(answer))
    });
    backlog(answers(asked, answered))
}

/// The rows of the steps of each epoch and before.
fn backlog<'s>(steps: Stream<'s, Epoch, Vec<Step>>) -> VecCollection<'s, Epoch, IngestBacklog, isize> {
    let mut piles = Piles::default();
    let placing = Placing {
        exchange: Step::place,
        epoch: |_| None,
    };
    fold_closed(steps, "ingest_backlog", placing, move |closed, rows| {
        piles.apply(closed, rows);
    })
    .as_collection()
}

/// All that is open on one worker.
#[derive(Default)]
struct Piles(HashMap<Destination, Pile>);

/// What is open of one row.
#[derive(Default)]
struct Pile {
    known: HashMap<EventId, Known>,
    oldest: BTreeMap<Micros, usize>,
    files: i64,
    bytes: Wide,
    waiting: i64,
    waiting_bytes: Wide,
}

/// One request, and what is known of it.
#[derive(Default, Clone, Copy)]
struct Known {
    created_at: Micros,
    bytes: u64,
    /// Requests less answers: for a moment negative, where the answer comes before the end of the request's epoch.
    unanswered: i64,
    newest: Option<Answer>,
}

impl Known {
    fn is_waiting(&self) -> bool {
        self.newest.is_some_and(|answer| !answer.is_final)
    }

    fn is_open(&self) -> bool {
        self.unanswered > 0 || self.is_waiting()
    }
}

impl Piles {
    fn apply(&mut self, closed: Closed<Step>, rows: &mut Vec<(IngestBacklog, Epoch, isize)>) {
        // The row as it was, and the requests that this epoch speaks of.
        let mut touched: BTreeMap<Destination, (Option<IngestBacklog>, BTreeSet<EventId>)> = BTreeMap::new();
        for step in closed.records {
            let pile = self.0.entry(step.to.clone()).or_default();
            if !touched.contains_key(&step.to) {
                touched.insert(step.to.clone(), (pile.row(&step.to), BTreeSet::new()));
            }
            if let Some((_, events)) = touched.get_mut(&step.to) {
                events.insert(step.event);
            }
            pile.apply(&step);
        }
        for (to, (before, events)) in touched {
            let Some(pile) = self.0.get_mut(&to) else {
                continue;
            };
            pile.forget(&events);
            let after = pile.row(&to);
            if before != after {
                rows.extend(before.map(|row| (row, closed.epoch, -1)));
                rows.extend(after.map(|row| (row, closed.epoch, 1)));
            }
            if pile.known.is_empty() {
                self.0.remove(&to);
            }
        }
    }
}

impl Pile {
    fn apply(&mut self, step: &Step) {
        let mut known = self.known.get(&step.event).copied().unwrap_or_default();
        self.count(&known, -1);
        // All copies of an event say the same.
        known.created_at = step.created_at;
        known.bytes = step.bytes;
        match step.answer {
            None => known.unanswered += 1,
            Some(answer) => {
                known.unanswered -= 1;
                known.newest = known.newest.max(Some(answer));
            }
        }
        self.count(&known, 1);
        self.known.insert(step.event, known);
    }

    fn count(&mut self, known: &Known, times: i64) {
        if !known.is_open() {
            return;
        }
        let bytes = Wide::from(known.bytes).multiply(&(times as isize));
        self.files += times;
        self.bytes.plus_equals(&bytes);
        if known.is_waiting() {
            self.waiting += times;
            self.waiting_bytes.plus_equals(&bytes);
        }
        let alike = self.oldest.entry(known.created_at).or_default();
        *alike = alike.saturating_add_signed(times as isize);
        if *alike == 0 {
            self.oldest.remove(&known.created_at);
        }
    }

    /// Drops those of `events` that nothing more is awaited for.
    fn forget(&mut self, events: &BTreeSet<EventId>) {
        for event in events {
            let settled = |known: &Known| known.unanswered == 0 && !known.is_open();
            if self.known.get(event).is_some_and(settled) {
                self.known.remove(event);
            }
        }
    }

    fn row(&self, to: &Destination) -> Option<IngestBacklog> {
        let (oldest, _) = self.oldest.first_key_value()?;
        Some(IngestBacklog {
            to: to.clone(),
            files: self.files,
            bytes: self.bytes.shown(),
            waiting: self.waiting,
            waiting_bytes: self.waiting_bytes.shown(),
            oldest: *oldest,
        })
    }
}
