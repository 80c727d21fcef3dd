//! Checkpoint: what operators keep, handed out as of one closed epoch, and given back to them at a start.
//!
//! ```text
//!   operator --rows changed since the last--> parts of epoch e, until all are there --> Collected, to be written
//!   what was written --rows of each kind--> a stream at the epoch of the checkpoint --> operator
//! ```
//!
//! In:    from each operator that keeps something, the rows that changed, at each epoch that is due.
//! Out:   [`Collected`]: the changed rows of a whole process and the offsets they are the fold of.
//! State: the parts of the epochs that are not complete yet.
//!
//! No I/O: rows are written, merged and read elsewhere. Which worker a row is given back to does not matter: it goes
//! where the operator's own records go, however many workers there are now.

pub(crate) mod coded;
mod kept;
mod kind;
mod meeting;
pub(crate) mod met;
mod offering;
mod restored;

pub use kept::{kept, sum};
pub use kind::{Add, Damaged, Give, Kind, Merge, Rows, spread};
pub use meeting::{Checkpoints, Collected, Part, PartKey, ReadTo};
pub(crate) use offering::Offering;
pub use restored::{Keep, Restored, Row, restored};

/// Every kind of state there is.
pub fn kinds() -> Vec<&'static Kind> {
    use crate::{distinct, identify, replicas, views};
    vec![
        &identify::KIND,
        &distinct::ATTEMPTS,
        &distinct::SAID,
        &replicas::REPLICAS,
        &replicas::FLOORS,
        &views::transfers::KIND,
        &views::failures::KIND,
        &views::rules::KIND,
        &views::lost_files::KIND,
        &views::dataset_progress::FILES,
        &views::dataset_progress::SETTLED,
        &views::listings::KIND,
        &views::site_outcomes::KIND,
    ]
}
