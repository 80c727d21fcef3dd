//! Chaos: whatever breaks, whenever it does, nothing is lost, done twice or answered wrongly, and nothing hangs.
//!
//! ```text
//!   records in pieces --> Kafka (3 brokers) --> dbb, one process or several --> Butler and ledger on PostgreSQL
//!   each round: something breaks, and comes back --> all processes answer, exactly what their offsets say
//!   at the end: ledger and Butler against the oracle, every view against a run that nobody disturbed
//! ```
//!
//! In:  how many rounds, how many processes, a seed: what breaks, and when, follows from it.
//! Out: what was lost, done twice, wrong or hung, as sentences.

mod answers;
mod campaign;
mod cluster;
mod fault;
mod proxy;

pub use campaign::run;

use std::fmt;

/// Rounds after which each fault has been there once.
pub const EACH_ONCE: usize = fault::FAULTS;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program.
    pub program: String,
    /// How many times something breaks.
    pub rounds: usize,
    /// Processes of the cluster.
    pub processes: usize,
    /// What decides what breaks.
    pub seed: u64,
    /// Files that are announced while things break, for each round.
    pub files: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Rounds that were done.
    pub rounds: usize,
    /// The seed.
    pub seed: u64,
    /// Events without an outcome, files that the Butler lacks.
    pub lost: Vec<String>,
    /// Events with more outcomes than one.
    pub twice: Vec<String>,
    /// Wrong answers, outcomes, ends of processes.
    pub wrong: Vec<String>,
    /// What did not come back in time.
    pub hung: Vec<String>,
}

impl Findings {
    /// True when nothing is amiss.
    pub fn is_clean(&self) -> bool {
        [&self.lost, &self.twice, &self.wrong, &self.hung]
            .iter()
            .all(|found| found.is_empty())
    }

    /// All that was found, a line each.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let kinds = [
            ("lost", &self.lost),
            ("twice", &self.twice),
            ("wrong", &self.wrong),
            ("hung", &self.hung),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, found)| found.iter().map(move |what| format!("{kind}: {what}")))
    }
}

/// `500 rounds, 0 lost, 0 twice, 0 wrong, 0 hung (SEED=7)`.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds, {} lost, {} twice, {} wrong, {} hung (SEED={})",
            self.rounds,
            self.lost.len(),
            self.twice.len(),
            self.wrong.len(),
            self.hung.len(),
            self.seed
        )
    }
}
