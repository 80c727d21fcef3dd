//! Sidecar documents beside files: JSON or YAML, one for a file or one for its folder.
//!
//! ```text
//!   URL where it landed, URL it came from --> path --> NAME.json, NAME.yaml        --> labels
//!                                                 \--> sidecars.json, .yaml [NAME] --> labels
//! ```
//!
//! In:    an ask, with the URLs of the file.
//! Out:   labels; nothing, where no document speaks of the file; or what is wrong with the one that should.
//! State: documents of folders, as long as they are not written anew, within `remember_bytes`.
//!
//! A document that cannot be used makes its files wait: it may be half written, or somebody may mend it.

mod entry;
mod place;
mod read;

use super::{DocumentSettings, LookUpStats};
use dbb_events::{Ask, Labels};
use quick_cache::{Weighter, sync};
use read::Version;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names in a sentence about a document.
const MOST_NAMED: usize = 3;

/// Reads documents; clones share what they remember.
#[derive(Clone)]
pub(super) struct Documents(Arc<Inner>);

struct Inner {
    settings: DocumentSettings,
    wanted: Vec<String>,
    stats: Arc<LookUpStats>,
    folders: sync::Cache<PathBuf, Arc<Folder>, Weigh>,
}

/// A document of a folder.
struct Folder {
    version: Version,
    bytes: u64,
    /// By file name; or what is wrong with the document as a whole.
    entries: Result<HashMap<String, Value>, String>,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<PathBuf, Arc<Folder>> for Weigh {
    fn weight(&self, _: &PathBuf, folder: &Arc<Folder>) -> u64 {
        folder.bytes.max(1)
    }
}

impl Documents {
    pub(super) fn new(settings: &DocumentSettings, wanted: &[String], stats: Arc<LookUpStats>) -> Self {
        Self(Arc::new(Inner {
            folders: sync::Cache::with_weighter(1000, settings.remember_bytes, Weigh),
            settings: settings.clone(),
            wanted: wanted.to_vec(),
            stats,
        }))
    }

    /// The labels of the file; `None` where no document speaks of it.
    ///
    /// # Errors
    /// Says which document cannot be used, and why.
    pub(super) fn find(&self, ask: &Ask) -> Result<Option<Arc<Labels>>, String> {
        let found = self.search(ask);
        self.0.stats.update(|stats| match &found {
            Ok(Some(_)) => stats.documents_found += 1,
            Ok(None) => {}
            Err(_) => stats.documents_bad += 1,
        });
        found
    }

    /// Where was looked for documents of the file, in words.
    pub(super) fn looked_at(&self, ask: &Ask) -> String {
        let settings = &self.0.settings;
        let documents: Vec<String> = self
            .files(ask)
            .flat_map(|file| {
                let mut documents = place::of_file(&file, &settings.one_per_file);
                documents.extend(place::of_folder(&file, &settings.one_per_folder));
                documents
            })
            .map(|path| format!("`{}`", path.display()))
            .collect();
        match documents.is_empty() {
            true => "its URL starts with none of `documents.prefixes`".into(),
            false => format!("none of {} speaks of it", documents.join(", ")),
        }
    }

    /// Where the file is, or was, as far as it is seen from here.
    fn files<'a>(&'a self, ask: &'a Ask) -> impl Iterator<Item = PathBuf> + 'a {
        let urls = [&ask.url, &ask.source_url];
        urls.into_iter()
            .flatten()
            .filter_map(|url| place::path(url, &self.0.settings.prefixes))
    }

    fn search(&self, ask: &Ask) -> Result<Option<Arc<Labels>>, String> {
        let settings = &self.0.settings;
        for file in self.files(ask) {
            for path in place::of_file(&file, &settings.one_per_file) {
                let Some(read) = read::text(&path, settings.max_bytes)? else {
                    continue;
                };
                self.0.stats.update(|stats| stats.documents_read += 1);
                let value = read::value(&path, &read.text, settings.max_depth)?;
                return self.labels(ask, &path, value).map(Some);
            }
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            for path in place::of_folder(&file, &settings.one_per_folder) {
                let Some(folder) = self.folder(&path)? else {
                    continue;
                };
                let entries = folder.entries.as_ref().map_err(String::clone)?;
                if let Some(entry) = entries.get(name) {
                    return self.labels(ask, &path, entry.clone()).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn labels(&self, ask: &Ask, path: &Path, value: Value) -> Result<Arc<Labels>, String> {
        entry::one(value)
            .and_then(|entry| entry::labels(&ask.did, entry, &self.0.settings, &self.0.wanted))
            .map_err(|why| format!("sidecar document `{}`: {why}", path.display()))
    }

    /// The document of a folder at `path`, read anew where it was written anew; `None` where there is none.
    fn folder(&self, path: &Path) -> Result<Option<Arc<Folder>>, String> {
        let max_bytes = self.0.settings.max_bytes;
        let Some(version) = read::version(path, max_bytes)? else {
            return Ok(None);
        };
        if let Some(folder) = self.0.folders.get(path)
            && folder.version == version
        {
            return Ok(Some(folder));
        }
        let Some(read) = read::text(path, max_bytes)? else {
            return Ok(None);
        };
        self.0.stats.update(|stats| stats.documents_read += 1);
        let entries = read::value(path, &read.text, self.0.settings.max_depth)
            .and_then(|value| self.entries(path, value));
        if let Err(why) = &entries {
            tracing::warn!(why, "a sidecar document cannot be used: its files wait");
        }
        let folder = Arc::new(Folder {
            version: read.version,
            bytes: read.text.len() as u64,
            entries,
        });
        self.0.folders.insert(path.to_owned(), Arc::clone(&folder));
        Ok(Some(folder))
    }

    /// The entries, once it is seen whether they are of files in the folder.
    fn entries(&self, path: &Path, value: Value) -> Result<HashMap<String, Value>, String> {
        let document = path.display();
        let (entries, wrong) =
            entry::many(value).map_err(|why| format!("sidecar document `{document}`: {why}"))?;
        let beside: BTreeSet<String> = path
            .parent()
            .and_then(|folder| std::fs::read_dir(folder).ok())
            .into_iter()
            .flatten()
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .collect();
        let mut absent: Vec<&str> = entries
            .keys()
            .map(String::as_str)
            .filter(|name| !beside.contains(*name))
            .collect();
        absent.sort_unstable();
        self.0.stats.update(|stats| {
            stats.documents_bad += wrong.len() as u64;
            stats.documents_without_file += absent.len() as u64;
        });
        if let Some(first) = wrong.first() {
            let entries = wrong.len();
            tracing::warn!(%document, entries, first, "entries of a sidecar document cannot be used");
        }
        if !absent.is_empty() {
            let names = absent[..absent.len().min(MOST_NAMED)].join(", ");
            let files = absent.len();
            // Files may follow their document.
            tracing::info!(%document, files, names, "a sidecar document names files that are not beside it");
        }
        if absent.len() == entries.len() {
            let first = absent.first().copied().unwrap_or("nothing");
            return Err(format!(
                "sidecar document `{document}`: it names no file of its folder (but {first})"
            ));
        }
        Ok(entries)
    }
}
