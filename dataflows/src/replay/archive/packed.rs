//! Packed: many events on their way to one place, as rows of one size and one text.
//!
//! A record for each event, with a string for each field, would cost more to make, to send and to free than the
//! event costs to read.

use dbb_events::{EventId, Micros};
use serde::{Deserialize, Serialize};

/// What the archive keeps of an event; what the event does not tell is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) event: EventId,
    /// The body's own id.
    pub(crate) id: Option<&'a str>,
    pub(crate) event_type: &'a str,
    pub(crate) scope: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) rse: Option<&'a str>,
    pub(crate) bytes: Option<u64>,
    /// Adler-32; 0 where it is not told.
    pub(crate) adler32: u32,
    pub(crate) created_at: Micros,
}

/// Events for one worker, or of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packed {
    /// The worker it is for.
    pub(crate) to: u32,
    rows: Vec<Row>,
    /// The fields of each row, one after the other: id, type, scope, name, RSE.
    text: String,
}

/// The lengths of the fields in the text, in bytes; [`ABSENT`] for one that is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    event: EventId,
    created_at: Micros,
    bytes: u64,
    adler32: u32,
    id: u32,
    event_type: u32,
    scope: u32,
    name: u32,
    rse: u32,
}

/// The length of a field that is not told.
const ABSENT: u32 = u32::MAX;

/// A size that is not told.
const NO_BYTES: u64 = u64::MAX;

impl Packed {
    /// How many events.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// An empty one with room for about as much.
    pub(crate) fn like(&self) -> Self {
        Self {
            to: self.to,
            rows: Vec::with_capacity(self.rows.len() + self.rows.len() / 8),
            text: String::with_capacity(self.text.len() + self.text.len() / 8),
        }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        let row = Row {
            event: entry.event,
            created_at: entry.created_at,
            bytes: entry.bytes.unwrap_or(NO_BYTES),
            adler32: entry.adler32,
            id: self.add(entry.id),
            event_type: self.add(Some(entry.event_type)),
            scope: self.add(entry.scope),
            name: self.add(entry.name),
            rse: self.add(entry.rse),
        };
        self.rows.push(row);
    }

    /// Adds a field to the text; its length. Fields are cut from lines of at most some megabytes.
    fn add(&mut self, field: Option<&str>) -> u32 {
        match field {
            Some(field) => {
                self.text.push_str(field);
                field.len() as u32
            }
            None => ABSENT,
        }
    }

    /// The events, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.text.as_str();
        self.rows.iter().map(move |row| {
            let mut field = |length: u32| {
                if length == ABSENT {
                    return None;
                }
                let (field, after) = rest.split_at_checked(length as usize)?;
                rest = after;
                Some(field)
            };
            Entry {
                event: row.event,
                id: field(row.id),
                event_type: field(row.event_type).unwrap_or_default(),
                scope: field(row.scope),
                name: field(row.name),
                rse: field(row.rse),
                bytes: (row.bytes != NO_BYTES).then_some(row.bytes),
                adler32: row.adler32,
                created_at: row.created_at,
            }
        })
    }
}

/// Sorts events by the worker that keeps their identity.
pub(crate) struct Packer {
    open: Vec<Packed>,
}

impl Packer {
    /// For so many workers.
    pub(crate) fn new(peers: usize) -> Self {
        Self {
            open: vec![Packed::default(); peers.max(1)],
        }
    }

    /// Adds an event for its worker.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        let to = match self.open.len() {
            1 => 0,
            peers => (entry.event.0 >> 64) as usize % peers,
        };
        if let Some(packed) = self.open.get_mut(to) {
            packed.push(entry);
        }
    }

    /// What was added since the last time.
    pub(crate) fn take(&mut self, into: &mut Vec<Packed>) {
        for (to, packed) in self.open.iter_mut().enumerate() {
            if packed.is_empty() {
                continue;
            }
            let next = packed.like();
            let mut full = std::mem::replace(packed, next);
            full.to = to as u32;
            into.push(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again_and_each_event_goes_to_one_worker() {
        let whole = Entry {
            event: EventId(7 << 64),
            id: Some("í"),
            event_type: "transfer-done",
            scope: Some("raw"),
            name: Some("a/b"),
            rse: Some("A_DISK"),
            bytes: Some(12),
            adler32: 5,
            created_at: Micros(9),
        };
        let bare = Entry {
            event: EventId(8 << 64),
            id: None,
            event_type: "email",
            scope: None,
            name: Some(""),
            rse: None,
            bytes: None,
            adler32: 0,
            created_at: Micros(-1),
        };
        let mut packer = Packer::new(3);
        for entry in [&whole, &bare, &whole] {
            packer.push(entry);
        }
        let mut packed = Vec::new();
        packer.take(&mut packed);
        let [one, two] = packed.as_slice() else {
            panic!("{packed:?}");
        };
        assert_eq!((one.to, one.iter().collect::<Vec<_>>()), (1, vec![whole, whole]));
        assert_eq!((two.to, two.iter().collect::<Vec<_>>()), (2, vec![bare]));
        packed.clear();
        packer.take(&mut packed);
        assert!(packed.is_empty());
    }
}
