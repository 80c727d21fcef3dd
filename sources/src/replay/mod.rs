//! Replay: recorded files that have an end, read for throughput by any number of workers.
//!
//! ```text
//!   paths --> queue of parts --> any reader: blocks of whole lines, one part at a time
//!               plain files in segments; gzip, zstd, Parquet, journals, listings and pipes whole
//! ```
//!
//! In:    files and folders of events, replica journals and listings; what a file begins with tells its format.
//! Out:   blocks of about 1 MiB in a buffer that is used again; each line of each file in one of them, once.
//! State: the list of parts; for each reader one open file, and the beginning of a line that is not read to its end.
//!
//! A file that is damaged is read up to the damage. That is an error of this file alone: `next_block` goes on
//! with the others. What is not read at all, such as a link that leads nowhere, is told in the same way, once.

mod columns;
mod counted;
mod lines;
mod queue;
mod text;

pub use lines::{Line, Lines};
pub use queue::Queue;

use crate::{
    SourceError,
    format::{Format, Headed, Unpacked},
};
use columns::Columns;
use counted::Counted;
use dbb_events::Micros;
use queue::{Part, Stored};
use std::{fs::File, io, path::PathBuf, sync::Arc};
use text::Text;

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// A file, a pipe (`-` is standard input), or a folder that is read with all below it; hidden files are left out.
    pub path: PathBuf,
    /// What its lines are.
    pub kind: Kind,
}

/// What the lines of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Events: bare bodies, or records around them (see [`dbb_events::decode_record`]).
    Event,
    /// Rows of the replica journal.
    Journal,
    /// Rows of listings.
    Listing {
        /// When it was made, where the file does not tell.
        at: Option<Micros>,
    },
}

/// What the buffer holds, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The path of the file.
    pub file: Arc<str>,
    /// What its lines are.
    pub kind: Kind,
    /// The position of the first byte in the file's uncompressed text; in a Parquet file the number of
    /// rows before the first.
    pub offset: u64,
    /// The number of the first line, from 1, where it is known: not in the later segments of a large file.
    pub line: Option<u64>,
    /// Set in the last block of a journal or a listing, which is empty, and only there.
    pub end: Option<End>,
    rows: bool,
}

impl Block {
    /// The lines of `text`, which is what the buffer holds, without the blank ones.
    pub fn lines<'b>(&self, text: &'b [u8]) -> Lines<'b> {
        Lines::new(text, self.offset, self.line, self.rows)
    }
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it was read.
    Whole,
    /// It is damaged, which was told by an error: something is missing.
    Cut,
}

/// Reads part after part of a queue that it shares with others.
#[derive(Debug)]
pub struct Reader {
    queue: Arc<Queue>,
    open: Option<Open>,
    /// The end of a file that is to be told.
    ended: Option<Block>,
}

#[derive(Debug)]
struct Open {
    file: Arc<str>,
    kind: Kind,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(Box<Text<Unpacked<Counted>>>),
    Rows(Box<Columns>),
}

/// Where a piece of a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    offset: u64,
    line: Option<u64>,
}

impl Reader {
    /// One of any number of readers of `queue`.
    pub fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            open: None,
            ended: None,
        }
    }

    /// Replaces what is in `buffer` by the next whole lines; `None` when nothing is left for this reader.
    ///
    /// # Errors
    ///
    /// [`SourceError::File`] tells which file is damaged, where, and what is lost; the next call goes on
    /// with the next file. [`SourceError::LeftOut`] tells what is not read at all, [`SourceError::Odd`] what is odd
    /// about a file that was read.
    pub fn next_block(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Block>, SourceError> {
        loop {
            buffer.clear();
            if let Some(block) = self.ended.take() {
                return Ok(Some(block));
            }
            if let Some((path, why)) = self.queue.take_left_out() {
                let path = path.display().to_string();
                return Err(SourceError::LeftOut { path, why });
            }
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let Some(part) = self.queue.take() else {
                        return Ok(None);
                    };
                    let (file, kind) = (part.file.clone(), part.kind);
                    match Open::new(&part, &self.queue) {
                        Ok(open) => self.open.insert(open),
                        Err(error) => {
                            self.end(&file, kind, End::Cut);
                            return Err(failed(&file, error, "nothing of it is read"));
                        }
                    }
                }
            };
            let (file, kind) = (open.file.clone(), open.kind);
            let filled = match &mut open.content {
                Content::Text(text) => text.fill(buffer),
                Content::Rows(rows) => rows.fill(buffer),
            };
            match filled {
                Ok(Some(start)) => {
                    let rows = matches!(open.content, Content::Rows(_));
                    return Ok(Some(Block::new(file, kind, start, rows)));
                }
                Ok(None) => {
                    let oddity = match &open.content {
                        Content::Text(text) => text.oddity(),
                        Content::Rows(_) => None,
                    };
                    self.open = None;
                    self.end(&file, kind, End::Whole);
                    if let Some(what) = oddity {
                        let (path, what) = (file.to_string(), what.to_owned());
                        return Err(SourceError::Odd { path, what });
                    }
                }
                Err(error) => {
                    self.open = None;
                    self.end(&file, kind, End::Cut);
                    return Err(failed(&file, error, "the rest of it is lost"));
                }
            }
        }
    }

    fn end(&mut self, file: &Arc<str>, kind: Kind, end: End) {
        if kind != Kind::Event {
            let start = Start {
                offset: 0,
                line: None,
            };
            let mut block = Block::new(file.clone(), kind, start, false);
            block.end = Some(end);
            self.ended = Some(block);
        }
    }
}

impl Block {
    fn new(file: Arc<str>, kind: Kind, start: Start, rows: bool) -> Self {
        Self {
            file,
            kind,
            offset: start.offset,
            line: start.line,
            end: None,
            rows,
        }
    }
}

impl Open {
    fn new(part: &Part, queue: &Queue) -> io::Result<Self> {
        let unsupported = |why: &str| io::Error::new(io::ErrorKind::Unsupported, why.to_owned());
        let count = queue.count();
        let content = match &part.stored {
            Stored::Refused(why) => return Err(unsupported(why)),
            Stored::As(Format::Parquet) => {
                let file = File::open(&part.path)?;
                let columns = Columns::new(file, part.size, count, queue.limits.block)?;
                Content::Rows(Box::new(columns))
            }
            Stored::As(Format::Plain) => {
                let (from, to) = part.span;
                let text = Text::segment(&part.path, count, from..to, queue.limits)?;
                Content::Text(Box::new(text))
            }
            Stored::As(_) | Stored::Once => {
                let (file, head) = Headed::open(&part.path)?;
                let format = Format::of(&head).map_err(|why| unsupported(&why))?;
                if format == Format::Parquet {
                    let why = "it is Parquet, whose end must be read first: write it to a file";
                    return Err(unsupported(why));
                }
                let reader = Unpacked::new(format, Counted::new(file, count))?;
                Content::Text(Box::new(Text::whole(reader, queue.limits)))
            }
        };
        Ok(Self {
            file: part.file.clone(),
            kind: part.kind,
            content,
        })
    }
}

fn failed(file: &str, error: io::Error, lost: &str) -> SourceError {
    if error.kind() == io::ErrorKind::Unsupported {
        return SourceError::LeftOut {
            path: file.to_owned(),
            why: error.to_string(),
        };
    }
    SourceError::File {
        path: file.to_owned(),
        source: io::Error::new(error.kind(), format!("{error}; {lost}")),
    }
}
