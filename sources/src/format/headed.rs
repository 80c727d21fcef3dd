//! Headed: a file whose first bytes were looked at, and that is read from its beginning all the same.

use super::HEAD;
use std::{
    fs::{File, Metadata},
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

/// See the module. A pipe cannot go back, so what was read of it is kept until it is read again.
#[derive(Debug)]
pub(crate) struct Headed {
    head: Cursor<Vec<u8>>,
    file: File,
}

impl Headed {
    /// Opens a file; it, and its first bytes.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        let mut file = File::open(path)?;
        let mut head = Vec::with_capacity(HEAD);
        (&mut file).take(HEAD as u64).read_to_end(&mut head)?;
        let kept = match file.metadata()?.is_file() {
            true => {
                file.rewind()?;
                Vec::new()
            }
            false => head.clone(),
        };
        let head_again = Cursor::new(kept);
        Ok((
            Self {
                head: head_again,
                file,
            },
            head,
        ))
    }

    /// The file at `path` from `position` on.
    pub(crate) fn from(path: &Path, position: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        let head = Cursor::default();
        Ok(Self { head, file })
    }

    /// The file, in which one may go anywhere; `None` for a pipe.
    pub(crate) fn into_file(self) -> Option<File> {
        self.head.get_ref().is_empty().then_some(self.file)
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Appends at most `limit` bytes, straight into memory that need not be cleared first; how many, or an error, before
    /// which some may have been appended.
    pub(crate) fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let head = (&mut self.head).take(limit).read_to_end(buffer)?;
        let read = (&mut self.file).take(limit - head as u64).read_to_end(buffer)?;
        Ok(head + read)
    }
}

impl Read for Headed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.file.read(buffer),
            read => Ok(read),
        }
    }
}
