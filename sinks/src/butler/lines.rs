//! Lines of a program that is not believed to end them.

use std::io::{self, BufRead};

/// A line, with its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// Its begin, for it has more bytes than it may; what follows is read as the next line.
    Cut(Vec<u8>),
}

/// The next line of at most `most` bytes; `None` at the end.
pub(super) fn read_line(from: &mut impl BufRead, most: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    loop {
        let there = match from.fill_buf() {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if there.is_empty() {
            return Ok((!line.is_empty()).then_some(Line::Whole(line)));
        }
        let end = memchr::memchr(b'\n', there).map_or(there.len(), |end| end + 1);
        let take = end.min(most - line.len());
        line.extend_from_slice(&there[..take]);
        from.consume(take);
        if line.last() == Some(&b'\n') {
            return Ok(Some(Line::Whole(line)));
        }
        if line.len() >= most {
            return Ok(Some(Line::Cut(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufReader, Read};

    #[test]
    fn a_line_without_end_is_cut_and_all_bytes_come() {
        let mut from = BufReader::with_capacity(3, &b"ab\ncdefgh\nij"[..]);
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut from, 5).unwrap() {
            lines.push(line);
        }
        let whole = |text: &[u8]| Line::Whole(text.into());
        assert_eq!(
            lines,
            [
                whole(b"ab\n"),
                Line::Cut(b"cdefg".into()),
                whole(b"h\n"),
                whole(b"ij")
            ]
        );
    }

    #[test]
    fn of_a_gigabyte_in_one_line_no_more_is_kept_than_may() {
        let mut from = BufReader::new(io::repeat(b'x').take(1 << 30));
        let Some(Line::Cut(line)) = read_line(&mut from, 1000).unwrap() else {
            panic!("it is longer");
        };
        assert!(line.len() == 1000 && line.capacity() <= 2000);
    }
}
