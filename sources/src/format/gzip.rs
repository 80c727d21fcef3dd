//! Gzip: several members as one text, and what may stand behind the last one, as `gzip -d` has it.
//!
//! ```text
//!   member, member, ... zeros      zeros are padding
//!                       other      a warning: the text is whole
//! ```

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// The text of all members.
pub(crate) struct Members<R> {
    /// The member being read; between two of them, none.
    member: Option<GzDecoder<R>>,
    /// What is behind the last member.
    rest: Option<R>,
    behind: bool,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            member: Some(GzDecoder::new(reader)),
            rest: None,
            behind: false,
        }
    }

    /// True once something that is no gzip and no zeros was found behind the last member.
    pub(super) fn has_more_behind(&self) -> bool {
        self.behind
    }

    pub(super) fn get_ref(&self) -> Option<&R> {
        self.member
            .as_ref()
            .map(GzDecoder::get_ref)
            .or(self.rest.as_ref())
    }

    /// Goes on to the next member, if there is one.
    fn go_on(&mut self, mut reader: R) -> io::Result<()> {
        let ended = loop {
            let buffer = match reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.rest = Some(reader);
                    return Err(error);
                }
            };
            match buffer.first() {
                None => break true,
                Some(0) => {
                    let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
                    reader.consume(zeros);
                }
                // The second byte may be in the next buffer: the member's own reader looks at it.
                Some(0x1f) if buffer.get(1).is_none_or(|second| *second == 0x8b) => break false,
                Some(_) => {
                    self.behind = true;
                    break true;
                }
            }
        };
        if ended {
            self.rest = Some(reader);
        } else {
            self.member = Some(GzDecoder::new(reader));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(member) = self.member.take() {
                self.go_on(member.into_inner())?;
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::{BufReader, Write};

    fn member(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// The text, whether something is behind it, and how it ended.
    fn read(bytes: &[u8], capacity: usize) -> (String, bool, Option<io::ErrorKind>) {
        let mut members = Members::new(BufReader::with_capacity(capacity, bytes));
        let mut text = Vec::new();
        let ended = members.read_to_end(&mut text).err().map(|error| error.kind());
        (String::from_utf8(text).unwrap(), members.has_more_behind(), ended)
    }

    #[test]
    fn members_are_one_text_and_what_is_behind_them_is_ignored_or_told() {
        let (one, two) = (member("one\n"), member("two\n"));
        for capacity in [1, 7, 4096] {
            for (parts, text, behind) in [
                (vec![&one[..], &two], "one\ntwo\n", false),
                (vec![&one, &[0; 1000]], "one\n", false),
                (vec![&one, &[0; 3], &two, &[0; 512]], "one\ntwo\n", false),
                (vec![&one, b"garbage"], "one\n", true),
                (vec![&one, &[0; 8], b"garbage"], "one\n", true),
            ] {
                let bytes = parts.concat();
                assert_eq!(read(&bytes, capacity), (text.into(), behind, None), "{capacity}");
            }
            let cut = [&one[..], &two[..two.len() - 5]].concat();
            let (text, _, ended) = read(&cut, capacity);
            assert_eq!(
                (&*text, ended),
                ("one\ntwo\n", Some(io::ErrorKind::UnexpectedEof))
            );
        }
    }
}
