//! What has come lately, for rows that are written after it came.
//!
//! A file fails for want of a record; the record arrives and its answer is written first; then the
//! file's answer is written: its wake-up has passed. So arrivals are remembered for a while.
//!
//! State: at most twice [`KEPT`] keys.

use dbb_events::Micros;
use std::{collections::HashMap, sync::Arc};

/// Arrivals in each of two generations.
const KEPT: usize = 50_000;

/// When each key was last provided, by target.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    now: HashMap<(Arc<str>, String), Micros>,
    before: HashMap<(Arc<str>, String), Micros>,
}

impl Recent {
    pub(crate) fn provided_at(&self, key: &(Arc<str>, String)) -> Option<Micros> {
        self.now.get(key).or_else(|| self.before.get(key)).copied()
    }

    pub(crate) fn remember(&mut self, key: (Arc<str>, String), at: Micros) {
        if self.now.len() >= KEPT {
            self.before = std::mem::take(&mut self.now);
        }
        let held = self.now.entry(key).or_insert(at);
        *held = (*held).max(at);
    }
}
