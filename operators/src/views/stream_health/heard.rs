//! Heard: what a reader tells of the records it has read, one summary for each partition and batch.

use crate::views::sketch::bucket;
use dbb_events::{Micros, Place};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// What was read of one partition since the last summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The topic, file or queue.
    pub stream: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// The offset of the next record; of a file, a position in its last line.
    pub next: u64,
    /// How many records the source has beyond that, where it knows.
    pub lag: Option<u64>,
    /// When the newest was read.
    pub read_at: Micros,
    /// How many were read, those read again too.
    pub records: u64,
    /// How many have an offset that had been read before.
    pub again: u64,
    /// How many were no events.
    pub unreadable: u64,
    /// How many offsets were passed over, or are known to be lost.
    pub gaps: u64,
    /// How many records that a hub has numbered have not come, where that has changed.
    pub missing: Option<u64>,
    /// How many were late by how much: buckets of milliseconds, rising.
    pub lateness: Vec<(u16, u32)>,
}

impl Heard {
    /// So many records of a partition that a hub has numbered have not come.
    pub fn missing(stream: Arc<str>, partition: i32, missing: u64) -> Self {
        Self {
            missing: Some(missing),
            ..Gathering::new(stream, partition).heard
        }
    }
}

/// One record, as far as the health of its stream goes.
#[derive(Debug, Clone, Copy)]
pub struct Read<'r> {
    /// Where it was.
    pub place: &'r Place,
    /// When it was read.
    pub read_at: Micros,
    /// When it was appended to its topic, where known.
    pub appended_at: Option<Micros>,
    /// When the event was made; `None` for what cannot be read.
    pub created_at: Option<Micros>,
}

/// Gathers summaries where records are read. A record costs some nanoseconds.
#[derive(Debug, Default)]
pub struct Hearing {
    partitions: Vec<Gathering>,
    places: HashMap<(Arc<str>, i32), usize>,
    /// The partition of the last record: mostly that of the next one too.
    last: usize,
}

#[derive(Debug)]
struct Gathering {
    heard: Heard,
    /// Nothing was read yet, so that the first offset leaves no gap.
    is_new: bool,
    is_changed: bool,
    /// For each bucket how many, and which of them are not zero.
    late: Vec<u32>,
    filled: Vec<u16>,
}

impl Hearing {
    /// Notes a record.
    pub fn read(&mut self, read: Read<'_>) {
        let Read { place, read_at, .. } = read;
        let of = self.of(&place.stream, place.partition);
        let next = place.offset.saturating_add(1);
        of.heard.records += 1;
        of.heard.read_at = of.heard.read_at.max(read_at);
        if !of.is_new && place.offset < of.heard.next {
            of.heard.again += 1;
        }
        // Offsets of a file are positions of lines, which leave out what is in them.
        if !of.is_new && place.line.is_none() {
            of.heard.gaps += place.offset.saturating_sub(of.heard.next);
        }
        of.heard.next = of.heard.next.max(next);
        of.is_new = false;
        match read.created_at {
            Some(created_at) => {
                let came = read.appended_at.unwrap_or(read_at);
                let ms = came.0.saturating_sub(created_at.0) / 1000;
                of.late(bucket(u32::try_from(ms.max(0)).unwrap_or(u32::MAX)));
            }
            None => of.heard.unreadable += 1,
        }
    }

    /// Notes how many records the source has beyond those that were read.
    pub fn lag(&mut self, stream: &Arc<str>, partition: i32, lag: u64) {
        self.of(stream, partition).heard.lag = Some(lag);
    }

    /// Notes records that the source knows to be lost, and passes over the offsets below `next`.
    pub fn lost(&mut self, stream: &Arc<str>, partition: i32, records: u64, next: u64) {
        let of = self.of(stream, partition);
        of.heard.gaps += records;
        of.heard.next = of.heard.next.max(next);
        of.is_new = false;
    }

    /// Moves the summaries since the last call into `heard`.
    pub fn take(&mut self, heard: &mut Vec<Heard>) {
        let changed = self.partitions.iter_mut().filter(|of| of.is_changed);
        heard.extend(changed.map(Gathering::take));
    }

    fn of(&mut self, stream: &Arc<str>, partition: i32) -> &mut Gathering {
        let is_it = |of: &Gathering| {
            of.heard.partition == partition
                && (Arc::ptr_eq(&of.heard.stream, stream) || of.heard.stream == *stream)
        };
        if !self.partitions.get(self.last).is_some_and(is_it) {
            let partitions = &mut self.partitions;
            let place = self.places.entry((Arc::clone(stream), partition));
            self.last = *place.or_insert_with(|| {
                partitions.push(Gathering::new(Arc::clone(stream), partition));
                partitions.len() - 1
            });
        }
        let of = &mut self.partitions[self.last];
        of.is_changed = true;
        of
    }
}

impl Gathering {
    fn new(stream: Arc<str>, partition: i32) -> Self {
        Self {
            heard: Heard {
                stream,
                partition,
                next: 0,
                lag: None,
                read_at: Micros(i64::MIN),
                records: 0,
                again: 0,
                unreadable: 0,
                gaps: 0,
                missing: None,
                lateness: Vec::new(),
            },
            is_new: true,
            is_changed: false,
            late: Vec::new(),
            filled: Vec::new(),
        }
    }

    fn late(&mut self, bucket: u16) {
        let at = usize::from(bucket);
        if self.late.len() <= at {
            self.late.resize(at + 1, 0);
        }
        if self.late[at] == 0 {
            self.filled.push(bucket);
        }
        self.late[at] += 1;
    }

    fn take(&mut self) -> Heard {
        self.is_changed = false;
        self.filled.sort_unstable();
        let late = &mut self.late;
        let lateness = self
            .filled
            .drain(..)
            .map(|bucket| (bucket, std::mem::take(&mut late[usize::from(bucket)])))
            .collect();
        let mut heard = self.heard.clone();
        heard.lateness = lateness;
        for count in [
            &mut self.heard.records,
            &mut self.heard.again,
            &mut self.heard.unreadable,
            &mut self.heard.gaps,
        ] {
            *count = 0;
        }
        heard
    }
}
