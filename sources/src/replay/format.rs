//! Format: what a file begins with, and its text from there.

use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// How the text of a file is stored; its name says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Gzip,
    Zstd,
    Parquet,
}

impl Format {
    /// The format of the file at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(4);
        File::open(path)?.take(4).read_to_end(&mut magic)?;
        Ok(match magic[..] {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one to be skipped, as parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            [b'P', b'A', b'R', b'1'] => Self::Parquet,
            _ => Self::Plain,
        })
    }
}

/// A file whose bytes are counted as they are read.
#[derive(Debug)]
pub(super) struct Counted {
    file: File,
    count: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn new(file: File, count: Arc<AtomicU64>) -> Self {
        Self { file, count }
    }

    pub(super) fn seek(&mut self, position: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position)).map(drop)
    }

    /// Appends at most `limit` bytes, straight into memory that need not be cleared first.
    fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        let read = (&mut self.file).take(limit).read_to_end(buffer);
        self.count.fetch_add((buffer.len() - before) as u64, Relaxed);
        read
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.count.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

/// The text of a file.
pub(super) enum Unpacked {
    Plain(Counted),
    Gzip(Box<MultiGzDecoder<BufReader<Counted>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Counted>>),
}

impl Unpacked {
    pub(super) fn new(format: Format, file: Counted) -> io::Result<Self> {
        let buffered = |file| BufReader::with_capacity(256 * 1024, file);
        Ok(match format {
            Format::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(file)))),
            Format::Zstd => Self::Zstd(zstd::stream::read::Decoder::with_buffer(buffered(file))?),
            Format::Plain | Format::Parquet => Self::Plain(file),
        })
    }
}

impl std::fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

/// Somewhere text is read from in large pieces.
pub(super) trait Pieces {
    /// Appends `limit` bytes; fewer only at the end. What was read before an error counts.
    fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize>;
}

impl Pieces for Unpacked {
    fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.append(limit, buffer),
            Self::Gzip(decoder) => decoder.take(limit).read_to_end(buffer),
            Self::Zstd(decoder) => decoder.take(limit).read_to_end(buffer),
        }
    }
}
