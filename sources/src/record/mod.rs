//! Record: the records of a live source as files that a replay reads.
//!
//! ```text
//!   records --> .events-00000007.ndjson.zst.part --> position moves --> events-00000007.ndjson.zst
//!                                        (on disk)            (on disk)
//! ```
//!
//! In:    records in the order of each partition; repeats of what is recorded are left out.
//! Out:   files of zstd NDJSON, `{"topic","partition","offset","appended_at","value"}` a line, or Parquet with these
//!        columns.
//! State: the file being written; for each partition, where the complete files end.
//!
//! Whatever ends the program, after the next start the files hold each record once: a file counts from the moment
//! the position says so, and what was read after that is read again.

mod ndjson;
mod position;
mod rows;

use crate::{Offsets, Partition, SourceError};
use dbb_events::Received;
use ndjson::Ndjson;
use position::Position;
use rows::Rows;
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// Lines of JSON, zstd.
    Ndjson,
    /// Columns.
    Parquet,
}

/// Where records are written, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSettings {
    /// The folder; it is made if it is not there.
    pub folder: PathBuf,
    /// The format of new files.
    pub format: RecordFormat,
    /// A file is complete when it has so many bytes.
    pub max_file_bytes: u64,
    /// A file is complete so long after it was begun.
    pub max_file_age: Duration,
}

/// Writes records to files.
#[derive(Debug)]
pub struct Recorder {
    settings: RecordSettings,
    position: Position,
    /// Where each partition stands with the file being written.
    written: Offsets,
    file: Option<Writing>,
    records: u64,
    not_text: u64,
    _lock: File,
}

#[derive(Debug)]
struct Writing {
    begun: Instant,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Ndjson(Box<Ndjson>),
    Rows(Box<Rows>),
}

impl Recorder {
    /// Goes on in a folder where the last one left it, or begins in a new one.
    ///
    /// # Errors
    ///
    /// [`SourceError::Configuration`] if another recorder writes there; [`SourceError::File`] for what cannot be
    /// made, read or written.
    pub fn open(settings: RecordSettings) -> Result<Self, SourceError> {
        let folder = settings.folder.as_path();
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(|error| failed(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SourceError::Configuration(format!(
                    "another dbb records to `{}`",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        let position = Position::load(folder).map_err(|error| failed(folder, error))?;
        Ok(Self {
            written: position.offsets(),
            position,
            settings,
            file: None,
            records: 0,
            not_text: 0,
            _lock: lock,
        })
    }

    /// A name for this folder, the same for ever and no other's.
    pub fn id(&self) -> &str {
        &self.position.id
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// True if no file is complete yet.
    pub fn is_new(&self) -> bool {
        self.position.file == 0
    }

    /// Where the complete files end: for each partition the offset of the next record.
    pub fn offsets(&self) -> Offsets {
        self.position.offsets()
    }

    /// Records written since this was opened.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Of these, how many are no text: they are written with U+FFFD in place of what is none.
    pub fn not_text(&self) -> u64 {
        self.not_text
    }

    /// Writes `record`; false if it is recorded already.
    ///
    /// # Errors
    ///
    /// The file cannot be written: nothing more can be recorded, and what is complete stays so.
    pub fn write(&mut self, record: &Received) -> Result<bool, SourceError> {
        let partition = Partition {
            stream: record.place.stream.clone(),
            partition: record.place.partition,
        };
        let next = self.written.entry(partition).or_default();
        if record.place.offset < *next {
            return Ok(false);
        }
        *next = record.place.offset + 1;
        let path = self.part();
        let text = String::from_utf8_lossy(&record.body);
        self.not_text += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let begun = Instant::now();
                let content = match self.settings.format {
                    RecordFormat::Ndjson => Ndjson::create(&path).map(|file| Content::Ndjson(Box::new(file))),
                    RecordFormat::Parquet => Rows::create(&path).map(|file| Content::Rows(Box::new(file))),
                };
                let content = content.map_err(|error| failed(&path, error))?;
                none.insert(Writing { begun, content })
            }
        };
        match &mut file.content {
            Content::Ndjson(lines) => lines.write(record, &text),
            Content::Rows(rows) => rows.write(record, &text),
        }
        .map_err(|error| failed(&path, error))?;
        self.records += 1;
        Ok(true)
    }

    /// Completes the file if it is large or old enough; then tells up to where all is recorded.
    ///
    /// # Errors
    ///
    /// As for [`Recorder::write`].
    pub fn rotate(&mut self) -> Result<Option<Offsets>, SourceError> {
        let due = self.file.as_ref().is_some_and(|file| {
            let bytes = match &file.content {
                Content::Ndjson(lines) => lines.bytes(),
                Content::Rows(rows) => rows.bytes(),
            };
            bytes >= self.settings.max_file_bytes || file.begun.elapsed() >= self.settings.max_file_age
        });
        if due { self.complete() } else { Ok(None) }
    }

    /// Completes the file, if there is one; then tells up to where all is recorded.
    ///
    /// # Errors
    ///
    /// As for [`Recorder::write`].
    pub fn complete(&mut self) -> Result<Option<Offsets>, SourceError> {
        let part = self.part();
        let Some(file) = self.file.take() else {
            return Ok(None);
        };
        let done = match file.content {
            Content::Ndjson(lines) => lines.finish(),
            Content::Rows(rows) => rows.finish(),
        };
        let (folder, name) = (&self.settings.folder, self.name());
        let (position, written) = (&mut self.position, &self.written);
        let moved = done.and_then(|file| {
            file.sync_all()?;
            position.move_to(folder, name, written)?;
            position.settle(folder)
        });
        moved.map_err(|error| failed(&part, error))?;
        Ok(Some(self.offsets()))
    }

    /// The name of the file being written, once it is complete.
    fn name(&self) -> String {
        let number = self.position.file + 1;
        match self.settings.format {
            RecordFormat::Ndjson => format!("events-{number:08}.ndjson.zst"),
            RecordFormat::Parquet => format!("events-{number:08}.parquet"),
        }
    }

    fn part(&self) -> PathBuf {
        position::part_of(&self.settings.folder, &self.name())
    }
}

fn failed(path: &Path, source: io::Error) -> SourceError {
    SourceError::File {
        path: path.display().to_string(),
        source,
    }
}
