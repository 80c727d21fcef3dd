//! Words that repeat and files' names, each stored once and meant by a number.
//!
//! ```text
//!   "raw", "IN2P3_RAW_DISK", "davs://door/pnfs/raw/" --> words.id      (scope, name) --> dids.id
//! ```
//!
//! State: the words met lately, at most [`REMEMBERED`]; names of files are looked up batch by batch.

use crate::ledger::{
    LedgerError,
    store::{Bulk, BulkKind, Cells, Lookup, Store, Type, Value},
};
use dbb_events::Did;
use std::collections::{BTreeSet, HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

/// Words kept in memory; a few thousand are in use at a site.
const REMEMBERED: usize = 20_000;

/// Longest word, and longest text in an index, in bytes: PostgreSQL indexes at most 2.7 kB.
pub(crate) const LONGEST: usize = 1000;

const WORDS: Lookup = Lookup {
    select: "x.word, x.id",
    table: "words",
    keys: &[("word", Type::Text)],
    and: "",
};
const NEW_WORDS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "words",
    columns: &[("id", Type::Int), ("word", Type::Text)],
    keys: 0,
    tail: "",
};
const DIDS: Lookup = Lookup {
    select: "x.hash, x.scope, x.name, x.id",
    table: "dids",
    keys: &[("hash", Type::Int)],
    and: "",
};
const NEW_DIDS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "dids",
    columns: &[
        ("id", Type::Int),
        ("hash", Type::Int),
        ("scope", Type::Int),
        ("name", Type::Text),
    ],
    keys: 0,
    tail: "",
};

/// The text without what would be too long for an index, and without zero characters.
pub(crate) fn clip(text: &str) -> String {
    cut(text, LONGEST)
}

/// At most `longest` bytes of the text, without the zero characters that PostgreSQL has not.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    let head = |text: &str| {
        let mut end = text.len().min(longest);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    };
    let text = head(text);
    if text.contains('\0') {
        // What takes the place of a zero character is longer than it.
        return head(&text.replace('\0', "\u{fffd}"));
    }
    text
}

/// What a file's name is found by, whatever its scope.
pub(crate) fn name_hash(name: &str) -> i64 {
    xxh3_64(clip(name).as_bytes()) as i64
}

/// The next numbers to give out: read at the start of each transaction, because another process may have
/// taken some since, and written back at its end.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    next: HashMap<String, i64>,
    used: BTreeSet<&'static str>,
}

impl Ids {
    /// What `meta` holds now.
    pub(crate) fn load(&mut self, meta: HashMap<String, i64>) {
        self.next = meta;
        self.used.clear();
    }

    /// The next number of a sequence.
    pub(crate) fn take(&mut self, sequence: &'static str) -> i64 {
        let next = self.peek(sequence);
        self.set(sequence, next + 1);
        next
    }

    /// The number that would be given out next.
    pub(crate) fn peek(&self, sequence: &str) -> i64 {
        self.next.get(sequence).copied().unwrap_or(1)
    }

    /// Says that all numbers below `next` are given out.
    pub(crate) fn set(&mut self, sequence: &'static str, next: i64) {
        if self.next.insert(sequence.to_owned(), next) != Some(next) {
            self.used.insert(sequence);
        }
    }

    /// Writes back what was used.
    pub(crate) fn save(&mut self, store: &mut dyn Store) -> Result<(), LedgerError> {
        for sequence in std::mem::take(&mut self.used) {
            store.execute(
                "UPDATE meta SET value = $1 WHERE key = $2",
                &[Value::Int(self.peek(sequence)), sequence.into()],
            )?;
        }
        Ok(())
    }
}

/// The words met lately.
#[derive(Debug, Default)]
pub(crate) struct Words {
    known: HashMap<String, i64>,
}

impl Words {
    /// The number of a word that [`Words::learn`] or [`Words::find`] was given; NULL for others.
    pub(crate) fn id(&self, word: &str) -> Value {
        let id = if word.len() > LONGEST || word.contains('\0') {
            self.known.get(&clip(word))
        } else {
            self.known.get(word)
        };
        id.copied().map_or(Value::Null, Value::Int)
    }

