//! Text: one segment of a file as blocks of whole lines.
//!
//! ```text
//!   file     | a line | another li:ne | a third |     a line belongs to the segment in which it begins
//!   segments |  first segment      :  second    |
//! ```
//!
//! In:    the text from the byte before the segment on.
//! Out:   every line that begins in the segment, the last one to its end, wherever that is.
//! State: the beginning of a line whose end is not read yet.

use super::{
    Start,
    counted::{Counted, Pieces},
};
use crate::format::{self, Format, Headed, Unpacked, not_lines};
use std::{
    io,
    ops::Range,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

/// The most that is kept of a line that is too long, in bytes.
const HEAD: usize = 1024 * 1024;

/// Bytes read at once beyond the end of a segment, to find the end of its last line.
const BEYOND: u64 = 64 * 1024;

/// How much is read at once, and how long a line may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) block: u64,
    pub(super) line: usize,
}

#[derive(Debug)]
pub(super) struct Text<R> {
    reader: R,
    carry: Vec<u8>,
    /// The position of the first byte of `carry`.
    offset: u64,
    /// The number of the line there.
    line: Option<u64>,
    /// Lines that begin here or later belong to the next segment.
    end: u64,
    /// In the middle of a line that is not ours, or was too long.
    dropping: bool,
    ended: bool,
    fault: Option<io::Error>,
    limits: Limits,
}

impl Text<Unpacked<Counted>> {
    /// The lines that begin in `span` of the plain file at `path`.
    pub(super) fn segment(
        path: &Path,
        count: Arc<AtomicU64>,
        span: Range<u64>,
        limits: Limits,
    ) -> io::Result<Self> {
        // From the byte before: if that ends a line, the first line of the segment is ours.
        let from = span.start.saturating_sub(1);
        let file = Counted::new(Headed::from(path, from)?, count);
        Ok(Self::of(Unpacked::new(Format::Plain, file)?, from, span, limits))
    }

    /// All lines of a compressed file, or of a pipe.
    pub(super) fn whole(reader: Unpacked<Counted>, limits: Limits) -> Self {
        Self::of(reader, 0, 0..u64::MAX, limits)
    }

    /// What is odd about the file, once its end is read.
    pub(super) fn oddity(&self) -> Option<&'static str> {
        self.reader.oddity()
    }
}

impl<R: Pieces> Text<R> {
    fn of(reader: R, from: u64, span: Range<u64>, limits: Limits) -> Self {
        Self {
            reader,
            carry: Vec::new(),
            offset: from,
            line: (span.start == 0).then_some(1),
            end: span.end,
            dropping: span.start > 0,
            ended: span.is_empty(),
            fault: None,
            limits,
        }
    }

    /// Puts the next whole lines into `buffer`, which is empty, and tells where they begin.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Start>> {
        buffer.append(&mut self.carry);
        let mut searched = buffer.len();
        while !self.ended {
            let begins = self.offset == 0 && buffer.is_empty();
            let at_end = self.read(buffer);
            if begins && let Some(why) = not_lines(&buffer[..buffer.len().min(format::HEAD)]) {
                buffer.clear();
                self.ended = true;
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            if self.dropping {
                searched = 0;
                if !self.drop_line(buffer) {
                    self.ended |= at_end;
                    continue;
                }
            }
            if let Some(cut) = self.cut(buffer, searched, at_end) {
                self.carry.extend_from_slice(&buffer[cut.kept..]);
                buffer.truncate(cut.whole);
                let start = Start {
                    offset: self.offset,
                    line: self.line,
                };
                self.offset += cut.kept as u64;
                if let Some(line) = &mut self.line {
                    *line += memchr::memchr_iter(b'\n', buffer).count() as u64;
                }
                if !buffer.is_empty() {
                    return Ok(Some(start));
                }
            }
            searched = buffer.len();
        }
        buffer.clear();
        match self.fault.take() {
            Some(error) => Err(self.tell(&error)),
            None => Ok(None),
        }
    }

