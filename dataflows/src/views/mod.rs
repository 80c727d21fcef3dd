//! The views of a dataflow: those that are wanted, and only what they need.
//!
//! ```text
//!   facts --+--> replicas --+--> replicas, rse_usage       --\
//!           |               \--> placement                  ---> published together
//!           \--> distinct -----> transfers, failures, ...  --/
//! ```
//!
//! The same for a replay and for a site: where facts come from is nobody's business here.

mod names;

pub use names::{Name, UnknownView, parse};

use dbb_operators::{
    Epoch,
    facts::Wanted,
    publish::{self, Publisher},
    replicas::{Keeping, Notice, Replicas, replicas},
    tell::Facts,
    views::rse_usage::rse_usage,
};
use std::{collections::BTreeSet, sync::Arc};
use timely::dataflow::{ProbeHandle, operators::Probe};

/// Which views, and how they are kept.
#[derive(Debug, Clone, Default)]
pub struct ViewSettings {
    /// The views.
    pub wanted: BTreeSet<Name>,
    /// Applies changes as they come: for a replay, where only the end is looked at.
    pub eager: bool,
    /// How long tombstones are kept, by the times of events, in microseconds; for ever when `None`.
    pub forget_after_us: Option<i64>,
    /// Two changes closer than this, in microseconds, cannot be told apart by clocks.
    pub clock_skew_us: i64,
}

impl ViewSettings {
    /// The facts that these views are made from; nothing where there are no views.
    pub fn facts(&self) -> Wanted {
        self.wanted
            .iter()
            .map(|name| name.facts())
            .fold(Wanted::default(), Wanted::or)
    }
}

/// Builds the views of `settings` on `facts`. All workers build the same.
///
/// `probe` passes an epoch when every operator that keeps something has applied it; `on_notice` hears
/// what somebody should know of, on the worker that found it.
pub fn build<'s>(
    facts: Facts<'s>,
    settings: &ViewSettings,
    publisher: &Arc<Publisher>,
    probe: &ProbeHandle<Epoch>,
    on_notice: impl Fn(Notice) + 'static,
) {
    let wants = |name: Name| settings.wanted.contains(&name);
    if settings.facts().changes {
        let keeping = Keeping {
            eager: settings.eager,
            names: settings.facts().names,
            emits: false,
            forget_after_us: settings.forget_after_us,
            clock_skew_us: settings.clock_skew_us,
            gather: false,
            publisher: wants(Name::Replicas).then(|| Arc::clone(publisher)),
        };
        let Replicas { sums, late, .. } =
            replicas(facts.changes, facts.names, facts.completes, keeping, on_notice);
        late.probe_with(probe);
        if wants(Name::RseUsage) {
            publish::publish(rse_usage(sums), publisher);
        }
    }
}
