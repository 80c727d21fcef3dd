//! Findings: what was counted and does not hold any more, and what is done about it.

use crate::Partition;
use dbb_events::{Incarnation, Mark};
use std::fmt;

/// Why a partition is not gone on with where it had been left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The topic was deleted, and made again, or another cluster answers under the same address.
    MadeAgain {
        /// What was read.
        was: Incarnation,
        /// What is there now.
        is: Incarnation,
        /// Below this offset all was handled of what was there.
        handled: u64,
    },
    /// The log ends before what was read of it: brokers have lost its end, or came back with an older copy.
    WentBack {
        /// Below this offset all had been read.
        read: u64,
        /// Where the log ends now.
        end: u64,
    },
    /// The ledger does not hold the outcomes of what the group calls handled: it is another, or an older copy.
    LedgerLost {
        /// What was said beside the offset.
        said: Mark,
        /// What the ledger is.
        is: Mark,
        /// The offset that the group has stored.
        committed: u64,
        /// Where it is read from.
        from: u64,
        /// The first record that the source still has.
        first: u64,
    },
}

impl Finding {
    /// The word of its kind, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::MadeAgain { .. } => "topic_made_again",
            Finding::WentBack { .. } => "log_went_back",
            Finding::LedgerLost { .. } => "ledger_lost",
        }
    }

    /// All the kinds.
    pub const KINDS: [&'static str; 3] = ["topic_made_again", "log_went_back", "ledger_lost"];

    /// What a person is told of `partition`.
    pub(super) fn told(&self, partition: &Partition) -> String {
        let text = self.to_string();
        format!("{partition}: {text}")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::MadeAgain { was, is, handled } => write!(
                f,
                "the topic was deleted and made again (its id was {was} and is {is}): it is read from its beginning; what \
                 came after offset {handled} of the old one may never have been read: `dbb reconcile` finds what is missing"
            ),
            Finding::WentBack { read, end } => write!(
                f,
                "the log went back: it was read up to {read} and ends at {end}, so brokers have lost its end; it is read \
                 again, from before what was lost; `dbb reconcile` finds what is missing"
            ),
            Finding::LedgerLost {
                said,
                is,
                committed,
                from,
                first,
            } => {
                let which = if said.ledger == is.ledger {
                    "is older than it was"
                } else {
                    "is another than that which has"
                };
                write!(
                    f,
                    "the ledger {which} the outcomes below offset {committed} (it was {said}, and is {is}): reading goes \
                     back to offset {from}"
                )?;
                if *first > 0 && *first == *from {
                    write!(
                        f,
                        "; the source has nothing before that: what waited in the ledger and is older is found by \
                         `dbb reconcile` alone"
                    )?;
                }
                Ok(())
            }
        }
    }
}
