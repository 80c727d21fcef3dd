//! Spoilt input: a seed with a few changes, or none.

use crate::dice::Dice;

/// Numbers at which something changes.
const EDGES: [u32; 12] = [
    0,
    1,
    2,
    3,
    4,
    8,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

/// One of `seeds`, spoilt.
pub(crate) fn spoilt(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.one_of(seeds).cloned().unwrap_or_default();
    for _ in 0..dice.below(5) {
        change(&mut bytes, seeds, dice);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let length = bytes.len() as u64;
    let at = dice.below(length.max(1)) as usize;
    let run = (dice.below(8) + 1) as usize;
    match dice.below(9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = dice.below(256) as u8;
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at.min(bytes.len())..(at + run).min(bytes.len()))),
        4 => {
            let more: Vec<u8> = (0..run).map(|_| dice.below(256) as u8).collect();
            let at = at.min(bytes.len());
            bytes.splice(at..at, more);
        }
        // A number of the wire: at an edge, in four bytes or in two.
        5 | 6 => {
            let edge = dice.one_of(&EDGES).copied().unwrap_or_default().to_be_bytes();
            let edge = &edge[2 * dice.below(2) as usize..];
            if let Some(place) = bytes.get_mut(at..at + edge.len()) {
                place.copy_from_slice(edge);
            }
        }
        // A part twice, or a part of another.
        7 => {
            let again: Vec<u8> = bytes.iter().skip(at).take(run * 4).copied().collect();
            bytes.splice(at.min(bytes.len())..at.min(bytes.len()), again);
        }
        _ => {
            if let Some(other) = dice.one_of(seeds) {
                let from = dice.below(other.len().max(1) as u64) as usize;
                bytes.truncate(at);
                bytes.extend(other.iter().skip(from));
            }
        }
    }
}
