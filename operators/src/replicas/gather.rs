//! Gather: all replicas at the end, on the first worker, where the workers of a run share no memory.
//!
//! In:    the rows of every worker, once, when the input has ended.
//! Out:   nothing; the table `replicas` is offered by the first worker, at [`END`] only.
//! State: all rows with their names, about 150 bytes each.

use super::columns::{self, Line};
use crate::{
    Epoch,
    facts::{Basis, DidKey, State},
    publish::{END, Part, Publisher},
    views::{Batches, Scan, Table},
};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use timely::dataflow::{Stream, channels::pact::Exchange, operators::generic::Operator};
use ustr::Ustr;

/// Rows in one batch.
const BATCH: usize = 8192;

/// A row that can travel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Row {
    scope: Ustr,
    name: Option<Box<str>>,
    rse: Ustr,
    state: State,
    did: DidKey,
    bytes: Option<u64>,
    adler32: Option<u32>,
    basis: Basis,
    at: i64,
}

impl From<Line<'_>> for Row {
    fn from(line: Line<'_>) -> Self {
        Self {
            scope: Ustr::from(line.scope),
            name: line.name.map(Into::into),
            rse: Ustr::from(line.rse),
            state: line.state,
            did: line.did,
            bytes: line.bytes,
            adler32: line.adler32,
            basis: line.basis,
            at: line.at,
        }
    }
}

impl Row {
    fn line(&self) -> Line<'_> {
        Line {
            did: self.did,
            scope: self.scope.as_str(),
            name: self.name.as_deref(),
            rse: self.rse.as_str(),
            state: self.state,
            bytes: self.bytes,
            adler32: self.adler32,
            basis: self.basis,
            at: self.at,
        }
    }

    fn has(&self, column: &str, value: &str) -> bool {
        match column {
            "scope" => self.scope.as_str() == value,
            "name" => self.name.as_deref() == Some(value),
            "rse" => self.rse.as_str() == value,
            "state" => self.state.as_str() == value,
            _ => true,
        }
    }
}

/// See the module.
pub(super) fn gather(rows: Stream<'_, Epoch, Vec<Row>>, publisher: &Arc<Publisher>) {
    let part = ("replicas", 0);
    let publisher = Arc::clone(publisher);
    let keeps = rows.scope().worker().index() == 0;
    if keeps {
        publisher.expect(part);
    }
    let mut kept = Vec::new();
    let mut done = None;
    rows.sink(
        Exchange::new(|_: &Row| 0),
        "gather replicas",
        move |(input, frontier)| {
            input.for_each_stamp(|_, data| {
                for rows in data {
                    kept.append(rows);
                }
            });
            if !keeps {
                return;
            }
            for due in publisher.due(done, frontier.frontier().first().copied()) {
                let value = if due == END {
                    kept.sort_unstable();
                    Part::Table(Arc::new(Gathered(Arc::new(std::mem::take(&mut kept)))))
                } else {
                    Part::NotAsked
                };
                publisher.offer(part, due, value);
                done = Some(due);
            }
        },
    );
}

struct Gathered(Arc<Vec<Row>>);

impl Table for Gathered {
    fn schema(&self) -> SchemaRef {
        columns::schema()
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn scan(&self, scan: &Scan) -> Batches {
        let (rows, scan) = (Arc::clone(&self.0), scan.clone());
        let mut next = 0;
        let mut first = true;
        Box::new(std::iter::from_fn(move || {
            let mut lines = Vec::new();
            while let Some(row) = rows.get(next).filter(|_| lines.len() < BATCH) {
                next += 1;
                if scan.equal.iter().all(|(column, value)| row.has(column, value)) {
                    lines.push(row.line());
                }
            }
            if lines.is_empty() && !std::mem::take(&mut first) {
                return None;
            }
            first = false;
            Some(Ok(columns::batch(&lines, scan.projection.as_deref())))
        }))
    }
}
