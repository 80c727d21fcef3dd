//! Find: records of a lane by their numbers, out of all that is kept.
//!
//! ```text
//!   numbers 3 to 9 of a lane --> segments that may have some --> frames in order; a later one replaces an earlier one
//! ```

use super::{
    Segments,
    frame::Kept,
    segment::{Frames, Summary},
};
use dbb_events::Lane;
use std::{collections::BTreeMap, io, sync::Arc};

/// Where a search ended, for the next one of higher numbers to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct At {
    segment: u64,
    offset: u64,
}

/// Finds records.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    segments: Segments,
}

impl Keeper {
    pub(super) fn new(segments: Segments) -> Self {
        Self { segments }
    }

    /// The lowest number of a lane that is kept.
    pub(crate) fn lowest(&self, lane: &Lane) -> Option<u64> {
        let segments = self.segments.read();
        let spans = segments.iter().filter_map(|segment| segment.summary.get(lane));
        spans.filter_map(|span| span.numbers).map(|(low, _)| low).min()
    }

    /// Those of `from` to `to` that are kept, by number. Only for confirmed numbers, which nothing replaces any more.
    pub(crate) fn find(
        &self,
        lane: &Lane,
        from: u64,
        to: u64,
        at: &mut At,
    ) -> io::Result<BTreeMap<u64, Kept>> {
        let mut found = BTreeMap::new();
        let segments = self.segments.read().clone();
        let mut begin = *at;
        for segment in segments.iter().filter(|segment| segment.id >= at.segment) {
            if !may_have(&segment.summary, lane, from, to) {
                continue;
            }
            let offset = if segment.id == at.segment { at.offset } else { 0 };
            let mut frames = match Frames::open(&segment.path, offset) {
                Ok(frames) => frames,
                // Retention was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            loop {
                let here = frames.at;
                let Some(frame) = frames.next(false)? else { break };
                let head = frame.head()?;
                if head.partition != lane.partition || *head.topic != *lane.topic {
                    continue;
                }
                let (first, confirmed) = (head.first, head.confirmed);
                let last = first + u64::from(head.count);
                if first > to && confirmed >= to {
                    *at = begin;
                    return Ok(found);
                }
                if last <= from || first > to {
                    continue;
                }
                begin = At {
                    segment: segment.id,
                    offset: here,
                };
                // What was above has never been confirmed.
                drop(found.split_off(&first));
                let numbered = (first..).zip(frame.records()?);
                found.extend(numbered.filter(|(number, _)| (from..=to).contains(number)));
            }
        }
        *at = begin;
        Ok(found)
    }
}

fn may_have(summary: &Arc<Summary>, lane: &Lane, from: u64, to: u64) -> bool {
    summary
        .get(lane)
        .and_then(|span| span.numbers)
        .is_some_and(|(low, high)| low <= to && high >= from)
}