    /// Looks these words up, if they are not known yet.
    pub(crate) fn find<'a>(
        &mut self,
        store: &mut dyn Store,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<String>, LedgerError> {
        let asked: BTreeSet<&str> = words.collect();
        let mut unknown: BTreeSet<String> = asked
            .into_iter()
            .map(clip)
            .filter(|word| !self.known.contains_key(word))
            .collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let keys = unknown.iter().map(|word| vec![word.as_str().into()]);
        for row in store.lookup(&WORDS, keys.collect())? {
            if let [Value::Text(word), Value::Int(id)] = row.as_slice() {
                unknown.remove(word);
                self.known.insert(word.clone(), *id);
            }
        }
        Ok(unknown.into_iter().collect())
    }

    /// The same, and adds those that the ledger does not have.
    pub(crate) fn learn<'a>(
        &mut self,
        store: &mut dyn Store,
        ids: &mut Ids,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<(), LedgerError> {
        let mut rows: Vec<Cells> = Vec::new();
        for word in self.find(store, words)? {
            let id = ids.take("next_word");
            rows.push(vec![Value::Int(id), word.as_str().into()]);
            self.known.insert(word, id);
        }
        store.bulk(&NEW_WORDS, rows)?;
        Ok(())
    }

    /// Before a transaction, so that all the words of one batch are known together.
    pub(crate) fn trim(&mut self) {
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
    }

    /// After a transaction that came to nothing.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }
}

/// The numbers of these files; those the ledger does not know are left out. The scopes are learnt.
pub(crate) fn find_dids(
    store: &mut dyn Store,
    words: &mut Words,
    dids: &HashSet<&Did>,
) -> Result<HashMap<Did, i64>, LedgerError> {
    words.find(store, dids.iter().map(|did| &*did.scope))?;
    let mut by_hash: HashMap<i64, Vec<&Did>> = HashMap::new();
    for did in dids {
        by_hash.entry(name_hash(&did.name)).or_default().push(did);
    }
    let mut found = HashMap::with_capacity(dids.len());
    let keys = by_hash.keys().map(|hash| vec![Value::Int(*hash)]);
    for row in store.lookup(&DIDS, keys.collect())? {
        if let [Value::Int(hash), scope, Value::Text(name), Value::Int(id)] = row.as_slice() {
            for did in by_hash.get(hash).into_iter().flatten() {
                if words.id(&did.scope) == *scope && clip(&did.name) == *name {
                    found.insert((*did).clone(), *id);
                }
            }
        }
    }
    Ok(found)
}

/// The same, and adds those that the ledger does not have.
pub(crate) fn learn_dids(
    store: &mut dyn Store,
    words: &mut Words,
    ids: &mut Ids,
    dids: &HashSet<&Did>,
) -> Result<HashMap<Did, i64>, LedgerError> {
    words.learn(store, ids, dids.iter().map(|did| &*did.scope))?;
    let mut found = find_dids(store, words, dids)?;
    let mut rows: Vec<Cells> = Vec::new();
    for did in dids {
        if !found.contains_key(*did) {
            let id = ids.take("next_did");
            rows.push(vec![
                Value::Int(id),
                Value::Int(name_hash(&did.name)),
                words.id(&did.scope),
                Value::Text(clip(&did.name)),
            ]);
            found.insert((*did).clone(), id);
        }
    }
    store.bulk(&NEW_DIDS, rows)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_clipped_between_characters() {
        let long = "é".repeat(LONGEST);
        assert_eq!(clip(&long).len(), LONGEST);
        assert_eq!(clip("a\0b"), "a\u{fffd}b");
        assert!(clip(&"\0".repeat(LONGEST)).len() <= LONGEST);
        assert!(clip(&format!("a{long}")).len() < LONGEST);
    }
}
