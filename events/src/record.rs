//! One record as a source hands it on: its place and its bytes, not yet read.

use crate::{Marks, Micros};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Where a record came from, precisely enough to find it again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The Kafka topic, the path of the file, or the name of the queue.
    pub stream: Arc<str>,
    /// The partition of the topic; 0 where there are none.
    pub partition: i32,
    /// The offset in the partition, or the position of the line's first byte in the (uncompressed) file.
    pub offset: u64,
    /// The number of the line, from 1, where the record came from a file.
    pub line: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.stream),
            None => write!(f, "{}[{}]@{}", self.stream, self.partition, self.offset),
        }
    }
}

/// One record, read but not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Where it was.
    pub place: Place,
    /// The Kafka topic that the event was published to, where the source or a recorded
    /// `{"topic","key","value"}` line tells; mapping is checked against it.
    pub topic: Option<Arc<str>>,
    /// When the record was appended to its topic, where the source tells.
    pub appended_at: Option<Micros>,
    /// What its headers say, where a hub has published it.
    pub marks: Option<Arc<Marks>>,
    /// The body: what Hermes sent.
    pub body: Bytes,
}
