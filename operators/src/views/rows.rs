//! Rows: a view that is kept as ordered rows, of which each published copy shares what did not change.

use super::{Batches, Scan, Table, ViewRow, projected};
use arrow::datatypes::SchemaRef;
use imbl::OrdMap;
use std::ops::Bound;

/// Rows in one batch.
const BATCH: usize = 8192;

/// The rows of one view, with how often each is there: once, in a view that is as it should be.
#[derive(Clone)]
pub struct Rows<R: ViewRow> {
    rows: OrdMap<R, isize>,
}

impl<R: ViewRow> Default for Rows<R> {
    fn default() -> Self {
        Self { rows: OrdMap::new() }
    }
}

impl<R: ViewRow> Rows<R> {
    /// Adds `row` `times` times, or takes it away when negative.
    pub fn update(&mut self, row: R, times: isize) {
        let now = self.rows.get(&row).copied().unwrap_or(0) + times;
        if now == 0 {
            self.rows.remove(&row);
        } else {
            self.rows.insert(row, now);
        }
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.rows
            .iter()
            .filter(|(_, times)| **times > 0)
            .map(|(row, _)| row)
    }
}

impl<R: ViewRow> Table for Rows<R> {
    fn schema(&self) -> SchemaRef {
        R::schema()
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn scan(&self, scan: &Scan) -> Batches {
        let (rows, projection) = (self.rows.clone(), scan.projection.clone());
        // Where to go on is the last row given: an iterator would borrow from what it must own.
        let mut after: Option<R> = None;
        let mut first = true;
        Box::new(std::iter::from_fn(move || {
            let from = match &after {
                Some(row) => Bound::Excluded(row),
                None => Bound::Unbounded,
            };
            let page: Vec<&R> = rows
                .range::<(Bound<&R>, Bound<&R>), R>((from, Bound::Unbounded))
                .filter(|(_, times)| **times > 0)
                .map(|(row, _)| row)
                .take(BATCH)
                .collect();
            // An empty view still says its columns.
            if page.is_empty() && !std::mem::take(&mut first) {
                return None;
            }
            first = false;
            let batch = R::batch(&mut page.iter().copied());
            let last = page.last().map(|row| (*row).clone());
            if last.is_some() {
                after = last;
            }
            Some(Ok(projected(batch, projection.as_deref())))
        }))
    }
}
