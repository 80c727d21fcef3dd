//! Gate: nothing is read until what was restored is in its place, on all workers.

use dbb_operators::Epoch;
use timely::dataflow::ProbeHandle;

/// See the module.
#[derive(Clone)]
pub struct Gate {
    /// It passes an epoch when every operator that keeps something has applied it.
    probe: ProbeHandle<Epoch>,
    restored: Option<Epoch>,
}

impl Gate {
    /// Opens when `probe` has passed the epoch that was `restored`; at once where none was.
    pub fn new(probe: ProbeHandle<Epoch>, restored: Option<Epoch>) -> Self {
        Self { probe, restored }
    }

    /// True from when on the source may be polled.
    pub fn is_open(&self) -> bool {
        self.restored.is_none_or(|restored| {
            // Before the first step a probe has seen nothing, and looks like one that has seen the end.
            self.probe
                .with_frontier(|frontier| !frontier.is_empty() && !frontier.less_equal(&restored))
        })
    }
}
