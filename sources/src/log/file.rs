//! File: one recorded file, read block by block, and looked at again when it is followed.

use super::lines::{Line, Lines};
use crate::{
    Partition, SourceError,
    format::{Format, HEAD, Headed, Row, Rows, Unpacked, not_lines},
};
use bytes::Bytes;
use dbb_events::{Place, Received, decode_record};
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs, io,
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
    /// All is read, and this is odd about it.
    oddity: Option<&'static str>,
    /// Its size when its end was reached, in bytes as stored.
    size_at_end: u64,
    /// When it was noticed that another file, or none, is at its path.
    left_at: Option<Instant>,
    gone: bool,
    topics: BTreeSet<Arc<str>>,
}

enum Reader {
    Text(Unpacked<Headed>),
    Rows(Box<Rows>),
}

impl Reader {
    /// Opens by what the file begins with; of rows, from number `from` on.
    fn open(path: &Path, from: u64) -> io::Result<(Self, Identity, u64)> {
        let (file, head) = Headed::open(path)?;
        let metadata = file.metadata()?;
        let unsupported = |why: String| io::Error::new(io::ErrorKind::Unsupported, why);
        let reader = match Format::of(&head).map_err(unsupported)? {
            Format::Parquet => {
                let why = "it is Parquet, whose end must be read first: write it to a file";
                let file = file.into_file().ok_or_else(|| unsupported(why.into()))?;
                Self::Rows(Box::new(Rows::new(file, metadata.size(), from, true)?))
            }
            format => Self::Text(Unpacked::new(format, file)?),
        };
        Ok((reader, (metadata.dev(), metadata.ino()), metadata.size()))
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
            oddity: None,
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
        if let Some(what) = self.oddity.take() {
            return Err(SourceError::Odd {
                path: self.path.display().to_string(),
                what: what.into(),
            });
        }
        if self.reader.is_none() {
            let (reader, identity, size) = match Reader::open(&self.path, self.next()) {
                Ok(opened) => opened,
                Err(error) => {
                    self.size_at_end = fs::metadata(&self.path).map_or(0, |metadata| metadata.size());
                    return self.fail(error);
                }
            };
            if self.follow && identity != self.identity {
                // Replaced since it was found: the listing will find the new one.
                self.gone = true;
                return Ok(Progress::End);
            }
            self.size_at_end = size;
            self.reader = Some(reader);
        }
        match &mut self.reader {
            Some(Reader::Text(_)) => self.read_text(batch, full),
            Some(Reader::Rows(_)) => self.read_rows(batch, full),
            None => Ok(Progress::End),
        }
    }

    fn read_text(&mut self, batch: &mut Vec<Received>, full: usize) -> Result<Progress, SourceError> {
        let Some(Reader::Text(text)) = &mut self.reader else {
            return Ok(Progress::End);
        };
        // Taken before the reading, so that what is appended meanwhile is noticed.
        let size = size_of(text);
        let begins = self.lines.end() == 0;
        let read = self.lines.fill(text);
        if begins && let Some(why) = not_lines(self.lines.read_ahead(HEAD)) {
            self.reopen_from(self.next());
            return self.fail(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        match read {
            Ok(0) => {
                self.size_at_end = size;
                let oddity = text.oddity();
                let is_packed = !matches!(text, Unpacked::Plain(_));
                if !self.follow || self.gone {
                    if let Some(line) = self.lines.rest() {
                        self.push(line, batch);
                    }
                    self.reader = None;
                    if oddity.is_some() {
                        self.oddity = oddity;
                        return Ok(Progress::More);
                    }
                } else if let Some(what) = oddity {
                    warn!(file = %self.path.display(), what, "a file is odd");
                }
                if is_packed && self.lines.offset() == self.lines.end() {
                    // It is unpacked from its beginning when it has grown: no need to keep its window until then.
                    self.reopen_from(self.next());
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

    fn read_rows(&mut self, batch: &mut Vec<Received>, full: usize) -> Result<Progress, SourceError> {
        let Some(Reader::Rows(mut rows)) = self.reader.take() else {
            return Ok(Progress::End);
        };
        loop {
            if batch.len() >= full {
                self.reader = Some(Reader::Rows(rows));
                return Ok(Progress::More);
            }
            let next = rows
                .next_row()
                .map(|row| row.map(|row| self.push_row(&row, batch)));
            self.lines.pass_to(rows.row());
            match next {
                Ok(Some(())) => {}
                Ok(None) => return Ok(Progress::End),
                Err(error) => {
                    self.fault = Some(error);
                    return Ok(Progress::More);
                }
            }
        }
    }

    /// After the lines before a fault are handed out: is it the end, or only the end so far?
    fn fail(&self, error: io::Error) -> Result<Progress, SourceError> {
        if error.kind() == io::ErrorKind::UnexpectedEof && self.follow && !self.gone {
            // Still being written, it seems: read again from its beginning when it has grown.
            warn!(
                file = %self.path.display(), %error,
                "a file ends early and cannot be followed while it grows: waiting for the rest"
            );
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
                self.reopen_from(self.next());
            }
            return false;
        }
        // What it is may be told by more than there was.
        if !self.is_plain() || self.lines.end() < HEAD as u64 {
            self.reopen_from(self.next());
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
        matches!(reader, Reader::Text(plain @ Unpacked::Plain(_)) if size_of(plain) > self.size_at_end)
    }

    fn is_cut_short(&self) -> bool {
        matches!(&self.reader, Some(Reader::Text(text)) if size_of(text) < self.size_at_end)
    }

    /// True for a plain file that is open.
    fn is_plain(&self) -> bool {
        matches!(self.reader, Some(Reader::Text(Unpacked::Plain(_))))
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
        let body = match recorded.body {
            Cow::Borrowed(body) => line.bytes.slice_ref(body),
            Cow::Owned(body) => Bytes::from(body),
        };
        self.record(recorded.topic.as_deref(), body, (line.offset, line.number), batch);
    }

    fn push_row(&mut self, row: &Row<'_>, batch: &mut Vec<Received>) {
        // As of a line that is too long, the first bytes are enough to say what it was.
        let body = &row.body[..row.body.len().min(self.max_line_bytes)];
        let at = (row.number, row.number + 1);
        match row.topic {
            Some(topic) => self.record(Some(topic), Bytes::copy_from_slice(body), at, batch),
            None => {
                let recorded = decode_record(body);
                let body = Bytes::from(recorded.body.into_owned());
                self.record(recorded.topic.as_deref(), body, at, batch);
            }
        }
    }

    /// Appends one record, unless it says nothing; `at` is its offset and its line.
    fn record(&mut self, topic: Option<&str>, body: Bytes, at: (u64, u64), batch: &mut Vec<Received>) {
        if body.is_empty() && topic.is_none() {
            return;
        }
        let topic = topic.map(|topic| match self.topics.get(topic) {
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
            offset: at.0,
            line: Some(at.1),
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
        let path = self.path.display().to_string();
        if error.kind() == io::ErrorKind::Unsupported {
            let why = error.to_string();
            return SourceError::LeftOut { path, why };
        }
        let detail = match self.lines.end() {
            // Not opened, or rows, of which the error tells how many were read.
            0 => error.to_string(),
            end => format!("at byte {end} of its text, line {}: {error}", self.lines.number()),
        };
        SourceError::File {
            path,
            source: io::Error::new(error.kind(), detail),
        }
    }
}

fn size_of(text: &Unpacked<Headed>) -> u64 {
    let metadata = text.file().and_then(|file| file.metadata().ok());
    metadata.map_or(0, |metadata| metadata.size())
}
