//! Lines: cut out of large blocks without copying them.
//!
//! In:    a reader.
//! Out:   the lines, each with its position and number, sharing the memory of their block.
//! State: one block, and from it the beginning of a line whose end is not read yet.

use bytes::Bytes;
use std::io::{self, Read};

/// Bytes read at once.
const BLOCK: usize = 1024 * 1024;

/// The most that is kept of a line that is too long, in bytes.
const HEAD: usize = 1024 * 1024;

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The position of its first byte.
    pub(super) offset: u64,
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its bytes; of one that is too long, the first.
    pub(super) bytes: Bytes,
}

/// What is left of the block, and where it is in the file.
#[derive(Debug)]
pub(super) struct Lines {
    block: Bytes,
    /// Bytes at the beginning of `block` that hold no end of a line.
    searched: usize,
    /// The position of `block` in the file.
    offset: u64,
    /// The number of the line that `block` begins with.
    number: u64,
    limit: usize,
    /// In the middle of a line that was too long.
    dropping: bool,
    /// Lines that begin before this position were handled in an earlier run.
    from: u64,
}

impl Lines {
    /// Lines from the one that begins at position `from`, or next after it.
    pub(super) fn new(limit: usize, from: u64) -> Self {
        Self {
            block: Bytes::new(),
            searched: 0,
            offset: 0,
            number: 1,
            limit,
            dropping: false,
            from,
        }
    }

    /// The position of the first byte that is in no line handed out.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The position before which no line is handed out any more.
    pub(super) fn next_from(&self) -> u64 {
        self.offset.max(self.from)
    }

    /// Nothing that begins before `position` is handed out any more.
    pub(super) fn pass_to(&mut self, position: u64) {
        self.from = position;
    }

    /// The first bytes, at most `bytes` of them, of what is not handed out.
    pub(super) fn read_ahead(&self, bytes: usize) -> &[u8] {
        &self.block[..self.block.len().min(bytes)]
    }

    /// Bytes read so far.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.block.len() as u64
    }

    /// The number of the line that begins at [`Lines::offset`].
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next whole line of what was read.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.block[self.searched..]) else {
                self.searched = self.block.len();
                if self.dropping {
                    self.skip(self.block.len());
                } else if self.block.len() > self.limit {
                    let line = self.head();
                    self.skip(self.block.len());
                    self.dropping = true;
                    if line.offset >= self.from {
                        return Some(line);
                    }
                }
                return None;
            };
            let end = self.searched + found;
            let dropped = std::mem::take(&mut self.dropping);
            let line = if end > self.limit {
                self.head()
            } else {
                Line {
                    offset: self.offset,
                    number: self.number,
                    bytes: self.block.slice(..end),
                }
            };
            self.skip(end + 1);
            self.number += 1;
            if !dropped && line.offset >= self.from {
                return Some(line);
            }
        }
    }

    /// The last line, which nothing ends.
    pub(super) fn rest(&mut self) -> Option<Line> {
        let line = Line {
            offset: self.offset,
            number: self.number,
            bytes: self.block.clone(),
        };
        self.skip(self.block.len());
        let wanted = !self.dropping && !line.bytes.is_empty() && line.offset >= self.from;
        wanted.then_some(line)
    }

    /// Reads on after [`Lines::next`] found no more; how many bytes there were, 0 at the end.
    ///
    /// What was read before an error counts.
    pub(super) fn fill(&mut self, reader: &mut impl Read) -> io::Result<usize> {
        let kept = self.block.len();
        let mut block = Vec::with_capacity(kept + BLOCK);
        block.extend_from_slice(&self.block);
        let read = reader.take(BLOCK as u64).read_to_end(&mut block);
        // A followed file grows by a few lines: their records must not hold a whole block each.
        if block.len() < block.capacity() / 2 {
            block.shrink_to_fit();
        }
        self.block = block.into();
        read.map(|_| self.block.len() - kept)
    }

    fn head(&self) -> Line {
        // A copy: a slice would hold all of the line.
        let bytes = Bytes::copy_from_slice(&self.block[..self.limit.min(HEAD)]);
        Line {
            offset: self.offset,
            number: self.number,
            bytes,
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.block = self.block.slice(bytes..);
        self.offset += bytes as u64;
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Gives what it has in pieces of the sizes asked for.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.1).min(self.0.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn all(text: &[u8], limit: usize, from: u64, piece: usize) -> Vec<(u64, u64, Vec<u8>)> {
        let (mut lines, mut found) = (Lines::new(limit, from), Vec::new());
        // Fills are cut short too, so that lines span them.
        for piece in text.chunks(piece) {
            lines.fill(&mut Pieces(piece, 3)).unwrap();
            while let Some(line) = lines.next() {
                found.push((line.offset, line.number, line.bytes.to_vec()));
            }
        }
        found.extend(
            lines
                .rest()
                .map(|line| (line.offset, line.number, line.bytes.to_vec())),
        );
        found
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_plain_split(text in "[ab\n]{0,60}", limit in 1usize..8, from in 0u64..70, piece in 1usize..20) {
            let (mut expected, mut offset) = (Vec::new(), 0);
            for (line, number) in text.split_inclusive('\n').zip(1..) {
                let bytes = line.trim_end_matches('\n').as_bytes();
                // The last line is not judged before its end is known.
                let ended = line.ends_with('\n') || bytes.len() > limit;
                let kept = if ended { bytes.len().min(limit) } else { bytes.len() };
                if offset >= from {
                    expected.push((offset, number, bytes[..kept].to_vec()));
                }
                offset += line.len() as u64;
            }
            prop_assert_eq!(all(text.as_bytes(), limit, from, piece), expected);
        }
    }

    #[test]
    fn a_short_read_does_not_hold_a_whole_block() {
        let mut lines = Lines::new(100, 0);
        lines.fill(&mut &b"one\ntwo\n"[..]).unwrap();
        let line = lines.next().unwrap();
        assert_eq!(line.bytes, "one");
        drop(lines);
        assert!(line.bytes.try_into_mut().unwrap().capacity() < 100);
    }
}
