//! Names: text that is appended, in chunks that snapshots share.

use super::row::NONE;
use std::sync::Arc;

/// Bytes of a chunk, as a power of two; a longer name has a chunk of its own.
const CHUNK: u32 = 14;

/// An arena of names. What is no longer needed stays until [`Names::garbage`] is worth a new arena.
#[derive(Default, Clone)]
pub(super) struct Names {
    chunks: Vec<Arc<Vec<u8>>>,
    bytes: usize,
    garbage: usize,
}

impl Names {
    /// Appends a name, and says where it is.
    pub(super) fn add(&mut self, name: &str) -> u32 {
        let mut length = [0u8; 5];
        let prefix = prefix(name.len(), &mut length);
        let size = prefix.len() + name.len();
        let room = self
            .chunks
            .last()
            .is_some_and(|chunk| chunk.len() + size <= 1 << CHUNK);
        if !room {
            if self.chunks.len() >= (NONE >> CHUNK) as usize {
                return NONE;
            }
            self.chunks
                .push(Arc::new(Vec::with_capacity(size.max(1 << CHUNK))));
        }
        let place = (self.chunks.len() as u32).saturating_sub(1) << CHUNK;
        let Some(last) = self.chunks.last_mut() else {
            return NONE;
        };
        if Arc::get_mut(last).is_none() {
            // A clone has no room beyond its length: growing it by halves would be copying twice.
            let mut copy = Vec::with_capacity(1 << CHUNK);
            copy.extend_from_slice(last);
            *last = Arc::new(copy);
        }
        let Some(chunk) = Arc::get_mut(last) else {
            return NONE;
        };
        let offset = chunk.len() as u32;
        chunk.extend_from_slice(prefix);
        chunk.extend_from_slice(name.as_bytes());
        self.bytes += size;
        place + offset
    }

    /// The name at `place`; `None` where there is none.
    pub(super) fn get(&self, place: u32) -> Option<&str> {
        let chunk = self.chunks.get((place >> CHUNK) as usize)?;
        let mut rest = chunk.get((place & ((1 << CHUNK) - 1)) as usize..)?;
        let mut length = 0usize;
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        std::str::from_utf8(rest.get(..length)?).ok()
    }

    /// The name at `place` is no longer needed.
    pub(super) fn forget(&mut self, place: u32) {
        self.garbage += self.get(place).map_or(0, |name| name.len() + 1);
    }

    /// True when more than half, and more than one chunk, is no longer needed.
    pub(super) fn is_worth_compacting(&self) -> bool {
        self.garbage > 1 << CHUNK && self.garbage * 2 > self.bytes
    }
}

/// The length in groups of seven bits, the lowest first.
fn prefix(mut length: usize, into: &mut [u8; 5]) -> &[u8] {
    let mut used = 0;
    for byte in into.iter_mut() {
        used += 1;
        *byte = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            break;
        }
        *byte |= 0x80;
    }
    &into[..used]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_found_again_also_in_an_older_copy() {
        let mut names = Names::default();
        let texts: Vec<String> = (0..3000usize)
            .map(|n| format!("{n}/").repeat(n % 41))
            .chain([
                String::new(),
                "x".repeat(127),
                "y".repeat(128),
                "z".repeat(100_000),
            ])
            .collect();
        let mut copies = Vec::new();
        let mut places = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            places.push(names.add(text));
            if n % 500 == 0 {
                copies.push((n, names.clone()));
            }
        }
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(names.get(*place), Some(text.as_str()));
        }
        for (n, copy) in copies {
            assert_eq!(copy.get(places[n]), Some(texts[n].as_str()));
            let later = texts[n + 1].as_str();
            assert!(later.is_empty() || copy.get(places[n + 1]) != Some(later));
        }
    }
}
