//! Sketch: durations in buckets whose counts can be added and taken back, and the quantiles of them.
//!
//! Whole numbers only, so that every machine finds the same bucket: up to 63 ms each has its own, above that
//! each doubling has 32. The middle of a bucket is within 1.6 % of every duration in it.

use std::time::Duration;

/// Buckets for each doubling, as a power of two.
const BITS: u32 = 5;

/// The bucket of a duration in milliseconds: 0 to 895, in order.
pub fn bucket(ms: u32) -> u16 {
    // Below 2^(BITS + 1) nothing is cut off.
    let shift = (u32::BITS - ms.leading_zeros()).saturating_sub(BITS + 1);
    ((shift << BITS) + (ms >> shift)) as u16
}

/// The bucket of any duration.
pub fn bucket_of(took: Duration) -> u16 {
    bucket(u32::try_from(took.as_millis()).unwrap_or(u32::MAX))
}

/// The middle of a bucket, in milliseconds.
pub fn middle(bucket: u16) -> u32 {
    let bucket = u32::from(bucket);
    let shift = (bucket >> BITS).saturating_sub(1);
    let least = (bucket - (shift << BITS)) << shift;
    least + ((1 << shift) - 1) / 2
}

/// The least duration, in milliseconds, that at least `percent` of all do not exceed, from buckets in order
/// with their counts; `None` without any.
pub fn quantile(buckets: &[(u16, isize)], percent: u32) -> Option<u32> {
    let all: isize = buckets.iter().map(|(_, count)| count).sum();
    let rank = all.saturating_mul(percent as isize).saturating_add(99) / 100;
    let mut seen = 0;
    buckets
        .iter()
        .find(|(_, count)| {
            seen += count;
            seen >= rank.max(1)
        })
        .map(|(bucket, _)| middle(*bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_bucket_is_near_everything_in_it() {
        let powers = (17..32).map(|bit| 1 << bit);
        let mut before = 0;
        for ms in (0..70_000).chain(powers).chain([u32::MAX]) {
            let bucket = bucket(ms);
            assert!(bucket >= before, "{ms}");
            before = bucket;
            let middle = middle(bucket);
            assert!(
                f64::from(middle.abs_diff(ms)) <= 0.016 * f64::from(ms),
                "{ms}: {middle}"
            );
            assert_eq!(super::bucket(middle), bucket);
        }
        assert_eq!(bucket(u32::MAX), 895);
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        assert_eq!(quantile(&[], 50), None);
        assert_eq!(quantile(&[(7, 1)], 50), Some(7));
        let hundred: Vec<(u16, isize)> = (1..=60).map(|ms| (ms, 1)).chain([(62, 40)]).collect();
        assert_eq!(quantile(&hundred, 50), Some(50));
        assert_eq!(quantile(&hundred, 95), Some(62));
        assert_eq!(quantile(&[(1, 1), (2, 1)], 50), Some(1));
        assert_eq!(quantile(&[(1, 19), (2, 1)], 95), Some(1));
        assert_eq!(quantile(&[(1, 18), (2, 1)], 95), Some(2));
    }
}
