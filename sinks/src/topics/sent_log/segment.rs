//! Segment: one file of the sent log, and what is in it, lane by lane.
//!
//! ```text
//!   00000000000000000007.sent         frames, one after the other
//!   00000000000000000007.sent.lanes   which numbers of which lanes: written when nothing more is added
//! ```
//!
//! A segment whose end is torn is sound up to there.

use super::frame::{FIXED, Fixed, Head};
use dbb_events::{Lane, Micros, Rse};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

pub(super) const SUFFIX: &str = "sent";

/// What a segment has of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) rse: Rse,
    /// The lowest and the highest number in it.
    pub(crate) numbers: Option<(u64, u64)>,
    /// The number of the next record, as the segment ends.
    pub(crate) next: u64,
    /// The last number known to be confirmed.
    pub(crate) confirmed: u64,
}

/// What a segment has, by lane.
pub(super) type Summary = BTreeMap<Lane, Span>;

/// Adds a frame.
pub(super) fn add(summary: &mut Summary, head: &Head<'_>) {
    let lane = Lane {
        topic: head.topic.as_ref().into(),
        partition: head.partition,
    };
    let span = summary.entry(lane).or_insert_with(|| Span {
        rse: Rse::new(head.rse.as_ref()),
        numbers: None,
        next: 0,
        confirmed: 0,
    });
    span.next = head.first + u64::from(head.count);
    span.confirmed = span.confirmed.max(head.confirmed);
    if head.count > 0 {
        let (low, high) = span.numbers.unwrap_or((head.first, head.first));
        span.numbers = Some((low.min(head.first), high.max(span.next - 1)));
    }
}

pub(super) fn path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:020}.{SUFFIX}"))
}

fn summary_path(segment: &Path) -> PathBuf {
    segment.with_extension(format!("{SUFFIX}.lanes"))
}

/// The numbers of the segments in a folder, in order.
pub(super) fn ids(folder: &Path) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == SUFFIX)
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What a segment that nothing is added to has; read from beside it, or made from its frames and put there.
pub(super) fn summary(segment: &Path) -> io::Result<Summary> {
    let beside = summary_path(segment);
    if let Ok(bytes) = fs::read(&beside)
        && let Ok(summary) = serde_json::from_slice(&bytes)
    {
        return Ok(summary);
    }
    let (mut summary, mut frames) = (Summary::new(), Frames::open(segment, 0)?);
    while let Some(frame) = frames.next(true)? {
        add(&mut summary, &frame.head()?);
    }
    if frames.at < fs::metadata(segment)?.len() {
        tracing::warn!(path = %segment.display(), sound = frames.at, "the end of a file of the sent log is torn: what is before it is kept");
    }
    Ok(summary)
}

/// Writes the summary beside its segment.
pub(super) fn write_summary(segment: &Path, summary: &Summary) -> io::Result<()> {
    let (beside, new) = (summary_path(segment), segment.with_extension("new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(summary)?)?;
    file.sync_data()?;
    fs::rename(&new, &beside)
}

/// Removes a segment; its summary goes after it.
pub(super) fn remove(segment: &Path) -> io::Result<()> {
    fs::remove_file(segment)?;
    match fs::remove_file(summary_path(segment)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The frames of a segment, from one of them on.
pub(super) struct Frames {
    file: BufReader<File>,
    /// Where the next one begins.
    pub(super) at: u64,
    head: Vec<u8>,
}

/// One frame; its body is read only if asked for.
pub(super) struct Frame<'a> {
    fixed: Fixed,
    frames: &'a mut Frames,
    body: Option<Vec<u8>>,
}

impl Frames {
    pub(super) fn open(segment: &Path, at: u64) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(256 * 1024, File::open(segment)?);
        file.seek(SeekFrom::Start(at))?;
        Ok(Self {
            file,
            at,
            head: Vec::new(),
        })
    }

    /// The next frame; none at the end, or where it is torn or damaged. With `whole` its body is looked at too.
    pub(super) fn next(&mut self, whole: bool) -> io::Result<Option<Frame<'_>>> {
        // Where the body of the last one was not read, this skips it; within the buffer at no cost.
        let here = self.file.stream_position()?;
        self.file.seek_relative(self.at as i64 - here as i64)?;
        let torn = |result: io::Result<()>| match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        };
        let mut fixed = [0; FIXED];
        if !torn(self.file.read_exact(&mut fixed))? {
            return Ok(None);
        }
        let Some(fixed) = Fixed::read(&fixed) else {
            return Ok(None);
        };
        // Lengths that lead beyond the end are of a frame that is torn.
        if self.at + fixed.length() > self.file.get_ref().metadata()?.len() {
            return Ok(None);
        }
        let mut head = std::mem::take(&mut self.head);
        fixed.head(&mut self.file, &mut head)?;
        self.head = head;
        let mut body = None;
        if whole {
            let Some(read) = fixed.body(&self.head, &mut self.file)? else {
                return Ok(None);
            };
            body = Some(read);
        }
        self.at += fixed.length();
        Ok(Some(Frame {
            fixed,
            frames: self,
            body,
        }))
    }
}

impl Frame<'_> {
    pub(super) fn head(&self) -> io::Result<Head<'_>> {
        Ok(Head::read(&self.frames.head)?.0)
    }

    /// When it was written, if it tells.
    pub(super) fn at(&self) -> Option<Micros> {
        Head::read(&self.frames.head).ok()?.1
    }

    /// Its records; an error if it is damaged.
    pub(super) fn records(mut self) -> io::Result<Vec<super::frame::Kept>> {
        let body = match self.body.take() {
            Some(body) => Some(body),
            None => self.fixed.body(&self.frames.head, &mut self.frames.file)?,
        };
        let body = body.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a frame is damaged"))?;
        self.fixed.records(&body)
    }
}
