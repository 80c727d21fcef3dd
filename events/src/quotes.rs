//! Quotes: where the strings of a JSON text end, found 64 bytes at a time.
//!
//! ```text
//!   64 bytes --vector compare--> a bit for each quote --> less those after a backslash --> every second one
//! ```

use wide::{CmpEq, i8x32};

/// Events have some 65 strings; a text with many more is read in another way.
const MOST: usize = 192;

/// Where they are noted: a power of two, with room for those of one more block.
const ROOM: usize = 256;

const BLOCK: usize = 64;

/// The closing quotes of a text, in order.
pub(crate) struct Quotes {
    closing: [u16; ROOM],
    count: usize,
    /// There is a backslash somewhere.
    pub(crate) escapes: bool,
    /// The first byte of the next block comes after a backslash.
    after_backslash: bool,
    /// All ones where the next block begins inside a string.
    inside: u64,
}

impl Quotes {
    pub(crate) fn new() -> Self {
        Self {
            closing: [0; ROOM],
            count: 0,
            escapes: false,
            after_backslash: false,
            inside: 0,
        }
    }

    /// Finds those of `text`, once; `None` if it has control characters, or is too long.
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<()> {
        u16::try_from(text.len() + BLOCK).ok()?;
        let (blocks, rest) = text.as_chunks::<BLOCK>();
        for (number, block) in blocks.iter().enumerate() {
            self.add(block, number * BLOCK)?;
        }
        let mut last = [b' '; BLOCK];
        last.get_mut(..rest.len())?.copy_from_slice(rest);
        self.add(&last, blocks.len() * BLOCK)
    }

    /// Their places.
    pub(crate) fn closing(&self) -> &[u16] {
        self.closing.get(..self.count).unwrap_or_default()
    }

    #[inline(always)]
    fn add(&mut self, block: &[u8; BLOCK], start: usize) -> Option<()> {
        let (mut quotes, odd) = quotes_of(block);
        if odd || self.after_backslash {
            quotes &= !self.escaped(block)?;
        }
        // Of the quotes up to each byte, is the number odd? Then it is in a string.
        let mut inside = quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << shift;
        }
        inside ^= self.inside;
        self.inside = ((inside as i64) >> 63) as u64;
        let mut closing = quotes & !inside;
        while closing != 0 {
            // Four strings end in 64 bytes, more or less: a turn for each would be guessed wrong at every end.
            for _ in 0..4 {
                self.closing[self.count % ROOM] = start as u16 + closing.trailing_zeros() as u16;
                self.count += usize::from(closing != 0);
                closing &= closing.wrapping_sub(1);
            }
        }
        (self.count <= MOST).then_some(())
    }

    /// The bytes that come after a backslash which is not itself after one; `None` if there are control characters.
    #[cold]
    fn escaped(&mut self, block: &[u8; BLOCK]) -> Option<u64> {
        let mut escaped = 0;
        for (at, byte) in block.iter().enumerate() {
            if *byte < b' ' {
                return None;
            }
            escaped |= u64::from(self.after_backslash) << at;
            self.after_backslash = *byte == b'\\' && !self.after_backslash;
        }
        self.escapes = true;
        Some(escaped)
    }
}

/// One bit for each quote; and whether there is a backslash or a control character.
#[inline(always)]
fn quotes_of(block: &[u8; BLOCK]) -> (u64, bool) {
    let mut quotes = 0;
    let mut odd = i8x32::splat(0);
    let (halves, _) = block.as_chunks::<32>();
    for (half, shift) in halves.iter().zip([0, 32]) {
        let bytes = i8x32::from(half.map(|byte| byte as i8));
        let found = bytes.cmp_eq(i8x32::splat(b'"' as i8));
        quotes |= u64::from(found.move_mask() as u32) << shift;
        let control = (bytes & i8x32::splat(!0x1f)).cmp_eq(i8x32::splat(0));
        odd = odd | control | bytes.cmp_eq(i8x32::splat(b'\\' as i8));
    }
    (quotes, odd.move_mask() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One byte after the other.
    fn plainly(text: &[u8]) -> Option<(Vec<u16>, bool)> {
        let (mut places, mut escaped, mut escapes, mut inside) = (Vec::new(), false, false, false);
        for (at, byte) in text.iter().enumerate() {
            if *byte < b' ' {
                return None;
            }
            if escaped {
                escaped = false;
                continue;
            }
            match byte {
                b'"' => {
                    if inside {
                        places.push(at as u16);
                    }
                    inside = !inside;
                }
                b'\\' => (escaped, escapes) = (true, true),
                _ => {}
            }
        }
        (places.len() <= MOST).then_some((places, escapes))
    }

    fn found(text: &[u8]) -> Option<(Vec<u16>, bool)> {
        let mut quotes = Quotes::new();
        quotes.find(text)?;
        Some((quotes.closing().to_vec(), quotes.escapes))
    }

    #[test]
    fn what_is_too_much_is_refused() {
        for count in [MOST - 1, MOST] {
            assert_eq!(
                found(&vec![b'"'; 2 * count]).map(|(places, _)| places.len()),
                Some(count)
            );
        }
        for count in [MOST + 1, ROOM, ROOM + 1, 10_000] {
            assert_eq!(found(&vec![b'"'; 2 * count]), None);
        }
        assert!(found(&vec![b'x'; 60_000]).is_some());
        assert_eq!(found(&vec![b'x'; 70_000]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn vectors_find_what_a_loop_finds(
            text in prop::collection::vec(prop::sample::select(&[b'"', b'\\', b'x', b' ', 0xc3, 0xff, b'\\', b'"', b'z', b'0'][..]), 0..300),
            control in prop::option::weighted(0.1, (any::<prop::sample::Index>(), 0u8..0x20)),
        ) {
            let mut text = text;
            if let (Some((at, control)), false) = (control, text.is_empty()) {
                let at = at.index(text.len());
                text[at] = control;
            }
            prop_assert_eq!(found(&text), plainly(&text));
        }

        #[test]
        fn so_they_do_where_backslashes_are_rare(text in "([a-z0-9 ]{0,40}\"|\\\\){0,40}") {
            prop_assert_eq!(found(text.as_bytes()), plainly(text.as_bytes()));
        }
    }
}
