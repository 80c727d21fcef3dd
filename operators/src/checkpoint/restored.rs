//! Restored: the rows of a checkpoint enter the dataflow at its epoch, before anything else.

use super::{Checkpoints, Damaged, Kind};
use crate::Epoch;
use std::sync::Arc;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{Scope, Stream, operators::generic::source},
};

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Rows emitted before the worker does something else.
const TOGETHER: usize = 8192;

/// A checkpoint that was found. It is read by whoever implements this, ahead of who asks, and never on a worker.
pub trait Restored: Send + Sync {
    /// The epoch it is of; work goes on with the next.
    fn epoch(&self) -> Epoch;

    /// The rows of `kind` of one of `of` shares, in any order: of all shares together, each key once.
    ///
    /// An error is told to whoever reads the checkpoint and ends the rows: the process is to end.
    fn rows(&self, kind: &'static Kind, share: usize, of: usize) -> Box<dyn Iterator<Item = Row> + Send>;

    /// Hears of a row that an operator was given and cannot read, and leaves out: the process is to end.
    fn refuse(&self, damaged: Damaged);
}

/// What an operator needs to be kept from run to run.
#[derive(Clone)]
pub struct Keep {
    /// Where its parts go.
    pub checkpoints: Arc<Checkpoints>,
    /// What it is given back.
    pub restored: Option<Arc<dyn Restored>>,
}

/// The rows of `kind`, at the epoch of the checkpoint, on any workers.
pub fn restored<'s>(
    scope: Scope<'s, Epoch>,
    kind: &'static Kind,
    from: Option<Arc<dyn Restored>>,
) -> Stream<'s, Epoch, Vec<Row>> {
    let (index, peers) = (scope.worker().index(), scope.worker().peers());
    source::<_, CapacityContainerBuilder<Vec<Row>>, _, _>(scope, "restored", move |capability, info| {
        let activator = scope.activator_for(info.address.clone());
        let mut left = from.map(|from| (capability.delayed(&from.epoch()), from.rows(kind, index, peers)));
        move |output| {
            let Some((capability, rows)) = &mut left else {
                return;
            };
            let mut given = 0;
            output
                .session(capability)
                .give_iterator(rows.by_ref().take(TOGETHER).inspect(|_| given += 1));
            if given < TOGETHER {
                left = None;
            } else {
                activator.activate();
            }
        }
    })
}