    /// Reads on; true if there is no more, for whatever reason.
    fn read(&mut self, buffer: &mut Vec<u8>) -> bool {
        let position = self.offset + buffer.len() as u64;
        let wanted = match self.end.saturating_sub(position) {
            0 => BEYOND,
            left => left.min(self.limits.block),
        };
        buffer.reserve(wanted as usize);
        match self.reader.append(wanted, buffer) {
            Ok(read) if (read as u64) < wanted => {
                if self.end != u64::MAX && position + (read as u64) < self.end {
                    let shorter = "the file is shorter than it was";
                    self.fault = Some(io::Error::new(io::ErrorKind::UnexpectedEof, shorter));
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                self.fault = Some(error);
                true
            }
        }
    }

    /// Takes the rest of a line that is not wanted off `buffer`; true if a line of ours begins after it.
    fn drop_line(&mut self, buffer: &mut Vec<u8>) -> bool {
        let found = memchr::memchr(b'\n', buffer);
        let dropped = found.map_or(buffer.len(), |end| end + 1);
        buffer.drain(..dropped);
        self.offset += dropped as u64;
        self.ended |= self.offset >= self.end;
        if found.is_some() {
            self.dropping = false;
            self.line = self.line.map(|line| line + 1);
        }
        !self.dropping && !self.ended
    }

    /// Where the whole lines in `buffer` end; `None` if more must be read to know.
    fn cut(&mut self, buffer: &[u8], searched: usize, at_end: bool) -> Option<Cut> {
        let length = buffer.len();
        let last_line = || memchr::memrchr(b'\n', buffer).map_or(0, |end| end + 1);
        if self.offset + length as u64 >= self.end {
            // The last line of the segment is the one that holds its last byte.
            let from = searched.max((self.end - 1 - self.offset) as usize);
            if let Some(end) = memchr::memchr(b'\n', &buffer[from..]) {
                self.ended = true;
                return Some(Cut::all(from + end + 1, length));
            }
        } else if let Some(end) = memchr::memrchr(b'\n', &buffer[searched..])
            && !at_end
        {
            return Some(Cut::at(searched + end + 1));
        }
        if at_end {
            self.ended = true;
            // Of a damaged file the last line may not be all there.
            let whole = if self.fault.is_some() { last_line() } else { length };
            return Some(Cut::all(whole, length));
        }
        let begun = last_line();
        if length - begun > self.limits.line {
            self.dropping = true;
            self.ended = self.offset + length as u64 >= self.end;
            return Some(Cut::all(begun + self.limits.line.min(HEAD), length));
        }
        None
    }

    fn tell(&self, error: &io::Error) -> io::Error {
        let line = self.line.map(|line| format!(", line {line}")).unwrap_or_default();
        io::Error::new(
            error.kind(),
            format!("at byte {} of its text{line}: {error}", self.offset),
        )
    }
}

/// What becomes of the buffer.
struct Cut {
    /// So much of it is whole lines.
    whole: usize,
    /// From here on it is kept for the next block.
    kept: usize,
}

impl Cut {
    fn at(end: usize) -> Self {
        Self {
            whole: end,
            kept: end,
        }
    }

    /// Nothing is kept.
    fn all(whole: usize, length: usize) -> Self {
        Self { whole, kept: length }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::Lines, *};
    use proptest::prelude::*;

    struct Memory<'a>(&'a [u8]);

