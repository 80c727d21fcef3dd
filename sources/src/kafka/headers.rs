//! Headers: what a hub has written on a record beside its body.
//!
//! In:    the headers of each record of one partition.
//! Out:   marks: the lane and the number; nothing for a record that no hub has published.
//! State: the last lane, since all records of a partition have the same.
//!
//! Headers that do not say what they should are counted, told once for a partition, and read as if there were none:
//! the event in the body is as good as any.

use super::monitor::Monitor;
use dbb_events::{Lane, Marks, message::header};
use rdkafka::{
    Message,
    message::{BorrowedHeaders, Headers as _},
};
use std::sync::Arc;
use tracing::warn;

pub(super) struct Headers {
    lane: Option<(Vec<u8>, Lane)>,
    told: bool,
    monitor: Arc<Monitor>,
}

/// The headers that are read, as they are.
#[derive(Default)]
struct Raw<'m> {
    lane: Option<&'m [u8]>,
    sequence: Option<&'m [u8]>,
    resent: bool,
}

impl<'m> Raw<'m> {
    fn of(headers: &'m BorrowedHeaders) -> Self {
        let mut raw = Self::default();
        for found in headers.iter() {
            match found.key {
                header::LANE => raw.lane = found.value,
                header::SEQUENCE => raw.sequence = found.value,
                header::RESENT => raw.resent = found.value == Some(b"1"),
                _ => {}
            }
        }
        raw
    }
}

impl Headers {
    pub(super) fn new(monitor: Arc<Monitor>) -> Self {
        Self {
            lane: None,
            told: false,
            monitor,
        }
    }

    /// What the headers of `message` say.
    pub(super) fn marks(&mut self, message: &impl Message<Headers = BorrowedHeaders>) -> Option<Arc<Marks>> {
        let raw = Raw::of(message.headers()?);
        if raw.lane.is_none() && raw.sequence.is_none() {
            return None;
        }
        match self.read(&raw) {
            Ok(marks) => Some(Arc::new(marks)),
            Err(detail) => {
                self.monitor.add_bad_headers();
                if !self.told {
                    self.told = true;
                    let place = format_args!(
                        "{}[{}]@{}",
                        message.topic(),
                        message.partition(),
                        message.offset()
                    );
                    warn!(%place, detail, "headers of a record are not what a hub writes: read without them");
                }
                None
            }
        }
    }

    fn read(&mut self, raw: &Raw<'_>) -> Result<Marks, String> {
        let text = raw
            .lane
            .ok_or_else(|| format!("there is no `{}`", header::LANE))?;
        let lane = match &self.lane {
            Some((known, lane)) if known == text => lane.clone(),
            _ => {
                let lane: Lane = String::from_utf8_lossy(text)
                    .parse()
                    .map_err(|error| format!("`{}`: {error}", header::LANE))?;
                self.lane = Some((text.to_vec(), lane.clone()));
                lane
            }
        };
        let number = raw.sequence.unwrap_or_default();
        let sequence = std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse::<u64>().ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| {
                let number = String::from_utf8_lossy(number);
                format!("`{}`: `{number}` is not a number above 0", header::SEQUENCE)
            })?;
        Ok(Marks {
            lane,
            sequence,
            resent: raw.resent,
        })
    }
}
