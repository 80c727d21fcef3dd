//! A synthetic publisher, and views to publish.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    missing_docs,
    unreachable_pub
)]

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use dbb_operators::{
    publish::{BoundOffsets, OFFSETS, Part, Published, Publisher},
    views::{Scan, Table, View},
};
use dbb_serving::Offered;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A view of two columns, `name` and `n`, of any length, whose batches are made when asked for.
pub struct Numbers {
    pub from: i64,
    pub count: usize,
    /// How many batches were made.
    pub made: Arc<AtomicUsize>,
    /// How long one takes.
    pub slow: std::time::Duration,
}

pub const BATCH: usize = 1000;

impl Numbers {
    pub fn new(from: i64, count: usize) -> Self {
        Self {
            from,
            count,
            made: Arc::default(),
            slow: std::time::Duration::ZERO,
        }
    }
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("n", DataType::Int64, false),
    ]))
}

impl Table for Numbers {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn rows(&self) -> usize {
        self.count
    }

    fn scan(&self, scan: &Scan) -> Box<dyn Iterator<Item = RecordBatch> + Send> {
        let (from, count, made, slow) = (self.from, self.count, Arc::clone(&self.made), self.slow);
        let projection = scan.projection.clone();
        Box::new((0..count).step_by(BATCH).map(move |first| {
            made.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(slow);
            let numbers = first..(first + BATCH).min(count);
            let names = numbers.clone().map(|n| format!("name-{}", n % 10));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(names)),
                Arc::new(Int64Array::from_iter_values(numbers.map(|n| from + n as i64))),
            ];
            let batch = RecordBatch::try_new(schema(), columns).unwrap();
            match &projection {
                Some(projection) => batch.project(projection).unwrap(),
                None => batch,
            }
        }))
    }
}

pub fn offered(name: &'static str) -> Offered {
    Offered {
        view: View {
            name,
            meaning: "Some numbers.",
            cost: "Nothing.",
        },
        schema: schema(),
    }
}

/// One epoch with these tables, as of offset 7 of partition 0 of `events`.
pub fn published(epoch: u64, tables: Vec<(&'static str, Arc<dyn Table>)>) -> Arc<Published> {
    let publisher = Publisher::new(1);
    publish(&publisher, epoch, tables);
    publisher.newest().unwrap()
}

pub fn publish(publisher: &Publisher, epoch: u64, tables: Vec<(&'static str, Arc<dyn Table>)>) {
    publisher.expect((OFFSETS, 0));
    for (name, _) in &tables {
        publisher.expect((name, 0));
    }
    publisher.minted(epoch, Micros(1_700_000_000_000_000 + epoch as i64));
    let offsets: BoundOffsets = BTreeMap::from([(("events".into(), 0), epoch + 7)]);
    publisher.offer((OFFSETS, 0), epoch, Part::Offsets(offsets));
    for (name, table) in tables {
        publisher.offer((name, 0), epoch, Part::Table(table));
    }
}
