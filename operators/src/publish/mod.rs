//! Publish: all views become visible together, as of one epoch, on every process of a cluster.
//!
//! ```text
//!   rows of a view ----\
//!   replica snapshots ---> parts of epoch e, until all are there --> Published, at once
//!   offsets of readers -/
//! ```
//!
//! In:    one part for each view (and each worker, where a view is kept by all), for each epoch that is published.
//! Out:   [`Published`]: every view, and the offsets that it is the fold of.
//! State: the newest published epoch, and the parts of those that are not complete yet.
//!
//! Every operator offers every published epoch, so that the parts always meet. Views and offsets go to the first worker
//! of every process, so that what processes publish as of one epoch is the same. A snapshot of replicas is taken only
//! when somebody asks for it, and stays where it was taken: each process has those of its own workers.

mod asks;
mod keepers;
mod missing;
mod publisher;

pub use asks::heard;
pub use missing::{AllMissing, Lost, Missing, publish_missing};
pub use publisher::Publisher;

pub(crate) use keepers::kept;

use crate::{
    Epoch,
    views::{Rows, Table, ViewRow},
};
use dbb_events::Micros;
use differential_dataflow::VecCollection;
use std::{collections::BTreeMap, sync::Arc};
use timely::dataflow::Stream;

/// The epoch under which the end of a finite input is published.
pub const END: Epoch = Epoch::MAX;

/// For each topic or file, and partition, the offset of the next record.
pub type BoundOffsets = BTreeMap<(Arc<str>, i32), u64>;

/// A partition of which everything below an offset has been emitted.
pub type Bound = ((Arc<str>, i32), u64);

/// All views as of one epoch.
#[derive(Clone)]
pub struct Published {
    /// The epoch; [`END`] after the last.
    pub epoch: Epoch,
    /// When the epoch began, by the clock of the worker that announced it.
    pub at: Micros,
    /// What had been read by its end: the views are the fold of exactly these records.
    pub offsets: BoundOffsets,
    /// Of these, the records that nobody has any more: the views are without them.
    pub missing: AllMissing,
    /// The views by name. `replicas` only where it was asked for, and those of this process alone.
    pub tables: BTreeMap<&'static str, Arc<dyn Table>>,
}

/// One piece of what is published.
pub enum Part {
    /// A view, or one worker's share of it.
    Table(Arc<dyn Table>),
    /// A share of a view that nobody asked for.
    NotAsked,
    /// What has been read.
    Offsets(BoundOffsets),
    /// What will never be read.
    Missing(AllMissing),
}

/// Whose piece: the name of the view, and the worker.
pub type PartKey = (&'static str, usize);

/// The name under which offsets are offered.
pub const OFFSETS: &str = "(offsets)";

/// Keeps the rows of a view on the first worker of each process, and offers them at each published epoch.
pub fn publish<R: ViewRow>(rows: VecCollection<'_, Epoch, R, isize>, publisher: &Arc<Publisher>) {
    let name = R::VIEW.name;
    let mut rows_now = Rows::<R>::default();
    kept(
        rows.inner,
        publisher,
        name,
        |(_, epoch, _): &(R, Epoch, isize), _| *epoch,
        move |updates, _| {
            for (row, _, times) in updates {
                rows_now.update(row, times);
            }
            Part::Table(Arc::new(rows_now.clone()))
        },
    );
}

/// Keeps what readers have read, and offers it at each published epoch.
pub fn publish_offsets(bounds: Stream<'_, Epoch, Vec<Bound>>, publisher: &Arc<Publisher>) {
    let mut offsets = BoundOffsets::new();
    kept(
        bounds,
        publisher,
        OFFSETS,
        |_, epoch| epoch,
        move |bounds, _| {
            // One worker reads a partition, and tells of it in order: a smaller one is that of another topic of the name.
            offsets.extend(bounds);
            Part::Offsets(offsets.clone())
        },
    );
}
