//! Attack: what one stranger, one client or one statement can do to a running site, while others work with it.
//!
//! ```text
//!   records, steadily --> Kafka --> dbb: Butler, views, SQL, HTTP <-- one case after the other: frames, doors, memory, statements
//!                                    ^                    ^
//!                      memory, is it there?          watch: `select 1`, all the while
//!   a second dbb that asks for passwords <-- frames before login; `dbb record` <-- brokers that mean harm
//!   a cluster of two <-- strangers at its ports, before it is whole and after
//! ```
//!
//! In:  a seed; whether in short.
//! Out: deaths, wrong outcomes (against the oracle), memory beyond what the settings allow, and answers or outcomes that
//!      came too late, as sentences.

mod brokers;
mod campaign;
mod http;
mod ingest;
mod memory;
mod pg;
mod ports;
mod statements;
mod target;
mod watch;

pub use campaign::run;

use std::fmt;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program.
    pub program: String,
    /// Each case for seconds, and times are printed, not judged: for builds that are not optimised.
    pub short: bool,
    /// What chance goes by.
    pub seed: u64,
    /// Only cases whose name begins with this; all without it.
    pub only: Option<String>,
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| case.starts_with(only.as_str()))
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Cases that were run.
    pub cases: usize,
    /// The seed.
    pub seed: u64,
    /// Cases after which the program was no longer there.
    pub deaths: Vec<String>,
    /// Outcomes that are not as the oracle says, and doors that did not open.
    pub wrong: Vec<String>,
    /// Memory beyond what is allowed.
    pub memory: Vec<String>,
    /// What came too late; judged where the build is optimised.
    pub slow: Vec<String>,
    /// Most that the memory grew, in MiB, and what it may grow.
    pub grown: (u64, u64),
    /// Longest that `select 1` took, in milliseconds.
    pub longest_ms: u64,
    /// p99 from a record's publishing to its outcome, quiet and at the worst, in milliseconds.
    pub p99_ms: (u64, u64),
}

impl Findings {
    /// True when nothing is amiss.
    pub fn is_clean(&self) -> bool {
        [&self.deaths, &self.wrong, &self.memory, &self.slow]
            .iter()
            .all(|found| found.is_empty())
    }

    /// All that was found, a line each.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let kinds = [
            ("death", &self.deaths),
            ("wrong", &self.wrong),
            ("memory", &self.memory),
            ("slow", &self.slow),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, found)| found.iter().map(move |what| format!("{kind}: {what}")))
    }
}

/// `47 cases: 0 deaths, 0 wrong, memory grew by 31 MiB of 626 allowed, select 1 took 40 ms at most, ...`.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cases: {} deaths, {} wrong, memory grew by {} MiB of {} allowed, select 1 took {} ms at most, \
             p99 of ingest {} ms quiet and {} ms at worst, {} too late (SEED={})",
            self.cases,
            self.deaths.len(),
            self.wrong.len() + self.memory.len(),
            self.grown.0,
            self.grown.1,
            self.longest_ms,
            self.p99_ms.0,
            self.p99_ms.1,
            self.slow.len(),
            self.seed
        )
    }
}
