//! Rows of files in chunks that snapshots share; freed places are used again.

use super::row::Did;
use std::sync::Arc;

const CHUNK: u32 = 7;

/// The rows of files, by number.
#[derive(Default)]
pub(super) struct Dids {
    chunks: DidRows,
    free: Vec<u32>,
    end: u32,
}

/// The chunks alone, for a snapshot.
#[derive(Default, Clone)]
pub(super) struct DidRows(Vec<Arc<[Did]>>);

impl DidRows {
    /// The row; an empty one where there is none.
    pub(super) fn get(&self, did: u32) -> &Did {
        self.0
            .get((did >> CHUNK) as usize)
            .and_then(|chunk| chunk.get((did & ((1 << CHUNK) - 1)) as usize))
            .unwrap_or(&Did::EMPTY)
    }

    /// One more than the greatest number.
    pub(super) fn end(&self) -> u32 {
        (self.0.len() as u32) << CHUNK
    }
}

impl Dids {
    /// See [`DidRows::get`].
    pub(super) fn get(&self, did: u32) -> &Did {
        self.chunks.get(did)
    }

    /// Changes the row, which is there.
    pub(super) fn change(&mut self, did: u32, change: impl FnOnce(&mut Did)) {
        let chunk = self.chunks.0.get_mut((did >> CHUNK) as usize);
        if let Some(row) =
            chunk.and_then(|chunk| Arc::make_mut(chunk).get_mut((did & ((1 << CHUNK) - 1)) as usize))
        {
            change(row);
        }
    }

    /// Adds a row, and says its number.
    pub(super) fn add(&mut self, row: Did) -> u32 {
        let did = self.free.pop().unwrap_or_else(|| {
            if self.end == self.chunks.end() {
                self.chunks
                    .0
                    .push(std::iter::repeat_n(Did::EMPTY, 1 << CHUNK).collect());
            }
            self.end += 1;
            self.end - 1
        });
        self.change(did, |place| *place = row);
        did
    }

    /// Removes a row; its number is given again.
    pub(super) fn remove(&mut self, did: u32) {
        self.change(did, |place| *place = Did::EMPTY);
        self.free.push(did);
    }

    /// One more than the greatest number ever given.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// The chunks as they are now.
    pub(super) fn share(&self) -> DidRows {
        self.chunks.clone()
    }
}
