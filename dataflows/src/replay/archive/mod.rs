//! Archive: the distinct events themselves, in files by RSE.
//!
//! ```text
//!   packed events --by identity--> seen before? --no--> open file of the RSE --full--> thread --> rse=NAME/part-*
//! ```
//!
//! In:    packed events, repeats among them, in any order.
//! Out:   what was written, and how many repeats there were, once everything is on its way to the disk.
//! State: 28 bytes, about, for each distinct event; an open file for each RSE, about 200 bytes an event.
//!
//! Frontier: when it is empty, every file is written.

pub(crate) mod columns;
pub(crate) mod files;
mod folder_name;
pub(crate) mod making;
pub(crate) mod packed;

use super::{Format, ReplayError};
use crate::runtime::Control;
use dbb_operators::Epoch;
use files::Files;
use packed::{Entry, Packed};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    path::PathBuf,
    sync::Arc,
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{Stream, channels::pact::Exchange, operators::generic::Operator},
};

/// What one worker has archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Archived {
    pub(crate) events: u64,
    pub(crate) files: u64,
    pub(crate) repeats: u64,
}

/// What is written where.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The folder.
    pub(crate) folder: PathBuf,
    pub(crate) format: Format,
    /// Most events in a file.
    pub(crate) rows: usize,
}

/// See the module. A worker that cannot write ends them all through `control`.
pub(crate) fn archive<'s>(
    events: Stream<'s, Epoch, Vec<Packed>>,
    settings: &Settings,
    control: Arc<Control>,
) -> Stream<'s, Epoch, Vec<Archived>> {
    let index = events.scope().worker().index();
    let settings = settings.clone();
    events.unary_frontier::<CapacityContainerBuilder<Vec<Archived>>, _, _, _>(
        Exchange::new(|packed: &Packed| u64::from(packed.to)),
        "archive",
        move |capability, _| {
            let mut capability = Some(capability);
            let mut shelf = match Shelf::new(settings, index) {
                Ok(shelf) => Some(shelf),
                Err(error) => {
                    control.fail(super::error::told(&error));
                    None
                }
            };
            move |(input, frontier), output| {
                input.for_each_stamp(|_, data| {
                    for packed in data.flat_map(|packed| packed.drain(..)) {
                        if let Some(shelf) = &mut shelf {
                            packed.iter().for_each(|event| shelf.add(&event));
                        }
                    }
                });
                if let Some(epoch) = frontier.frontier().first() {
                    // Reading goes on as far as this has come.
                    if let Some(capability) = &mut capability {
                        capability.downgrade(epoch);
                    }
                    return;
                }
                if let Some(shelf) = shelf.take() {
                    match shelf.finish() {
                        Ok(archived) => {
                            if let Some(capability) = &capability {
                                output.session(capability).give(archived);
                            }
                        }
                        Err(error) => control.fail(super::error::told(&error)),
                    }
                }
                capability = None;
            }
        },
    )
}

/// The events of one worker.
struct Shelf {
    rows: usize,
    seen: HashSet<u128, BuildHasherDefault<Already>>,
    by_rse: HashMap<Arc<str>, usize>,
    without_rse: Option<usize>,
    open: Vec<Open>,
    /// The file that the last event went to: the next often goes there too.
    last: usize,
    files: Files,
    archived: Archived,
}

/// A file that is not full.
struct Open {
    rse: Option<Arc<str>>,
    written: u64,
    events: Packed,
}

impl Shelf {
    fn new(settings: Settings, index: usize) -> Result<Self, ReplayError> {
        Ok(Self {
            rows: settings.rows,
            seen: HashSet::default(),
            by_rse: HashMap::new(),
            without_rse: None,
            open: Vec::new(),
            last: 0,
            files: Files::start(settings.folder, index, settings.format)?,
            archived: Archived::default(),
        })
    }

    fn add(&mut self, event: &Entry<'_>) {
        if !self.seen.insert(event.event.0) {
            self.archived.repeats += 1;
            return;
        }
        self.archived.events += 1;
        let at = self.place_of(event.rse);
        let Some(open) = self.open.get_mut(at) else { return };
        open.events.push(event);
        if open.events.len() >= self.rows {
            // A thread that has ended says why when it is joined.
            open.send(&self.files);
            self.archived.files += 1;
        }
    }

    fn place_of(&mut self, rse: Option<&str>) -> usize {
        if let Some(open) = self.open.get(self.last)
            && open.rse.as_deref() == rse
        {
            return self.last;
        }
        let known = match rse {
            Some(rse) => self.by_rse.get(rse).copied(),
            None => self.without_rse,
        };
        self.last = known.unwrap_or_else(|| self.opened(rse));
        self.last
    }

    /// A file for an RSE that is new here.
    fn opened(&mut self, rse: Option<&str>) -> usize {
        let at = self.open.len();
        let rse: Option<Arc<str>> = rse.map(Arc::from);
        match &rse {
            Some(rse) => {
                self.by_rse.insert(Arc::clone(rse), at);
            }
            None => self.without_rse = Some(at),
        }
        self.open.push(Open {
            rse,
            written: 0,
            events: Packed::default(),
        });
        at
    }

    fn finish(mut self) -> Result<Archived, ReplayError> {
        for open in &mut self.open {
            if !open.events.is_empty() {
                open.send(&self.files);
                self.archived.files += 1;
            }
        }
        self.files.finish()?;
        Ok(self.archived)
    }
}

impl Open {
    fn send(&mut self, files: &Files) {
        let next = self.events.like();
        let events = std::mem::replace(&mut self.events, next);
        files.send(self.rse.clone(), self.written, events);
        self.written += 1;
    }
}

/// The identity is a hash already.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u128(&mut self, identity: u128) {
        self.0 = identity as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
