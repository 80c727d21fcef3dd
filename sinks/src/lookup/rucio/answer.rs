//! Lines of an answer, whose parts come as the network likes.

/// Longest line that is read: one DID, with all its metadata or replicas.
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;

/// Puts the parts together and gives out lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// True inside a line that is too long, of which nothing is kept.
    skips: bool,
}

impl Lines {
    /// Gives `each` the lines that end in `part`; of one that is too long only its start.
    pub(super) fn push(&mut self, part: &[u8], each: &mut dyn FnMut(&[u8])) {
        let mut pieces = part.split(|&byte| byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let ends = pieces.peek().is_some();
            if !self.skips {
                match (ends, self.rest.is_empty()) {
                    (true, true) => give(piece, each),
                    (true, false) => {
                        self.rest.extend_from_slice(piece);
                        give(&self.rest, each);
                    }
                    (false, _) => self.rest.extend_from_slice(piece),
                }
                if !ends && self.rest.len() > MAX_LINE_BYTES {
                    give(&self.rest[..200], each);
                    self.skips = true;
                    self.rest.clear();
                }
            }
            if ends {
                self.rest.clear();
                self.skips = false;
            }
        }
    }

    /// The last line, which need not end.
    pub(super) fn finish(self, each: &mut dyn FnMut(&[u8])) {
        give(&self.rest, each);
    }
}

fn give(line: &[u8], each: &mut dyn FnMut(&[u8])) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        each(line);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut each = |line: &[u8]| found.push(String::from_utf8_lossy(line).into_owned());
        let mut lines = Lines::default();
        for part in parts {
            lines.push(part, &mut each);
        }
        lines.finish(&mut each);
        found
    }

    #[test]
    fn however_it_is_cut_the_lines_are_the_same() {
        let text = b"{\"a\": 1}\n\n{\"b\": \"x y\"}\r\n{\"c\": 3}";
        let whole = lines(&[text]);
        assert_eq!(whole, ["{\"a\": 1}", "{\"b\": \"x y\"}", "{\"c\": 3}"]);
        for size in 1..text.len() {
            let parts: Vec<_> = text.chunks(size).collect();
            assert_eq!(lines(&parts), whole, "in parts of {size}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_it_may() {
        let part = vec![b'x'; 1 << 20];
        let mut parts: Vec<&[u8]> = vec![&part; 40];
        parts.push(b"\nnext\n");
        let found = lines(&parts);
        assert_eq!((found.len(), found[0].len(), found[1].as_str()), (2, 200, "next"));
    }
}
