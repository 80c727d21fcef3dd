//! File: one recorded file, read block by block, and looked at again when it is followed.

use super::lines::{Line, Lines};
use crate::{Partition, SourceError};
use bytes::Bytes;
use dbb_events::{Place, Received, decode_record};
use flate2::bufread::MultiGzDecoder;
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

/// A file that has left its path is read this much longer: its writer may not know yet.
const FAREWELL: Duration = Duration::from_secs(10);

/// A file unchanged for so long is closed; it is opened again when it changes.
const CLOSE_AFTER: Duration = Duration::from_secs(3600);

/// Device and inode: what stays the same when a file is renamed.
pub(super) type Identity = (u64, u64);

/// What one step of reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to read.
    More,
    /// That is all, for now.
    End,
}

/// One file and how far it is read.
pub(super) struct LogFile {
    /// Where it is, or was when it was found.
    pub(super) path: PathBuf,
    pub(super) stream: Arc<str>,
    pub(super) identity: Identity,
    reader: Option<Reader>,
    lines: Lines,
    /// What ended the reading; told when the lines before it are handed out.
    fault: Option<io::Error>,
    max_line_bytes: usize,
    follow: bool,
    /// Its size when its end was reached, in bytes as stored.
    size_at_end: u64,
    /// When it was noticed that another file, or none, is at its path.
    left_at: Option<Instant>,
    gone: bool,
    topics: BTreeSet<Arc<str>>,
}

enum Reader {
    Plain(File),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<File>>),
}

impl Reader {
    /// Opens by what the file begins with; its name says nothing.
    fn open(path: &Path) -> io::Result<(Self, Identity)> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut magic = Vec::with_capacity(4);
        (&mut file).take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        let reader = match magic[..] {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(file)))),
            // A frame, or one to be skipped, as parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                Self::Zstd(zstd::stream::read::Decoder::with_buffer(buffered(file))?)
            }
            _ => Self::Plain(file),
        };
        Ok((reader, (metadata.dev(), metadata.ino())))
    }
}

