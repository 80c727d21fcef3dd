//! Lines: cut out of a block, each with its place.

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'b> {
    /// The position of its first byte in the file's uncompressed text; in a Parquet file the number of
    /// rows before it.
    pub offset: u64,
    /// Its number, from 1, where it is known.
    pub number: Option<u64>,
    /// Its bytes; never only white space.
    pub bytes: &'b [u8],
}

/// The lines of a block.
#[derive(Debug, Clone)]
pub struct Lines<'b> {
    text: &'b [u8],
    offset: u64,
    number: Option<u64>,
    rows: bool,
}

impl<'b> Lines<'b> {
    pub(super) fn new(text: &'b [u8], offset: u64, number: Option<u64>, rows: bool) -> Self {
        Self {
            text,
            offset,
            number,
            rows,
        }
    }
}

impl<'b> Iterator for Lines<'b> {
    type Item = Line<'b>;

    fn next(&mut self) -> Option<Line<'b>> {
        while !self.text.is_empty() {
            let (bytes, taken) = match memchr::memchr(b'\n', self.text) {
                Some(end) => (&self.text[..end], end + 1),
                None => (self.text, self.text.len()),
            };
            let line = Line {
                offset: self.offset,
                number: self.number,
                bytes,
            };
            self.text = &self.text[taken..];
            self.offset += if self.rows { 1 } else { taken as u64 };
            self.number = self.number.map(|number| number + 1);
            if !line.bytes.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
        None
    }
}
