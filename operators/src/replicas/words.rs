//! Words: the RSEs and scopes that a worker has met, by numbers of 32 bits.

use crate::facts::{RseName, ScopeName};
use hashbrown::HashTable;
use std::sync::Arc;
use ustr::Ustr;

/// Words by number.
#[derive(Default)]
pub(super) struct Numbered {
    numbers: HashTable<u32>,
    words: Arc<Vec<Ustr>>,
}

impl Numbered {
    /// The number of `word`, a new one where it has none yet.
    pub(super) fn number(&mut self, word: Ustr) -> u32 {
        let hash = word.precomputed_hash();
        let words = &self.words;
        let is_it = |number: &u32| words.get(*number as usize) == Some(&word);
        if let Some(number) = self.numbers.find(hash, is_it) {
            return *number;
        }
        let number = self.words.len() as u32;
        let words = Arc::make_mut(&mut self.words);
        words.push(word);
        self.numbers.insert_unique(hash, number, |number| {
            words.get(*number as usize).map_or(0, Ustr::precomputed_hash)
        });
        number
    }

    /// The words as they are now.
    pub(super) fn share(&self) -> Arc<Vec<Ustr>> {
        Arc::clone(&self.words)
    }

    fn get(&self, number: u32) -> Ustr {
        self.words.get(number as usize).copied().unwrap_or_default()
    }
}

/// The words of one worker.
#[derive(Default)]
pub(super) struct Words {
    /// The RSEs.
    pub(super) rses: Numbered,
    /// The scopes.
    pub(super) scopes: Numbered,
}

impl Words {
    /// The RSE with this number.
    pub(super) fn rse(&self, number: u32) -> RseName {
        RseName(self.rses.get(number))
    }

    /// The scope with this number.
    pub(super) fn scope(&self, number: u32) -> ScopeName {
        ScopeName(self.scopes.get(number))
    }
}
