//! Good input, spoilt a million times: what reads what strangers say answers, and never panics.
//!
//! ```text
//!   seeds --> a few changes, by a seeded generator --> frames of SQL clients | greetings of processes | lines of events
//! ```
//!
//! In:    what, how many, the seed; a longest time.
//! Out:   one line; a panic names the seed and the number of what caused it, and its bytes.
//!
//! `cargo run --release --package dbb-mutate -- --what frames --count 10000000`. On the stable toolchain, and the same input
//! for the same seed; `fuzz/` looks deeper, with coverage, on the nightly one.

mod frames;
mod greetings;
mod lines;
mod spoil;

#[path = "../../src/dice.rs"]
#[allow(dead_code, unreachable_pub)]
mod dice;

use clap::{Parser, ValueEnum};
use dice::Dice;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

/// What is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Messages of the PostgreSQL protocol, and what the library makes of those that are taken.
    Frames,
    /// What processes of a cluster say to each other first, for the dataflow and for replicas.
    Greetings,
    /// Recorded events, rows of journals and of listings.
    Lines,
}

#[derive(Debug, Parser)]
struct Options {
    /// What is spoilt.
    #[arg(long, value_enum)]
    what: What,
    /// How many.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Ends earlier, after so many seconds.
    #[arg(long, default_value_t = u64::MAX)]
    seconds: u64,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Input of one kind, and whether what reads it took it.
struct Target {
    seeds: Vec<Vec<u8>>,
    takes: fn(&[u8], &mut Dice) -> bool,
}

impl What {
    fn target(self) -> Target {
        match self {
            Self::Frames => frames::target(),
            Self::Greetings => greetings::target(),
            Self::Lines => lines::target(),
        }
    }
}

/// How many were read, and how many of them taken.
fn run(what: What, count: u64, limit: Duration, seed: u64) -> Result<(u64, u64), String> {
    let target = what.target();
    let mut dice = Dice::of(seed);
    let begun = Instant::now();
    let mut taken = 0;
    for number in 0..count {
        if number % 1024 == 0 && begun.elapsed() >= limit {
            return Ok((number, taken));
        }
        let input = spoil::spoilt(&target.seeds, &mut dice);
        match catch_unwind(AssertUnwindSafe(|| (target.takes)(&input, &mut dice))) {
            Ok(is_taken) => taken += u64::from(is_taken),
            Err(_) => return Err(format!("seed {seed}, number {number}: {}", input.escape_ascii())),
        }
    }
    Ok((count, taken))
}

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    let Options {
        what,
        count,
        seconds,
        seed,
    } = Options::parse();
    match run(what, count, Duration::from_secs(seconds), seed) {
        Ok((count, taken)) => {
            println!("{what:?}: {count} spoilt, {taken} taken, 0 panics");
            ExitCode::SUCCESS
        }
        Err(panicked) => {
            eprintln!("{what:?}: {panicked}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_spoilt_makes_anything_panic() {
        for what in [What::Frames, What::Greetings, What::Lines] {
            let ran = run(what, 200_000, Duration::from_secs(3), 1);
            assert!(matches!(ran, Ok((1000.., 10..))), "{what:?}: {ran:?}");
        }
    }
}
