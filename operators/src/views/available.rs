//! Available: where each file is AVAILABLE, indexed once for all views that ask.
//!
//! ```text
//!   differences of replicas --> the AVAILABLE ones --> RSEs by file
//! ```
//!
//! In:    differences of replicas, at most one live row for each (file, RSE).
//! Out:   an arrangement to join with; clones share it.
//! State: about 40 bytes for each AVAILABLE replica.

use crate::{
    Epoch,
    facts::{DidKey, RseName, State},
    replicas::Replica,
};
use differential_dataflow::{
    VecCollection,
    operators::arrange::{Arranged, TraceAgent},
    trace::implementations::ValSpine,
};

/// The RSEs of each file.
pub type Available<'s> = Arranged<'s, TraceAgent<ValSpine<DidKey, RseName, Epoch, isize>>>;

/// Where each file is AVAILABLE.
pub fn available<'s>(replicas: VecCollection<'s, Epoch, Replica, isize>) -> Available<'s> {
    replicas
        .flat_map(|replica| (replica.state == State::Available).then_some((replica.did, replica.rse)))
        .arrange_by_key_named("available")
}
