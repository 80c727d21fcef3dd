//! Kinds of state, and their rows.

use xxhash_rust::xxh3::xxh3_64;

/// A row that a checkpoint holds cannot be what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of `{kind}` cannot be read: {reason}")]
pub struct Damaged {
    /// Of which state.
    pub kind: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The state of one operator, as rows of a key and a value.
#[derive(Debug)]
pub struct Kind {
    /// What it is called in manifests and file names: lower case, underscores.
    pub name: &'static str,
    /// Changes whenever rows are written otherwise; what was written by another version cannot be read.
    pub version: u16,
    /// How two rows of one key become one.
    pub merge: Merge,
}

/// The sum of two values, the older first; `None` when nothing is left.
pub type Add = fn(&[u8], &[u8]) -> Result<Option<Vec<u8>>, Damaged>;

/// Takes a key and its value.
pub type Give<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// How two rows of one key become one.
#[derive(Debug, Clone, Copy)]
pub enum Merge {
    /// The newer takes the place of the older; a row without a value removes it.
    Newest,
    /// Values are summed. Every row has a value.
    Sum(Add),
    /// Keys that were met, with a value of no importance. They are forgotten together with their checkpoint, once it
    /// is older than [`Rows::remember`].
    Recent,
}

/// Rows of one kind that changed between two checkpoints, not yet encoded: that is done by whoever writes them.
pub trait Rows: Send {
    /// Of what.
    fn kind(&self) -> &'static Kind;

    /// How many there are, about.
    fn len(&self) -> usize;

    /// True when nothing changed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of [`Merge::Recent`], for how many epochs a row must be kept; for ever when `None`.
    fn remember(&self) -> Option<crate::Epoch> {
        None
    }

    /// Gives each row, each key once, in any order: its key, evenly spread in its first bytes, and its value.
    fn for_each(self: Box<Self>, give: &mut Give<'_>);
}

/// A key from bytes that are not evenly spread themselves: their hash goes first.
pub fn spread(bytes: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + bytes.len());
    key.extend_from_slice(&xxh3_64(bytes).to_be_bytes());
    key.extend_from_slice(bytes);
    key
}
