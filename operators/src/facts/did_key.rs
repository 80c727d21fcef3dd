//! The 128 bits that stand for a DID.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// xxh3-128 of the scope, a zero byte and the name: the same on every worker, in every run and checkpoint.
///
/// The chance that any two of a billion DIDs collide is about 1.5e-21. Two words, so that rows of it
/// need no padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DidKey {
    /// The upper 64 bits.
    pub high: u64,
    /// The lower 64 bits.
    pub low: u64,
}

impl DidKey {
    /// The key of `scope:name`.
    pub fn new(scope: &str, name: &str) -> Self {
        let mut buffer = [0u8; 256];
        let length = scope.len() + 1 + name.len();
        let hash = match buffer.get_mut(..length) {
            Some(bytes) => {
                bytes[..scope.len()].copy_from_slice(scope.as_bytes());
                bytes[scope.len() + 1..].copy_from_slice(name.as_bytes());
                xxh3_128(bytes)
            }
            None => {
                let mut hasher = Xxh3::new();
                hasher.update(scope.as_bytes());
                hasher.update(&[0]);
                hasher.update(name.as_bytes());
                hasher.digest128()
            }
        };
        Self {
            high: (hash >> 64) as u64,
            low: hash as u64,
        }
    }

    /// What decides on which worker, and in which sub-table, the DID is kept.
    pub fn place(self) -> u64 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_does_not_depend_on_the_length_of_the_name() {
        let long = "x".repeat(700);
        let mut bytes = b"raw\0".to_vec();
        bytes.extend_from_slice(long.as_bytes());
        let whole = xxh3_128(&bytes);
        let key = DidKey::new("raw", &long);
        assert_eq!((u128::from(key.high) << 64) | u128::from(key.low), whole);
        assert_ne!(DidKey::new("raw", "a"), DidKey::new("ra", "wa"));
    }
}
