//! Rare: what few files and replicas have, beside their rows.

use super::row::Order;
use std::collections::HashMap;

/// What is known of some files and replicas only; replicas are keyed by the file's number and the RSE's.
#[derive(Debug, Default, Clone)]
pub(super) struct Rare {
    /// The newest time that a file was lost.
    pub(super) lost: HashMap<u32, Order>,
    /// The newest listing that saw a replica, where that is later than its last change.
    pub(super) seen: HashMap<(u32, u32), i64>,
    /// The size and checksum of a replica that tells others than its file's row has.
    pub(super) own: HashMap<(u32, u32), Own>,
}

/// A size and a checksum, each as [`crate::facts::Change`] has them when not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    /// Size in bytes.
    pub(super) bytes: u64,
    /// Adler-32.
    pub(super) adler32: u32,
}
