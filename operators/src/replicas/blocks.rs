//! Blocks: the replica rows of one file side by side, in chunks that snapshots share.
//!
//! ```text
//!   chunk of 256 rows, cut in halves as needed:  [1][1][ 2  ][     4      ][           8           ] ...
//! ```
//!
//! A chunk is copied when it is written to while a snapshot has it. Nothing ever grows by copying all of it.

use super::row::Row;
use std::sync::Arc;

/// Rows of a chunk, as a power of two; a file with more replicas than that has a chunk of its own.
const CHUNK: u8 = 8;
/// Free blocks of one size that are worth a look for neighbours before more memory is taken.
const WORTH_MERGING: usize = 64;

/// Chunks of rows, and which blocks of them are free.
#[derive(Default)]
pub(super) struct Blocks {
    chunks: Rows,
    free: [Free; CHUNK as usize + 1],
    /// Places of chunks that were larger and are no more.
    vacant: Vec<u32>,
}

/// The chunks alone, for a snapshot.
#[derive(Default, Clone)]
pub(super) struct Rows(Vec<Arc<[Row]>>);

#[derive(Default)]
struct Free {
    blocks: Vec<u32>,
    /// How many were left when neighbours were last looked for.
    merged: usize,
}

impl Rows {
    /// The rows of the block at `first`, with room for 2 to the power of `class`, in use or not.
    pub(super) fn block(&self, first: u32, class: u8) -> &[Row] {
        let offset = (first & ((1 << CHUNK) - 1)) as usize;
        self.0
            .get((first >> CHUNK) as usize)
            .and_then(|chunk| chunk.get(offset..offset + (1usize << class)))
            .unwrap_or(&[])
    }

    fn block_mut(&mut self, first: u32, class: u8) -> &mut [Row] {
        let offset = (first & ((1 << CHUNK) - 1)) as usize;
        match self.0.get_mut((first >> CHUNK) as usize) {
            Some(chunk) => Arc::make_mut(chunk)
                .get_mut(offset..offset + (1usize << class))
                .unwrap_or(&mut []),
            None => &mut [],
        }
    }
}

impl Blocks {
    /// See [`Rows::block`].
    pub(super) fn block(&self, first: u32, class: u8) -> &[Row] {
        self.chunks.block(first, class)
    }

    /// The same, to be written to.
    pub(super) fn block_mut(&mut self, first: u32, class: u8) -> &mut [Row] {
        self.chunks.block_mut(first, class)
    }

    /// The chunks as they are now.
    pub(super) fn share(&self) -> Rows {
        self.chunks.clone()
    }

    /// An empty block for 2 to the power of `class` rows.
    pub(super) fn take(&mut self, class: u8) -> u32 {
        if class > CHUNK {
            let chunk: Arc<[Row]> = std::iter::repeat_n(Row::EMPTY, 1 << class).collect();
            let place = self.vacant.pop();
            return match place.and_then(|place| Some((place, self.chunks.0.get_mut(place as usize)?))) {
                Some((place, there)) => {
                    *there = chunk;
                    place << CHUNK
                }
                None => self.push(chunk),
            };
        }
        if let Some(first) = self.free[class as usize].blocks.pop() {
            return first;
        }
        self.merge_below(class);
        let larger = (class..=CHUNK).find(|larger| !self.free[*larger as usize].blocks.is_empty());
        let (first, from) = match larger {
            Some(from) => (self.free[from as usize].blocks.pop().unwrap_or_default(), from),
            None => {
                let chunk = std::iter::repeat_n(Row::EMPTY, 1 << CHUNK).collect();
                (self.push(chunk), CHUNK)
            }
        };
        // What is not needed of the larger block is free: its second half, the second quarter, and so on.
        for half in class..from {
            self.free[half as usize].blocks.push(first + (1 << half));
        }
        first
    }

    /// Gives a block back.
    pub(super) fn give_back(&mut self, first: u32, class: u8) {
        if class > CHUNK {
            let place = first >> CHUNK;
            if let Some(chunk) = self.chunks.0.get_mut(place as usize) {
                *chunk = Arc::new([]);
                self.vacant.push(place);
            }
            return;
        }
        self.block_mut(first, class).fill(Row::EMPTY);
        self.free[class as usize].blocks.push(first);
    }

    fn push(&mut self, chunk: Arc<[Row]>) -> u32 {
        let place = self.chunks.0.len() as u32;
        self.chunks.0.push(chunk);
        place << CHUNK
    }

    /// Joins free neighbours of the sizes below `class`, where many became free since the last time.
    fn merge_below(&mut self, class: u8) {
        for small in 0..class {
            let free = &mut self.free[small as usize];
            if free.blocks.len() < WORTH_MERGING + 2 * free.merged {
                continue;
            }
            let mut blocks = std::mem::take(&mut free.blocks);
            blocks.sort_unstable();
            let mut left = Vec::new();
            let mut rest = blocks.iter().copied().peekable();
            while let Some(first) = rest.next() {
                if first & (1 << small) == 0 && rest.next_if_eq(&(first + (1 << small))).is_some() {
                    self.free[small as usize + 1].blocks.push(first);
                } else {
                    left.push(first);
                }
            }
            let free = &mut self.free[small as usize];
            free.merged = left.len();
            free.blocks = left;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(rse: u32) -> Row {
        Row { rse, ..Row::EMPTY }
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_come_empty(steps in prop::collection::vec((0u8..10, any::<bool>(), any::<prop::sample::Index>()), 1..400)) {
            let mut blocks = Blocks::default();
            let mut held: Vec<(u32, u8, u32)> = Vec::new();
            for (number, (class, gives, which)) in (0u32..).zip(steps) {
                if gives && !held.is_empty() {
                    let (first, class, _) = held.swap_remove(which.index(held.len()));
                    blocks.give_back(first, class);
                } else {
                    let first = blocks.take(class);
                    prop_assert_eq!(blocks.block(first, class).len(), 1 << class);
                    prop_assert!(blocks.block(first, class).iter().all(Row::is_empty));
                    blocks.block_mut(first, class).fill(numbered(number));
                    held.push((first, class, number));
                }
                for (first, class, number) in &held {
                    prop_assert!(blocks.block(*first, *class).iter().all(|row| row.rse == *number));
                }
            }
        }
    }

    #[test]
    fn files_that_grow_one_after_the_other_leave_little_behind() {
        let mut blocks = Blocks::default();
        let files = 10_000;
        let mut first: Vec<u32> = (0..files).map(|_| blocks.take(0)).collect();
        for class in 1..=2 {
            for first in &mut first {
                let larger = blocks.take(class);
                blocks.give_back(*first, class - 1);
                *first = larger;
            }
        }
        let rows = blocks.chunks.0.len() << CHUNK;
        assert!(rows < files * 4 * 3 / 2, "{rows} rows for {files} files of 4");
    }

    #[test]
    fn a_snapshot_does_not_see_what_is_written_later() {
        let mut blocks = Blocks::default();
        let first = blocks.take(1);
        blocks.block_mut(first, 1)[0] = numbered(1);
        let shared = blocks.share();
        blocks.block_mut(first, 1)[0] = numbered(2);
        assert_eq!(shared.block(first, 1)[0].rse, 1);
        assert_eq!(blocks.block(first, 1)[0].rse, 2);
    }
}
