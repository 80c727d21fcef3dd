//! Listings: files that are put into a folder, answers of Rucio's REST interface or snapshots, each read when it is whole.
//!
//! ```text
//!   folder --look--> files that have stayed the same for two looks --> thread --bounded channel--> blocks of lines
//! ```
//!
//! In:    files in the forms that a replay takes as listings. Hidden ones are left out: a file that is written under a
//!        name with a dot in front, and renamed, is never read by halves. One that changes is read again.
//! Out:   blocks, those of a file together, the last of which says how the file ended.
//! State: size and time of each file of the folder.
//!
//! Nothing is stored: every start reads what is in the folder. What is older than what is known changes nothing.

use crate::{
    SourceError, Waker,
    paths::Found,
    replay::{Block, Input, Kind, Queue, Reader},
};
use crossbeam_channel::{Receiver, Sender};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Blocks on their way from the thread.
const CHANNEL: usize = 8;
/// How long the thread sleeps at most before it looks whether anyone listens.
const NAP: Duration = Duration::from_millis(100);

/// A folder of listings, for the views: what events do not tell. Which files of Rucio datasets there are, and where
/// replicas are that no event told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListingsSettings {
    /// The folder, with all below it. Put files there under a name that begins with a dot and rename them. What
    /// they hold: as `dbb replay --listing` takes it, with the time in the file.
    pub folder: PathBuf,
    /// How often the folder is looked at, in seconds. A file is read when two looks have found it the same.
    #[serde(default = "look_every_seconds")]
    pub look_every_seconds: u64,
}

fn look_every_seconds() -> u64 {
    5
}

impl ListingsSettings {
    /// The settings for `folder`, the rest by default.
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            look_every_seconds: look_every_seconds(),
        }
    }
}

/// A block and its text.
pub type Piece = (Block, Vec<u8>);

type Woken = Arc<Mutex<Option<Waker>>>;
/// What tells one state of a file from another.
type Stamp = (u64, Option<SystemTime>);

/// The folder, read by a thread of its own.
pub struct Listings {
    pieces: Receiver<Piece>,
    told_all: Arc<AtomicBool>,
    waker: Woken,
    /// The thread ends once this has gone.
    _alive: Arc<()>,
}

/// Starts to look at the folder; with `once` it ends after what is there, taken as it is.
///
/// # Errors
///
/// [`SourceError::Configuration`]: the folder cannot be read, or no thread can be started.
pub fn open(settings: &ListingsSettings, once: bool) -> Result<Listings, SourceError> {
    fs::read_dir(&settings.folder).map_err(|error| {
        SourceError::Configuration(format!(
            "cannot read listings at `{}`: {error}",
            settings.folder.display()
        ))
    })?;
    let (sender, pieces) = crossbeam_channel::bounded(CHANNEL);
    let (waker, alive) = (Woken::default(), Arc::new(()));
    let told_all = Arc::new(AtomicBool::new(false));
    let mut looking = Looking {
        settings: settings.clone(),
        sender,
        waker: Arc::clone(&waker),
        told_all: Arc::clone(&told_all),
        wanted: Arc::downgrade(&alive),
        seen: BTreeMap::new(),
        read: BTreeMap::new(),
        left_out: BTreeSet::new(),
    };
    std::thread::Builder::new()
        .name("listings".into())
        .spawn(move || looking.look_on(once))
        .map_err(|e| SourceError::Configuration(format!("no thread for the listings: {e}")))?;
    Ok(Listings {
        pieces,
        told_all,
        waker,
        _alive: alive,
    })
}

impl Listings {
    /// The next block, if one is there.
    pub fn poll(&mut self) -> Option<Piece> {
        self.pieces.try_recv().ok()
    }

    /// True once all files that were there at the start have been polled.
    pub fn caught_up(&self) -> bool {
        self.told_all.load(Ordering::Acquire) && self.pieces.is_empty()
    }

    /// Sets what to call when there is something to poll.
    pub fn set_waker(&mut self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }
}

/// What the thread knows.
struct Looking {
    settings: ListingsSettings,
    sender: Sender<Piece>,
    waker: Woken,
    told_all: Arc<AtomicBool>,
    wanted: Weak<()>,
    /// As the last look found the files.
    seen: BTreeMap<PathBuf, Stamp>,
    /// As they were when they were read.
    read: BTreeMap<PathBuf, Stamp>,
    /// What is not read, and was told.
    left_out: BTreeSet<PathBuf>,
}

impl Looking {
    fn look_on(&mut self, once: bool) {
        // What is there at the start has been for long, or is read again when it changes.
        self.seen = self.files();
        loop {
            self.look();
            self.told_all.store(true, Ordering::Release);
            self.wake();
            if once {
                return;
            }
            let mut left = Duration::from_secs(self.settings.look_every_seconds.max(1));
            while !left.is_zero() {
                if self.wanted.strong_count() == 0 {
                    return;
                }
                let nap = left.min(NAP);
                std::thread::sleep(nap);
                left -= nap;
            }
        }
    }

    fn files(&mut self) -> BTreeMap<PathBuf, Stamp> {
        let mut found = Found::default();
        if let Err(error) = found.look(&self.settings.folder) {
            tracing::warn!(folder = %self.settings.folder.display(), %error, "could not look for listings");
        }
        for (path, why) in found.left_out {
            if self.left_out.insert(path.clone()) {
                tracing::error!(path = %path.display(), why, "no listing is read here");
            }
        }
        let stamped = found.files.into_iter().filter_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            Some((path, (metadata.len(), metadata.modified().ok())))
        });
        stamped.collect()
    }

    fn look(&mut self) {
        let now = self.files();
        let ready = now
            .iter()
            .filter(|(path, stamp)| {
                self.seen.get(*path) == Some(*stamp) && self.read.get(*path) != Some(*stamp)
            })
            .map(|(path, stamp)| (path.clone(), *stamp));
        for (path, stamp) in ready.collect::<Vec<_>>() {
            if !self.tell(&path) {
                return;
            }
            self.read.insert(path, stamp);
        }
        self.read.retain(|path, _| now.contains_key(path));
        self.seen = now;
    }

    /// Sends the blocks of one file; false when nobody listens any more.
    fn tell(&self, path: &Path) -> bool {
        let input = Input {
            path: path.to_owned(),
            kind: Kind::Listing { at: None },
        };
        let mut reader = match Queue::open(&[input], 0, 1) {
            Ok(queue) => Reader::new(queue),
            Err(error) => {
                tracing::error!(%error, "a listing cannot be read");
                return true;
            }
        };
        tracing::info!(file = %path.display(), "a listing is read");
        loop {
            let mut text = Vec::new();
            match reader.next_block(&mut text) {
                Ok(Some(block)) => {
                    if self.sender.send((block, text)).is_err() {
                        return false;
                    }
                    self.wake();
                }
                Ok(None) => return true,
                Err(error @ SourceError::Odd { .. }) => tracing::warn!(%error, "a listing is odd"),
                // The block after it says that the file is cut: what it does not name is not taken for deleted.
                Err(error) => {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, reason, "a listing is damaged");
                }
            }
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker();
        }
    }
}
