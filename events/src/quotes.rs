//! Quotes: where the strings of a JSON text begin and end, found 64 bytes at a time.
//!
//! ```text
//!   64 bytes --vector compare--> one bit a byte: quote, backslash, control --> quotes that no backslash takes away
//! ```

use wide::{CmpEq, i8x32};

/// Events have some 130; a text with more is read in another way.
const MOST: usize = 384;

/// A block, and how many quotes are noted at a time.
const BLOCK: usize = 64;
const STEP: usize = 8;

/// The quotes of a text, in order.
pub(crate) struct Quotes {
    places: [u16; MOST + STEP],
    count: usize,
    /// There is a backslash somewhere.
    pub(crate) escapes: bool,
}

impl Quotes {
    /// Those of `text`; `None` if it has control characters, or is too long.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        u16::try_from(text.len() + BLOCK).ok()?;
        let mut quotes = Self {
            places: [0; MOST + STEP],
            count: 0,
            escapes: false,
        };
        // The first byte of the next block is taken away by the last of this one.
        let mut carried = false;
        let (blocks, rest) = text.as_chunks::<BLOCK>();
        for (number, block) in blocks.iter().enumerate() {
            quotes.add(block, number * BLOCK, &mut carried)?;
        }
        let mut last = [b' '; BLOCK];
        last.get_mut(..rest.len())?.copy_from_slice(rest);
        quotes.add(&last, blocks.len() * BLOCK, &mut carried)?;
        Some(quotes)
    }

    /// Their places.
    pub(crate) fn places(&self) -> &[u16] {
        self.places.get(..self.count).unwrap_or_default()
    }

    #[inline(always)]
    fn add(&mut self, block: &[u8; BLOCK], start: usize, carried: &mut bool) -> Option<()> {
        let [mut quotes, backslashes, controls] = classes(block);
        if controls != 0 {
            return None;
        }
        if backslashes != 0 || *carried {
            self.escapes = true;
            quotes &= !escaped(backslashes, carried);
        }
        let mut left = quotes.count_ones() as usize;
        loop {
            // Whether there are two or eight: a loop of that many turns would be guessed wrong each time.
            let places: &mut [u16; STEP] = self.places.get_mut(self.count..)?.first_chunk_mut()?;
            for place in places {
                *place = start as u16 + quotes.trailing_zeros() as u16;
                quotes &= quotes.wrapping_sub(1);
            }
            if left <= STEP {
                self.count += left;
                return Some(());
            }
            self.count += STEP;
            left -= STEP;
        }
    }
}

/// The bytes that a backslash before them takes away, of which the first may be so by the last block.
fn escaped(mut backslashes: u64, carried: &mut bool) -> u64 {
    let mut escaped = u64::from(*carried);
    backslashes &= !escaped;
    *carried = false;
    while backslashes != 0 {
        let next = backslashes.trailing_zeros() + 1;
        backslashes &= backslashes - 1;
        if next == BLOCK as u32 {
            *carried = true;
        } else {
            escaped |= 1 << next;
            backslashes &= !(1 << next);
        }
    }
    escaped
}

/// One bit for each byte: quotes, backslashes, control characters.
#[inline(always)]
fn classes(block: &[u8; BLOCK]) -> [u64; 3] {
    let mut classes = [0; 3];
    let (halves, _) = block.as_chunks::<32>();
    for (half, shift) in halves.iter().zip([0, 32]) {
        let bytes = i8x32::from(half.map(|byte| byte as i8));
        let high = bytes & i8x32::splat(!0x1f);
        for (class, found) in classes.iter_mut().zip([
            bytes.cmp_eq(i8x32::splat(b'"' as i8)),
            bytes.cmp_eq(i8x32::splat(b'\\' as i8)),
            high.cmp_eq(i8x32::splat(0)),
        ]) {
            *class |= u64::from(found.move_mask() as u32) << shift;
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One byte after the other.
    fn plainly(text: &[u8]) -> Option<(Vec<u16>, bool)> {
        let (mut places, mut escaped, mut escapes) = (Vec::new(), false, false);
        for (at, byte) in text.iter().enumerate() {
            if *byte < b' ' {
                return None;
            }
            if escaped {
                escaped = false;
                continue;
            }
            match byte {
                b'"' => places.push(at as u16),
                b'\\' => (escaped, escapes) = (true, true),
                _ => {}
            }
        }
        (places.len() <= MOST).then_some((places, escapes))
    }

    fn found(text: &[u8]) -> Option<(Vec<u16>, bool)> {
        Quotes::of(text).map(|quotes| (quotes.places().to_vec(), quotes.escapes))
    }

    #[test]
    fn what_is_too_much_is_refused() {
        for count in [MOST - 1, MOST] {
            assert_eq!(
                found(&vec![b'"'; count]).map(|(places, _)| places.len()),
                Some(count)
            );
        }
        for count in [MOST + STEP + 1, 10_000] {
            assert_eq!(found(&vec![b'"'; count]), None);
        }
        assert!(found(&vec![b'x'; 60_000]).is_some());
        assert_eq!(found(&vec![b'x'; 70_000]), None);
    }

    proptest! {
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
    }
}
