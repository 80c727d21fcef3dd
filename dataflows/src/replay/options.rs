//! What a replay is asked for.

use crate::{cluster::Hosts, views::Name};
use clap::ValueEnum;
use dbb_events::Micros;
use dbb_operators::views::placement::Policy;
use dbb_sources::replay::{Input, Kind};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

/// The form of the files that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// A JSON object a line.
    #[default]
    Ndjson,
    /// Columns, as analysts' tools read them.
    Parquet,
}

impl Format {
    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Parquet => "parquet",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct ReplayOptions {
    /// Files and folders of recorded events.
    pub logs: Vec<PathBuf>,
    /// Files of the replica journal.
    pub journals: Vec<PathBuf>,
    /// Listings, each with its time where the file does not say it.
    pub listings: Vec<(PathBuf, Option<Micros>)>,
    /// The views to make.
    pub views: BTreeSet<Name>,
    /// Where copies must be and must not, for the view `placement`.
    pub policies: Arc<[Policy]>,
    /// The folder for the views.
    pub out: Option<PathBuf>,
    /// The form of the views' files.
    pub format: Format,
    /// The archive of the distinct events.
    pub archive: Option<ArchiveOptions>,
    /// Timely workers (threads) of this process.
    pub workers: usize,
    /// Several processes on the same files, of which this is one.
    pub hosts: Option<Hosts>,
    /// What proves that a process belongs to the others; nothing need.
    pub token: Vec<u8>,
    /// Leaves out what is later, by the time it says itself.
    pub until: Option<Micros>,
    /// Two changes of one replica closer than this, in milliseconds, cannot be told apart by clocks.
    pub clock_skew_ms: u64,
    /// Shows a progress bar on standard error; for a terminal.
    pub progress: bool,
}

impl ReplayOptions {
    /// All that is to be read.
    pub(super) fn inputs(&self) -> Vec<Input> {
        let input = |path: &PathBuf, kind| Input {
            path: path.clone(),
            kind,
        };
        let logs = self.logs.iter().map(|path| input(path, Kind::Event));
        let journals = self.journals.iter().map(|path| input(path, Kind::Journal));
        let listings = self.listings.iter();
        let listings = listings.map(|(path, at)| input(path, Kind::Listing { at: *at }));
        logs.chain(journals).chain(listings).collect()
    }
}

/// The archive.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// The folder, which holds no archive yet.
    pub folder: PathBuf,
    /// Or else the one it holds is replaced, once the new one is complete.
    pub replaces: bool,
    /// Most events in a file.
    pub rows: usize,
    /// The form of its files.
    pub format: Format,
}
