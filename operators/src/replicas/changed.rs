//! Changed: which files changed since the last checkpoint, and how they are now.
//!
//! A file says by itself in which round it was last touched: that it is on the list already is seen without looking
//! for it, and nothing is to be cleared when a checkpoint is taken.

use super::{blocks::Rows, chunked::DidRows, names::Names, rare::Rare, table::Table};
use crate::facts::DidKey;
use std::sync::Arc;

/// The files of one table that changed since the last checkpoint.
pub(super) struct Changed {
    /// Which checkpoint is the next: from 1 on, so that it is none's that never was touched.
    pub(super) round: u32,
    /// Their numbers. One may be that of nothing any more, or there twice, for another file has it now.
    pub(super) files: Vec<u32>,
    /// What was forgotten, perhaps to be known again.
    pub(super) gone: Vec<DidKey>,
}

impl Default for Changed {
    fn default() -> Self {
        Self {
            round: 1,
            files: Vec::new(),
            gone: Vec::new(),
        }
    }
}

/// One table as it is at a checkpoint, and what of it goes there.
pub(super) struct ChangedShare {
    pub(super) dids: DidRows,
    pub(super) rows: Rows,
    pub(super) names: Names,
    pub(super) rare: Arc<Rare>,
    pub(super) files: Vec<u32>,
    pub(super) gone: Vec<DidKey>,
}

impl Table {
    /// Begins a new round, and hands out what changed in the last; `None` when nothing did.
    pub(super) fn take_changed(&mut self) -> Option<ChangedShare> {
        let changed = self.changed.as_mut()?;
        if changed.files.is_empty() && changed.gone.is_empty() {
            return None;
        }
        changed.round += 1;
        let files = std::mem::take(&mut changed.files);
        let mut gone = std::mem::take(&mut changed.gone);
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|key| self.find(*key).is_none());
        Some(ChangedShare {
            dids: self.dids.share(),
            rows: self.rows.share(),
            names: self.names.clone(),
            rare: Arc::clone(&self.rare),
            files,
            gone,
        })
    }
}
