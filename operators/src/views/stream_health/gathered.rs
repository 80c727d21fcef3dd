//! Gathered: gives what callbacks have gathered whenever the frontier of a stream moves.
//!
//! ```text
//!   any stream of the operator that calls back --> its frontier passes e --> what was gathered by then
//! ```
//!
//! In:    a stream, of which only the frontier counts.
//! Out:   what `take` gives, at or before the epoch that it was gathered for, and before that epoch ends.
//! State: none.

use crate::Epoch;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{Stream, channels::pact::Pipeline, operators::generic::Operator},
};

/// See the module.
pub fn gathered<'s, D, O>(
    stream: Stream<'s, Epoch, Vec<D>>,
    name: &str,
    mut take: impl FnMut(&mut Vec<O>) + 'static,
) -> Stream<'s, Epoch, Vec<O>>
where
    D: Clone + 'static,
    O: Clone + 'static,
{
    stream.unary_frontier::<CapacityContainerBuilder<Vec<O>>, _, _, _>(
        Pipeline,
        name,
        move |capability, _info| {
            let mut held = Some(capability);
            let mut out = Vec::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|_, data| data.for_each(Vec::clear));
                let Some(capability) = &mut held else {
                    return;
                };
                let frontier = frontier.frontier().first().copied();
                if frontier == Some(*capability.time()) {
                    return;
                }
                take(&mut out);
                output.session(capability).give_iterator(out.drain(..));
                match frontier {
                    Some(epoch) => capability.downgrade(&epoch),
                    None => held = None,
                }
            }
        },
    )
}
