//! Counted: a file whose bytes are counted as they are read, and the text of it.

use crate::format::{Headed, Unpacked};
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct Counted {
    file: Headed,
    count: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn new(file: Headed, count: Arc<AtomicU64>) -> Self {
        Self { file, count }
    }

    /// Appends at most `limit` bytes.
    fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        let read = self.file.append(limit, buffer);
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

/// Somewhere text is read from in large pieces.
pub(super) trait Pieces {
    /// Appends `limit` bytes; fewer only at the end. What was read before an error counts.
    fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize>;
}

impl Pieces for Unpacked<Counted> {
    fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.append(limit, buffer),
            packed => packed.take(limit).read_to_end(buffer),
        }
    }
}
