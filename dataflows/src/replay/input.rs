//! Input: what the files hold, as facts.
//!
//! ```text
//!   block --> lines --> events ---------> facts, packed events
//!                  \--> journal, listing --> facts           what is wrong: counted, with its first place
//! ```

use super::{
    archive::packed::{Entry, Packer},
    report::{Finding, Found, Read},
};
use dbb_events::{DecodeError, EventType, Glimpse, Micros, decode_record, glimpse, scan};
use dbb_operators::{
    facts::{Told, Wanted},
    tell::Teller,
};
use dbb_sources::{
    SourceError,
    replay::{Block, Kind, Line, Reader},
};
use std::{collections::BTreeMap, sync::Arc};

/// What one worker reads.
pub(super) struct Input {
    reader: Reader,
    buffer: Vec<u8>,
    digest: Digest,
}

/// What becomes of lines.
struct Digest {
    teller: Teller,
    until: Option<Micros>,
    packer: Option<Packer>,
    read: Read,
    found: BTreeMap<Finding, Found>,
}

/// Where a line is.
struct At<'b> {
    file: &'b Arc<str>,
    line: Line<'b>,
}

impl At<'_> {
    /// The line by its number, or else the byte.
    fn told(&self) -> String {
        match self.line.number {
            Some(number) => format!("{}:{number}", self.file),
            None => format!("{} at byte {}", self.file, self.line.offset),
        }
    }
}

impl Input {
    pub(super) fn new(
        reader: Reader,
        wanted: Wanted,
        until: Option<Micros>,
        archives_to: Option<usize>,
    ) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            digest: Digest {
                teller: Teller::new(wanted),
                until,
                packer: archives_to.map(Packer::new),
                read: Read::default(),
                found: BTreeMap::new(),
            },
        }
    }

    /// Tells one block; false when there is no more.
    pub(super) fn tell(&mut self, told: &mut Told) -> bool {
        match self.reader.next_block(&mut self.buffer) {
            Ok(None) => return false,
            Ok(Some(block)) => self.digest.block(&block, &self.buffer, told),
            Err(error) => self.digest.damaged(&error),
        }
        true
    }

    /// The events to archive since the last time.
    pub(super) fn packer(&mut self) -> Option<&mut Packer> {
        self.digest.packer.as_mut()
    }

    /// What was read, and what was wrong, since the last time.
    pub(super) fn take(&mut self) -> (Read, BTreeMap<Finding, Found>) {
        (
            std::mem::take(&mut self.digest.read),
            std::mem::take(&mut self.digest.found),
        )
    }

    /// Events since the last [`Input::take`].
    pub(super) fn events(&self) -> u64 {
        self.digest.read.events
    }
}

impl Digest {
    fn block(&mut self, block: &Block, text: &[u8], told: &mut Told) {
        match block.kind {
            Kind::Event => {
                for line in block.lines(text) {
                    self.event(
                        &At {
                            file: &block.file,
                            line,
                        },
                        told,
                    );
                }
            }
            Kind::Journal | Kind::Listing { .. } => {}
        }
    }

    fn event(&mut self, at: &At<'_>, told: &mut Told) {
        self.read.events += 1;
        let line = at.line.bytes;
        if let Some(glimpse) = scan(line) {
            self.glimpsed(&glimpse, line, at, told);
            return;
        }
        // A record around a body, or a body of another form.
        let body = decode_record(line).body;
        let decoded = glimpse(&body, |glimpse| self.glimpsed(glimpse, &body, at, told));
        if let Err(error) = decoded {
            self.refused(&error, at);
        }
    }

    fn glimpsed(&mut self, glimpse: &Glimpse<'_>, body: &[u8], at: &At<'_>, told: &mut Told) {
        if self.until.is_some_and(|until| glimpse.created_at > until) {
            self.read.later += 1;
            return;
        }
        self.read.saw(glimpse.created_at);
        if let EventType::Other(word) = &glimpse.event_type {
            let first = format!("{}: `{word}`", at.told());
            self.find(Finding::UnknownType, at, first);
        }
        if let Err(untold) = self.teller.tell(glimpse, body, told) {
            let first = format!("{}: {untold}", at.told());
            self.find(Finding::Unreadable, at, first);
        }
        if let Some(packer) = &mut self.packer {
            packer.push(&Entry {
                event: glimpse.identity(body),
                id: glimpse.id,
                event_type: glimpse.event_type.as_str(),
                scope: glimpse.scope,
                name: glimpse.name,
                rse: glimpse.replica_rse(),
                bytes: glimpse.bytes,
                adler32: glimpse.adler32.unwrap_or(0),
                created_at: glimpse.created_at,
            });
        }
    }

    fn refused(&mut self, error: &DecodeError, at: &At<'_>) {
        self.find(Finding::Unreadable, at, format!("{}: {error}", at.told()));
    }

    fn damaged(&mut self, error: &SourceError) {
        let first = super::error::told(error);
        let found = Found::new(String::new(), 0, first);
        Found::merge(&mut self.found, Finding::Damaged, found);
    }

    fn find(&mut self, finding: Finding, at: &At<'_>, first: String) {
        let found = Found::new(at.file.to_string(), at.line.offset, first);
        Found::merge(&mut self.found, finding, found);
    }
}