fn buffered(file: File) -> BufReader<File> {
    BufReader::with_capacity(256 * 1024, file)
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl LogFile {
    /// The file at `path`, to be read from position `from` of its uncompressed text.
    pub(super) fn new(
        path: PathBuf,
        identity: Identity,
        stream: Arc<str>,
        from: u64,
        max_line_bytes: usize,
        follow: bool,
    ) -> Self {
        Self {
            path,
            stream,
            identity,
            reader: None,
            lines: Lines::new(max_line_bytes, from),
            fault: None,
            max_line_bytes,
            follow,
            size_at_end: 0,
            left_at: None,
            gone: false,
            topics: BTreeSet::new(),
        }
    }

    /// What it is called as a part of the source.
    pub(super) fn partition(&self) -> Partition {
        Partition {
            stream: Arc::clone(&self.stream),
            partition: 0,
        }
    }

    /// The position of the next line.
    pub(super) fn next(&self) -> u64 {
        self.lines.next_from()
    }

    /// Appends at most `max` records; reads at most about one block.
    pub(super) fn read(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Progress, SourceError> {
        let full = batch.len() + max;
        if self.take_lines(batch, full) {
            return Ok(Progress::More);
        }
        if let Some(error) = self.fault.take() {
            return self.fail(error);
        }
        if self.reader.is_none() {
            let (reader, identity) = Reader::open(&self.path).map_err(|error| self.error(error))?;
            if self.follow && identity != self.identity {
                // Replaced since it was found: the listing will find the new one.
                self.gone = true;
                return Ok(Progress::End);
            }
            self.reader = Some(reader);
        }
        let Some(reader) = &mut self.reader else {
            return Ok(Progress::End);
        };
        // Taken before the reading, so that what is appended meanwhile is noticed.
        let size = size_of(reader);
        let read = self.lines.fill(reader);
        match read {
            Ok(0) => {
                self.size_at_end = size;
                if !self.follow || self.gone {
                    if let Some(line) = self.lines.rest() {
                        self.push(line, batch);
                    }
                    self.reader = None;
                }
                Ok(Progress::End)
            }
            Ok(_) => {
                self.take_lines(batch, full);
                Ok(Progress::More)
            }
            Err(error) => {
                self.fault = Some(error);
                self.size_at_end = size;
                Ok(Progress::More)
            }
        }
    }

    /// After the lines before a fault are handed out: is it the end, or only the end so far?
    fn fail(&self, error: io::Error) -> Result<Progress, SourceError> {
        if error.kind() == io::ErrorKind::UnexpectedEof && self.follow && !self.gone {
            // Still being written, it seems: read again from its beginning when it has grown.
            warn!(file = %self.path.display(), "compressed file ends early: waiting for the rest");
            return Ok(Progress::End);
        }
        Err(self.error(error))
    }

    /// True if reading a file that was at its end would find more, as far as its size tells.
    pub(super) fn has_more(&mut self) -> bool {
        if self.gone {
            return false;
        }
        let now = fs::metadata(&self.path).ok();
        let here = now.as_ref().filter(|now| (now.dev(), now.ino()) == self.identity);
        // Cut short: what is left, or comes, is not the continuation of what was read.
        let here = here.filter(|now| now.size() >= self.size_at_end);
        let Some(here) = here else {
            return self.says_farewell();
        };
        self.left_at = None;
        if here.size() == self.size_at_end {
            let age = here
                .modified()
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            // With part of a line read, closing would mean reading all of it again.
            if age.is_some_and(|age| age > CLOSE_AFTER) && self.lines.offset() == self.lines.end() {
                self.reopen_from(self.lines.offset());
            }
            return false;
        }
        if !matches!(self.reader, Some(Reader::Plain(_)) | None) {
            self.reopen_from(self.lines.offset());
        }
        true
    }

    /// True when another file is at its path, or none, and nothing more will come of this one.
    pub(super) fn has_gone(&self) -> bool {
        self.gone && self.reader.is_none()
    }

    /// For a file that has left its path: true while it should be read once more.
    fn says_farewell(&mut self) -> bool {
        let left_at = *self.left_at.get_or_insert_with(Instant::now);
        let Some(reader) = &self.reader else {
            self.gone = true;
            return false;
        };
        if left_at.elapsed() > FAREWELL || self.is_cut_short() {
            self.gone = true;
            return true;
        }
        matches!(reader, Reader::Plain(_)) && size_of(reader) > self.size_at_end
    }

    fn is_cut_short(&self) -> bool {
        self.reader
            .as_ref()
            .is_some_and(|reader| size_of(reader) < self.size_at_end)
    }

    fn reopen_from(&mut self, from: u64) {
        self.reader = None;
        self.lines = Lines::new(self.max_line_bytes, from);
    }

    /// Appends the lines read so far until the batch has `full`; true if it was full before they ended.
    fn take_lines(&mut self, batch: &mut Vec<Received>, full: usize) -> bool {
        while batch.len() < full {
            match self.lines.next() {
                Some(line) => self.push(line, batch),
                None => return false,
            }
        }
        true
    }

    fn push(&mut self, line: Line, batch: &mut Vec<Received>) {
        let recorded = decode_record(&line.bytes);
        if recorded.body.is_empty() && recorded.topic.is_none() {
            return;
        }
        let body = match recorded.body {
            Cow::Borrowed(body) => line.bytes.slice_ref(body),
            Cow::Owned(body) => Bytes::from(body),
        };
        let topic = recorded.topic.map(|topic| match self.topics.get(&*topic) {
            Some(known) => known.clone(),
            None => {
                // As many topics as lines would be a recording of something else.
                if self.topics.len() >= 1000 {
                    self.topics.clear();
                }
                let topic: Arc<str> = topic.into();
                self.topics.insert(topic.clone());
                topic
            }
        });
        let place = Place {
            stream: self.stream.clone(),
            partition: 0,
            offset: line.offset,
            line: Some(line.number),
        };
        batch.push(Received {
            place,
            topic,
            appended_at: None,
            marks: None,
            body,
        });
    }

    fn error(&self, error: io::Error) -> SourceError {
        let detail = format!(
            "at byte {} of its text, line {}: {error}",
            self.lines.end(),
            self.lines.number()
        );
        SourceError::File {
            path: self.path.display().to_string(),
            source: io::Error::new(error.kind(), detail),
        }
    }
}

fn size_of(reader: &Reader) -> u64 {
    let file = match reader {
        Reader::Plain(file) => file,
        Reader::Gzip(decoder) => decoder.get_ref().get_ref(),
        Reader::Zstd(decoder) => decoder.get_ref().get_ref(),
    };
    file.metadata().map_or(0, |metadata| metadata.size())
}
