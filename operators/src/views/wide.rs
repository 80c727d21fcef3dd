//! Wide: sums of bytes that cannot run over, whatever events say of sizes.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use serde::{Deserialize, Serialize};

/// The size of the largest file that can be, 8 PiB: beyond it nobody's numbers are exact. What is said to be larger has no
/// size.
pub const MAX_FILE_BYTES: u64 = 1 << 53;

/// A sum in 128 bits. In checkpoints it is what one in 64 bits was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wide(pub i128);

impl Wide {
    /// As a column of 64 bits has it: the largest number there stands for all that are larger.
    pub fn shown(self) -> i64 {
        let most = i128::from(i64::MAX);
        i64::try_from(self.0.clamp(-most, most)).unwrap_or(i64::MAX)
    }
}

impl From<u64> for Wide {
    fn from(bytes: u64) -> Self {
        Self(i128::from(bytes))
    }
}

impl IsZero for Wide {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Semigroup for Wide {
    fn plus_equals(&mut self, other: &Self) {
        // More than 2^63 files of 2^64 bytes: never.
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Monoid for Wide {
    fn zero() -> Self {
        Self(0)
    }
}

impl Abelian for Wide {
    fn negate(&mut self) {
        self.0 = self.0.saturating_neg();
    }
}

impl Multiply<isize> for Wide {
    type Output = Self;

    fn multiply(self, times: &isize) -> Self {
        Self(self.0.saturating_mul(*times as i128))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sum_beyond_what_a_column_has_room_for_is_exact_until_it_is_shown() {
        let mut sum = Wide::from(u64::MAX);
        sum.plus_equals(&Wide::from(u64::MAX));
        assert_eq!(sum, Wide(2 * i128::from(u64::MAX)));
        assert_eq!(sum.shown(), i64::MAX);
        sum.plus_equals(&Wide::from(u64::MAX).multiply(&-2));
        sum.plus_equals(&Wide::from(7));
        assert_eq!(sum.shown(), 7);
        assert_eq!(Wide(i128::MIN).shown(), -i64::MAX);
    }

    #[test]
    fn in_a_checkpoint_it_is_what_a_narrow_sum_was() {
        for sum in [0, 1, -1, 300, i64::MAX, i64::MIN] {
            let narrow = postcard::to_stdvec(&sum).unwrap();
            assert_eq!(narrow, postcard::to_stdvec(&Wide(i128::from(sum))).unwrap());
            assert_eq!(
                postcard::from_bytes::<Wide>(&narrow).unwrap(),
                Wide(i128::from(sum))
            );
        }
    }
}
