//! The clock: worker 0 announces epochs, every worker hears them.
//!
//! ```text
//!   worker 0: tick n, n+1, ... --broadcast--> every reader: what it reads now is of the newest tick
//! ```
//!
//! Out:   one record an epoch on every worker: when it was announced, by the clock of worker 0.
//! State: none.
//!
//! Frontier: it passes epoch `e` when worker 0 has announced a later one; readers hold their own
//! capability of `e` until they have heard of it. Clocks of other hosts are never asked.

use super::Control;
use dbb_events::Micros;
use dbb_operators::Epoch;
use std::{sync::Arc, time::Duration};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Scope, Stream,
        operators::{generic::source, vec::Broadcast},
    },
};

/// See the module. It begins after the epoch that was `restored`, if one was. It stops, and with it every epoch ends, once `control` says the work is finished.
pub fn clock<'s>(
    scope: Scope<'s, Epoch>,
    tick: Duration,
    restored: Option<Epoch>,
    control: Arc<Control>,
    now: impl Fn() -> Micros + 'static,
) -> Stream<'s, Epoch, Vec<Micros>> {
    let announces = scope.worker().index() == 0;
    source::<_, CapacityContainerBuilder<Vec<Micros>>, _, _>(scope, "clock", |capability, info| {
        let activator = scope.activator_for(info.address.clone());
        let first_epoch = restored.map_or(0, |restored| restored.saturating_add(1));
        let mut capability = announces.then(|| capability.delayed(&first_epoch));
        let mut last = std::time::Instant::now();
        let mut first = true;
        move |output| {
            if control.is_finished() {
                capability = None;
            }
            let Some(capability) = capability.as_mut() else {
                return;
            };
            // Activations may come early, for reasons of others.
            let left = tick.saturating_sub(last.elapsed());
            if first || left.is_zero() {
                first = false;
                last = std::time::Instant::now();
                output.session(capability).give(now());
                let next = *capability.time() + 1;
                capability.downgrade(&next);
                activator.activate_after(tick);
            } else {
                activator.activate_after(left);
            }
        }
    })
    .broadcast()
}
