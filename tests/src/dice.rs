//! Random numbers that can be had again: a failed test prints its seed.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// A small generator (xorshift64*); good enough to choose moments and victims.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// With the seed in the environment variable `SEED`, else one of this moment; printed, to be had again.
    pub fn new(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(now.as_nanos() as u64 >> 10);
        println!("{what}: SEED={seed}");
        Self::of(seed)
    }

    /// With this seed.
    pub fn of(seed: u64) -> Self {
        // Never 0, which would stay 0; neighbouring seeds must not begin alike.
        Self((seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end.max(1)
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }
}
