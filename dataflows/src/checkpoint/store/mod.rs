//! The store: named files, each written whole, in a folder or in S3.
//!
//! In:    files, by names such as `manifests/…` and `shards/…`.
//! Out:   the same bytes, whole or in part.
//! State: none. What [`Store::put`] and [`Store::create`] have returned survives a loss of power; before that the
//!        file is there whole or not at all.

mod folder;
mod remote;

use super::error::CheckpointError;
use crate::config::Checkpoint as Settings;
use bytes::Bytes;
use folder::Folder;
use remote::Remote;
use std::{fmt, fs::File, ops::Range, path::PathBuf, sync::Arc};

/// Somewhere files of checkpoints are. Cheap to clone; used from any thread that may wait.
#[derive(Clone)]
pub struct Store {
    url: Arc<str>,
    place: Arc<Place>,
}

enum Place {
    Folder(Folder),
    Remote(Remote),
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its name, from the top of the store.
    pub(super) path: String,
    /// Its size.
    pub(super) bytes: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

/// What is written and removed to see whether that can be done.
const PROBE: &str = "shards/probe";

impl Store {
    /// The store that `settings` name, to write to; a folder is made if there is none. `None` where none is named.
    ///
    /// # Errors
    ///
    /// The URL names no store, or the store cannot be written.
    pub fn open(settings: &Settings) -> Result<Option<Self>, CheckpointError> {
        let Some(store) = Self::existing(settings)? else {
            return Ok(None);
        };
        if let Place::Folder(folder) = &*store.place {
            folder
                .make()
                .map_err(|error| CheckpointError::io("make", "", &store.url, error))?;
        }
        store.put(PROBE, Bytes::from_static(b"probe"))?;
        store.delete(PROBE)?;
        Ok(Some(store))
    }

    /// The same, to look at: nothing is made, nothing is written.
    ///
    /// # Errors
    ///
    /// The URL names no store.
    pub fn existing(settings: &Settings) -> Result<Option<Self>, CheckpointError> {
        let Some(url) = &settings.url else { return Ok(None) };
        let wrong = |problem: String| CheckpointError::Url {
            url: url.clone(),
            problem,
        };
        let place = if let Some(rest) = url.strip_prefix("s3://") {
            Place::Remote(Remote::new(rest, settings).map_err(wrong)?)
        } else {
            let path = url.strip_prefix("file://").unwrap_or(url);
            if path.contains("://") {
                return Err(wrong("is neither a folder nor `s3://bucket/prefix`".into()));
            }
            if path.is_empty() {
                return Err(wrong("names no folder".into()));
            }
            Place::Folder(Folder::new(PathBuf::from(path)))
        };
        Ok(Some(Self {
            url: url.as_str().into(),
            place: Arc::new(place),
        }))
    }

    /// Where it is, as configured.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes a file under a name that nobody else uses; what is there already, from an attempt whose answer was lost, is
    /// left as it is.
    pub(super) fn add(&self, path: &str, bytes: Bytes) -> Result<(), CheckpointError> {
        if self.create(path, bytes.clone())? || self.get(path)?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        Err(CheckpointError::Occupied {
            path: path.into(),
            store: self.url().into(),
        })
    }

    /// A file held open, which can be read also when it has lost its name; `None` where that cannot be done.
    pub(super) fn hold(&self, path: &str) -> Option<File> {
        match &*self.place {
            Place::Folder(folder) => folder.open(path).ok(),
            Place::Remote(_) => None,
        }
    }

    /// Writes the probe, in place of one that may be there.
    fn put(&self, path: &str, bytes: Bytes) -> Result<(), CheckpointError> {
        match &*self.place {
            Place::Folder(folder) => folder
                .put(path, &bytes, false)
                .map(drop)
                .map_err(|error| CheckpointError::io("write", path, &self.url, error)),
            Place::Remote(remote) => remote
                .put(path, bytes, false)
                .map(drop)
                .map_err(|error| CheckpointError::remote("write", path, &self.url, error)),
        }
    }

    /// Writes a file unless there is one of that name: of any number who try, one succeeds. False for the others.
    pub(super) fn create(&self, path: &str, bytes: Bytes) -> Result<bool, CheckpointError> {
        match &*self.place {
            Place::Folder(folder) => folder
                .put(path, &bytes, true)
                .map_err(|error| CheckpointError::io("write", path, &self.url, error)),
            Place::Remote(remote) => remote
                .put(path, bytes, true)
                .map_err(|error| CheckpointError::remote("write", path, &self.url, error)),
        }
    }

    /// The size of a file; `None` if there is none.
    pub(super) fn size(&self, path: &str) -> Result<Option<u64>, CheckpointError> {
        match &*self.place {
            Place::Folder(folder) => folder
                .size(path)
                .map_err(|error| CheckpointError::io("look at", path, &self.url, error)),
            Place::Remote(remote) => remote
                .size(path)
                .map_err(|error| CheckpointError::remote("look at", path, &self.url, error)),
        }
    }

    /// Some bytes of a file, all of which are there.
    pub(super) fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes, CheckpointError> {
        match &*self.place {
            Place::Folder(folder) => folder
                .range(path, range)
                .map_err(|error| CheckpointError::io("read", path, &self.url, error)),
            Place::Remote(remote) => remote
                .range(path, range)
                .map_err(|error| CheckpointError::remote("read", path, &self.url, error)),
        }
    }

    /// A small file; `None` if there is none.
    pub(super) fn get(&self, path: &str) -> Result<Option<Bytes>, CheckpointError> {
        match self.size(path)? {
            None => Ok(None),
            Some(0) => Ok(Some(Bytes::new())),
            Some(bytes) => self.range(path, 0..bytes).map(Some),
        }
    }

    /// The files of `folder`, in the order of their names.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<Stored>, CheckpointError> {
        let mut files = match &*self.place {
            Place::Folder(place) => place
                .list(folder)
                .map_err(|error| CheckpointError::io("list", folder, &self.url, error))?,
            Place::Remote(remote) => remote
                .list(folder)
                .map_err(|error| CheckpointError::remote("list", folder, &self.url, error))?,
        };
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Removes a file; one that is not there is no error.
    pub(super) fn delete(&self, path: &str) -> Result<(), CheckpointError> {
        match &*self.place {
            Place::Folder(folder) => folder
                .delete(path)
                .map_err(|error| CheckpointError::io("remove", path, &self.url, error)),
            Place::Remote(remote) => remote
                .delete(path)
                .map_err(|error| CheckpointError::remote("remove", path, &self.url, error)),
        }
    }

    /// Removes what writers that were killed have left behind in `folder`.
    pub(super) fn sweep(&self, folder: &str) -> Result<(), CheckpointError> {
        match &*self.place {
            Place::Folder(place) => place
                .sweep(folder)
                .map_err(|error| CheckpointError::io("tidy up", folder, &self.url, error)),
            // An upload that was not finished left nothing.
            Place::Remote(_) => Ok(()),
        }
    }
}
