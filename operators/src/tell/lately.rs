//! Lately: the words and DIDs of the last events, so that most need no lock and no second name.
//!
//! Both are tables with one slot for each hash: a newcomer takes the place of whoever was there.

use crate::facts::{DatasetName, DidKey, DidName, RseName, ScopeName};
use std::fmt;
use ustr::Ustr;

/// Words read lately. A word that is not here costs a lock that all workers share.
#[derive(Debug, Clone)]
pub struct WordsLately {
    slots: Box<[Option<Ustr>]>,
}

const WORDS: usize = 2048;

impl Default for WordsLately {
    fn default() -> Self {
        Self {
            slots: vec![None; WORDS].into(),
        }
    }
}

impl WordsLately {
    /// The RSE called `text`.
    pub fn rse(&mut self, text: &str) -> RseName {
        RseName(self.word(text))
    }

    /// The scope called `text`.
    pub fn scope(&mut self, text: &str) -> ScopeName {
        ScopeName(self.word(text))
    }

    /// The Rucio dataset `scope:name`.
    pub fn dataset(&mut self, scope: &str, name: &str) -> DatasetName {
        DatasetName {
            scope: self.scope(scope),
            name: self.word(name),
        }
    }

    fn word(&mut self, text: &str) -> Ustr {
        let Some(slot) = self.slots.get_mut(slot_of(text)) else {
            return Ustr::from(text);
        };
        match slot {
            Some(word) if word.as_str() == text => *word,
            _ => *slot.insert(Ustr::from(text)),
        }
    }
}

/// From the length and both ends, in which names of one kind differ.
fn slot_of(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 0),
    };
    let mixed = (first ^ last.rotate_left(29) ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % WORDS
}

/// DIDs whose names were sent lately.
#[derive(Clone)]
pub struct NamedLately {
    slots: Box<[DidKey]>,
}

const DIDS: usize = 1 << 16;

impl Default for NamedLately {
    fn default() -> Self {
        Self {
            // No DID that anyone will ever see has this key.
            slots: vec![DidKey { high: 0, low: 0 }; DIDS].into(),
        }
    }
}

impl NamedLately {
    /// Appends the name of `did` to `names`, unless it was sent lately.
    pub fn name(&mut self, did: DidKey, scope: ScopeName, name: &str, names: &mut Vec<DidName>) {
        let Some(slot) = self.slots.get_mut(did.high as usize % DIDS) else {
            return;
        };
        if *slot != did {
            *slot = did;
            names.push(DidName {
                did,
                scope,
                name: name.into(),
            });
        }
    }
}

impl fmt::Debug for NamedLately {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedLately").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_itself_whoever_had_its_place() {
        let mut words = WordsLately::default();
        for round in 0..2 {
            for n in 0..3 * WORDS {
                let text = format!("RSE_{n}");
                assert_eq!(words.rse(&text).as_str(), text, "{round}");
            }
            for text in ["", "a", "ab", "1234567", "12345678", "é"] {
                assert_eq!(words.scope(text), ScopeName::new(text));
            }
        }
    }

    #[test]
    fn a_did_is_named_again_only_when_another_took_its_place() {
        let (mut named, scope, mut names) = (NamedLately::default(), ScopeName::new("raw"), Vec::new());
        let key = |low| DidKey { high: 7, low };
        named.name(key(1), scope, "a", &mut names);
        named.name(key(1), scope, "a", &mut names);
        assert_eq!(names.len(), 1);
        named.name(key(2), scope, "b", &mut names);
        named.name(key(1), scope, "a", &mut names);
        let sent: Vec<&str> = names.iter().map(|name| &*name.name).collect();
        assert_eq!(sent, ["a", "b", "a"]);
    }
}
