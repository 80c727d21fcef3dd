//! Met: the identities that an operator remembers, as rows of a checkpoint.
//!
//! ```text
//!   identities --by the checkpoint that they belong to--> handed out when it is due
//! ```
//!
//! In:    identities that were met, each with its epoch.
//! Out:   those of each checkpoint: rows of an identity and nothing else.
//! State: 16 bytes for each identity that was met since the last checkpoint.

use super::{Checkpoints, Damaged, Give, Keep, Kind, Part, PartKey, Row, Rows};
use crate::{Epoch, publish::END};
use dbb_events::EventId;
use std::{collections::BTreeMap, sync::Arc};
use timely::progress::frontier::MutableAntichain;

/// See the module. One for each worker.
pub(crate) struct Met {
    kind: &'static Kind,
    remember: Option<Epoch>,
    part: PartKey,
    checkpoints: Arc<Checkpoints>,
    since: BTreeMap<Epoch, Vec<EventId>>,
    done: Option<Epoch>,
}

impl Met {
    /// For an operator on this worker, which remembers for as long as `remember`.
    pub(crate) fn new(kind: &'static Kind, remember: Option<Epoch>, keep: &Keep, worker: usize) -> Self {
        let part = (kind.name, worker);
        keep.checkpoints.expect(part);
        Self {
            kind,
            remember,
            part,
            checkpoints: Arc::clone(&keep.checkpoints),
            since: BTreeMap::new(),
            done: None,
        }
    }

    /// This was met, at `epoch`.
    pub(crate) fn meets(&mut self, event: EventId, epoch: Epoch) {
        let due = self.checkpoints.due_at(epoch);
        self.since.entry(due).or_default().push(event);
    }

    /// Hands out what is due, nothing being to come below any of the frontiers.
    pub(crate) fn offer(&mut self, frontiers: [&MutableAntichain<Epoch>; 2]) {
        for due in self.checkpoints.due(self.done, least(frontiers)) {
            let later = match due {
                END => BTreeMap::new(),
                due => self.since.split_off(&(due + 1)),
            };
            let events: Vec<EventId> = std::mem::replace(&mut self.since, later)
                .into_values()
                .flatten()
                .collect();
            let rows = Events {
                kind: self.kind,
                remember: self.remember,
                events,
            };
            let part = Part::Rows(vec![Box::new(rows)]);
            self.checkpoints.offer(self.part, due, part);
            self.done = Some(due);
        }
    }
}

/// What may still come of either input; `None` when nothing does.
fn least(frontiers: [&MutableAntichain<Epoch>; 2]) -> Option<Epoch> {
    let firsts = frontiers
        .iter()
        .filter_map(|frontier| frontier.frontier().first().copied());
    firsts.min()
}

/// Which worker a restored identity goes to: where events are exchanged by the lower half of it.
pub(crate) fn place(row: &Row) -> u64 {
    EventId::from_bytes(&row.0).map_or(0, |event| event.0 as u64)
}

/// The identity of a restored row.
pub(crate) fn event(kind: &'static Kind, row: &Row) -> Result<EventId, Damaged> {
    EventId::from_bytes(&row.0).ok_or_else(|| Damaged {
        kind: kind.name,
        reason: format!("an identity has 16 bytes, not {}", row.0.len()),
    })
}

struct Events {
    kind: &'static Kind,
    remember: Option<Epoch>,
    events: Vec<EventId>,
}

impl Rows for Events {
    fn kind(&self) -> &'static Kind {
        self.kind
    }

    fn len(&self) -> usize {
        self.events.len()
    }

    fn remember(&self) -> Option<Epoch> {
        self.remember
    }

    fn for_each(mut self: Box<Self>, give: &mut Give<'_>) {
        // What a long silence made the operator forget may have been met again.
        self.events.sort_unstable();
        self.events.dedup();
        for event in self.events {
            give(&event.to_bytes(), Some(&[]));
        }
    }
}
