//! Facts: what an event, a journal row or a listing says of replicas, requests and rules, small enough to travel.
//!
//! ```text
//!   event, journal row, listing row --> Told: changes, names, attempts, said
//! ```
//!
//! Names of RSEs, scopes and Rucio datasets are words, numbered once for the process; a file's name travels
//! once for each worker that reads of it, beside the 128 bits that stand for it.

pub mod attempt;
pub mod change;
pub mod did_key;
mod failure;
pub mod said;
pub mod state;
pub mod told;
pub mod words;

pub use attempt::{Attempt, FailureClass, Step, UNKNOWN_MS};
pub use change::{Change, Complete, DidName, Version};
pub use did_key::DidKey;
pub use said::{AtSite, Contents, Lost, RuleSaid, RuleWord, Said, SiteOutcome};
pub use state::{Basis, State};
pub use told::{Told, Wanted};
pub use words::{DatasetName, OutcomeName, RepositoryName, RseName, ScopeName};
