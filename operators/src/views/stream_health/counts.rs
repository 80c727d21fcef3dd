//! Counts: what operators notice that belongs to no partition.

use crate::replicas::Notice;
use serde::{Deserialize, Serialize};
use std::{cell::Cell, rc::Rc};

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Noticed {
    /// An event came again.
    Repeat,
    /// Two changes of a replica, closer than clocks can tell, say different states.
    Conflict,
    /// Two sources tell different sizes or checksums of a file.
    Disagreement,
    /// A change, or a step of a transfer, came too late to be judged.
    TooLate,
}

impl Noticed {
    /// All of them.
    pub const ALL: [Noticed; 4] = [
        Noticed::Repeat,
        Noticed::Conflict,
        Noticed::Disagreement,
        Noticed::TooLate,
    ];
}

/// So often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What.
    pub what: Noticed,
    /// How many times since the last count.
    pub times: u64,
}

/// Counters that the callbacks of one worker's operators share.
#[derive(Debug, Clone, Default)]
pub struct Counters(Rc<[Cell<u64>; 4]>);

impl Counters {
    /// Counts `times` of `what`.
    pub fn add(&self, what: Noticed, times: u64) {
        let cell = &self.0[what as usize];
        cell.set(cell.get().saturating_add(times));
    }

    /// Counts what the replicas notice.
    pub fn notice(&self, notice: Notice) {
        let what = match notice {
            Notice::Conflict { .. } => Noticed::Conflict,
            Notice::Disagreement { .. } => Noticed::Disagreement,
            Notice::TooLate => Noticed::TooLate,
        };
        self.add(what, 1);
    }

    /// Moves what was counted since the last call into `counts`.
    pub fn take(&self, counts: &mut Vec<Count>) {
        for what in Noticed::ALL {
            let times = self.0[what as usize].take();
            if times > 0 {
                counts.push(Count { what, times });
            }
        }
    }
}
