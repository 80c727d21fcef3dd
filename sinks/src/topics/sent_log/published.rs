//! Published: what became of a file at a hub, found in the files of a sent log while another process writes to it.
//!
//! ```text
//!   segments, oldest first --topics wanted? key?--> records; a later frame replaces what an earlier one has above it
//! ```
//!
//! Nothing is locked and nothing is written. What retention removes meanwhile is not found.

use super::{
    failed,
    segment::{self, Frames},
};
use crate::topics::{SentLogSettings, TopicsError};
use bytes::Bytes;
use dbb_events::{EventId, Lane, Micros};
use std::{collections::BTreeMap, io};

/// A record that was given to the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Topic and partition.
    pub lane: Lane,
    /// Its number there.
    pub number: u64,
    /// When it was written down, just before the brokers could have it; unknown where an earlier `dbb` wrote it.
    pub at: Option<Micros>,
    /// True if the brokers are known to have confirmed it: by what was published in its lane later.
    pub is_confirmed: bool,
    /// The identity of its event.
    pub event: EventId,
    /// Where the hub read the event: `STREAM[PARTITION]@OFFSET`.
    pub source: String,
    /// `SCOPE:NAME`; of what could not be read, its identity.
    pub key: String,
    /// The event as it was published.
    pub body: Bytes,
}

/// What a sent log has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishedRecords {
    /// In the order in which they were written.
    pub records: Vec<Published>,
    /// When the oldest record that is kept was written, as far as that is known.
    pub since: Option<Micros>,
}

/// The records in the topics that `wants_topic` which are those that `wants` by key and body. Reads all that is kept of
/// these topics.
///
/// # Errors
///
/// [`TopicsError::SentLog`] if there is no such folder, or a file cannot be read.
pub fn published(
    settings: &SentLogSettings,
    wants_topic: &dyn Fn(&str) -> bool,
    wants: &dyn Fn(&str, &[u8]) -> bool,
) -> Result<PublishedRecords, TopicsError> {
    let folder = &settings.folder;
    let mut search = Search {
        wants_topic,
        wants,
        found: BTreeMap::new(),
        confirmed: BTreeMap::new(),
        order: 0,
        since: None,
    };
    for id in segment::ids(folder).map_err(failed("list", folder))? {
        let path = segment::path(folder, id);
        match Frames::open(&path, 0).and_then(|frames| search.segment(frames)) {
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(failed("read", &path))?,
        }
    }
    Ok(search.end())
}

struct Search<'a> {
    wants_topic: &'a dyn Fn(&str) -> bool,
    wants: &'a dyn Fn(&str, &[u8]) -> bool,
    /// By lane and number, each with its place in the order in which they were written.
    found: BTreeMap<Lane, BTreeMap<u64, (u64, Published)>>,
    /// The last number of each lane that is known to be confirmed.
    confirmed: BTreeMap<Lane, u64>,
    order: u64,
    since: Option<Micros>,
}

impl Search<'_> {
    fn segment(&mut self, mut frames: Frames) -> io::Result<()> {
        while let Some(frame) = frames.next(false)? {
            let at = frame.at();
            let head = frame.head()?;
            if head.count > 0 {
                self.since = self.since.or(at);
            }
            if !(self.wants_topic)(&head.topic) {
                continue;
            }
            let lane = Lane {
                topic: head.topic.as_ref().into(),
                partition: head.partition,
            };
            let (first, count) = (head.first, head.count);
            let confirmed = self.confirmed.entry(lane.clone()).or_default();
            *confirmed = head.confirmed.max(*confirmed);
            if let Some(found) = self.found.get_mut(&lane) {
                // What was above has never been confirmed.
                drop(found.split_off(&first));
            }
            if count == 0 {
                continue;
            }
            for (number, kept) in (first..).zip(frame.records()?) {
                if !(self.wants)(&kept.key, &kept.body) {
                    continue;
                }
                let published = Published {
                    lane: lane.clone(),
                    number,
                    at,
                    is_confirmed: false,
                    event: kept.id,
                    source: kept.source,
                    key: kept.key,
                    body: kept.body,
                };
                self.order += 1;
                let found = self.found.entry(lane.clone()).or_default();
                found.insert(number, (self.order, published));
            }
        }
        Ok(())
    }

    fn end(self) -> PublishedRecords {
        let mut found: Vec<(u64, Published)> =
            self.found.into_values().flat_map(BTreeMap::into_values).collect();
        found.sort_by_key(|(order, _)| *order);
        let confirmed = self.confirmed;
        let told = |(_, published): (u64, Published)| Published {
            is_confirmed: confirmed
                .get(&published.lane)
                .is_some_and(|last| published.number <= *last),
            ..published
        };
        PublishedRecords {
            records: found.into_iter().map(told).collect(),
            since: self.since,
        }
    }
}
