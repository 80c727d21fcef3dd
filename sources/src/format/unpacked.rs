//! Unpacked: the text of a plain or compressed file.

use super::{Format, gzip::Members};
use std::io::{self, BufReader, Read};

/// The longest window of zstd that is read, as a power of two: the format's own bound, so every sound file is read. A
/// reader of such a file needs as much memory as its window has text in it, up to 2 GiB.
const LONGEST_WINDOW: u32 = if usize::BITS == 64 { 31 } else { 30 };

/// The text of a file.
pub(crate) enum Unpacked<R: Read> {
    Plain(R),
    Gzip(Box<Members<BufReader<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Unpacked<R> {
    /// The text of `file`, which is of this `format`; rows are not text, and read as they are stored.
    pub(crate) fn new(format: Format, file: R) -> io::Result<Self> {
        let buffered = |file| BufReader::with_capacity(256 * 1024, file);
        Ok(match format {
            Format::Gzip => Self::Gzip(Box::new(Members::new(buffered(file)))),
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(file))?;
                decoder.window_log_max(LONGEST_WINDOW)?;
                Self::Zstd(decoder)
            }
            Format::Plain | Format::Parquet => Self::Plain(file),
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> Option<&R> {
        match self {
            Self::Plain(file) => Some(file),
            Self::Gzip(members) => members.get_ref().map(BufReader::get_ref),
            Self::Zstd(decoder) => Some(decoder.get_ref().get_ref()),
        }
    }

    /// At the end of the text: what is odd about the file, though all of its text was read.
    pub(crate) fn oddity(&self) -> Option<&'static str> {
        match self {
            Self::Gzip(members) if members.has_more_behind() => {
                Some("something that is no gzip stands behind its end, and is ignored")
            }
            _ => None,
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(members) => members.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}