    impl Pieces for Memory<'_> {
        fn append(&mut self, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
            let read = self.0.len().min(limit as usize);
            buffer.extend_from_slice(&self.0[..read]);
            self.0 = &self.0[read..];
            Ok(read)
        }
    }

    type Found = (u64, Option<u64>, Vec<u8>);

    /// The lines that the segment `span` of `text` gives.
    fn lines_of(text: &[u8], span: Range<u64>, limits: Limits) -> Vec<Found> {
        let from = span.start.saturating_sub(1);
        let mut reader = Text::of(Memory(&text[from as usize..]), from, span, limits);
        let (mut found, mut buffer) = (Vec::new(), Vec::new());
        while let Some(start) = reader.fill(&mut buffer).unwrap() {
            let lines = Lines::new(&buffer, start.offset, start.line, false);
            found.extend(lines.map(|line| (line.offset, line.number, line.bytes.to_vec())));
            buffer.clear();
        }
        found
    }

    fn segments(length: u64, segment: u64) -> impl Iterator<Item = Range<u64>> {
        (0..length.div_ceil(segment))
            .map(move |cut| cut * segment..length.min((cut + 1).saturating_mul(segment)))
    }

    proptest! {
        #[test]
        fn segments_of_any_size_give_each_line_once(text in "[ab\n]{0,80}", segment in 1u64..90, block in 1u64..20) {
            let limits = Limits { block, line: 1000 };
            let (mut expected, mut offset) = (Vec::new(), 0);
            for (line, number) in text.split_inclusive('\n').zip(1..) {
                let bytes = line.trim_end_matches('\n').as_bytes().to_vec();
                if !bytes.is_empty() {
                    expected.push((offset, Some(number), bytes));
                }
                offset += line.len() as u64;
            }
            let whole = lines_of(text.as_bytes(), 0..u64::MAX, limits);
            prop_assert_eq!(&whole, &expected);
            let mut found = Vec::new();
            for span in segments(offset, segment) {
                let lines = lines_of(text.as_bytes(), span.clone(), limits);
                prop_assert!(lines.iter().all(|(at, ..)| span.contains(at)));
                found.extend(lines);
            }
            // Numbers are known in the first segment only.
            for ((_, number, _), (at, expected, _)) in found.iter_mut().zip(&expected) {
                prop_assert_eq!(*number, expected.filter(|_| *at < segment));
                *number = *expected;
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn of_a_line_that_is_too_long_the_first_bytes_count_and_the_next_one_whole(
            long in 100usize..300, before in "[ab\n]{0,20}", block in 1u64..30, segment in 1u64..400
        ) {
            let limits = Limits { block, line: 40 };
            let text = format!("{before}\n{}\nlast", "x".repeat(long));
            let text = text.as_bytes();
            for segment in [u64::MAX, segment] {
                let spans = segments(text.len() as u64, segment);
                let found: Vec<Found> = spans.flat_map(|span| lines_of(text, span, limits)).collect();
                let heads: Vec<_> = found.iter().filter(|(_, _, bytes)| bytes.contains(&b'x')).collect();
                prop_assert_eq!(heads.len(), 1);
                prop_assert_eq!(heads[0].0, before.len() as u64 + 1);
                // All of it where one read brought its end.
                prop_assert!((40..=long).contains(&heads[0].2.len()));
                prop_assert_eq!(&found.last().unwrap().2, b"last");
                prop_assert_eq!(found.last().unwrap().0 as usize, text.len() - 4);
                let others = before.split('\n').filter(|line| !line.is_empty()).count();
                prop_assert_eq!(found.len(), others + 2);
            }
        }
    }

    #[test]
    fn a_file_that_has_become_shorter_is_read_as_far_as_it_goes() {
        let limits = Limits { block: 4, line: 40 };
        let mut reader = Text::of(Memory(b"one\ntwo\nthr"), 0, 0..100, limits);
        let (mut text, mut buffer) = (Vec::new(), Vec::new());
        let error = loop {
            match reader.fill(&mut buffer) {
                Ok(filled) => assert!(filled.is_some()),
                Err(error) => break error,
            }
            text.append(&mut buffer);
        };
        assert_eq!(text, b"one\ntwo\n");
        let message = "at byte 11 of its text, line 3: the file is shorter than it was";
        assert_eq!(error.to_string(), message);
        assert_eq!(reader.fill(&mut buffer).unwrap(), None);
    }
}
