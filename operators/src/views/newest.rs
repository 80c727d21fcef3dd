//! Newest: a difference that keeps the greatest of all values it was ever given.
//!
//! Facts in any order, repeated any number of times, leave the same one. Nothing is ever taken back, so a
//! key that has one is kept for ever: a view that counts by it says so in its cost.

use differential_dataflow::difference::{IsZero, Multiply, Semigroup};
use serde::{Deserialize, Serialize};

/// The greatest value so far. What decides comes first in its order: time, then the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Newest<V>(pub V);

impl<V> IsZero for Newest<V> {
    fn is_zero(&self) -> bool {
        false
    }
}

impl<V: Ord + Clone> Semigroup for Newest<V> {
    fn plus_equals(&mut self, other: &Self) {
        if other.0 > self.0 {
            self.0 = other.0.clone();
        }
    }
}

/// Said twice is said once.
impl<V> Multiply<isize> for Newest<V> {
    type Output = Self;

    fn multiply(self, _times: &isize) -> Self {
        self
    }
}
