//! Memory: what the ledger and the checkpoints remember of a Kafka source.

use crate::Positions;
use dbb_events::Mark;
use std::{fmt, sync::Arc};

/// Asks for the state of the ledger: everything that was acked before the call is in it. `None` if it cannot be asked now.
pub type AskMark = Arc<dyn Fn() -> Option<Mark> + Send + Sync>;

/// What is remembered elsewhere than by the group. Without anything, what the group has stored is all there is.
#[derive(Clone, Default)]
pub struct Memory {
    /// The state of the ledger at the start.
    pub mark: Option<Mark>,
    /// Asks for its state now, from the thread that commits.
    pub ask: Option<AskMark>,
    /// Below these places all was handled, says the ledger.
    pub handled: Positions,
    /// The state of the ledger by which all below the places of the checkpoint was handled, says the checkpoint.
    pub checkpoint: Option<Mark>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("mark", &self.mark)
            .field("handled", &self.handled)
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// What was said of the ledger, and what it is, where the ledger does not hold what it held then.
    pub(super) fn lost_since(&self, said: Option<Mark>) -> Option<(Mark, Mark)> {
        let (said, is) = said.zip(self.mark)?;
        (!is.holds(said)).then_some((said, is))
    }
}
