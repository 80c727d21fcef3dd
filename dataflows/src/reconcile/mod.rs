//! What Rucio has, what a Butler has, and what the ledger knows of it, side by side.
//!
//! ```text
//!   listing file, or Rucio's REST --> replicas --\
//!   Butler --scan-----------------> datasets ------> sheet --> in both: import makes them known to the ledger
//!                                                         \--> missing: labels --> events that wait in the ledger
//! ```
//!
//! Any number of files in bounded memory: the join is on disk.

mod compare;
mod import;
mod known;
mod listing;
mod resend;

pub use compare::{Comparison, Counts, Finding, Task, compare};
pub use import::{Imported, import};
pub use listing::{Rows, read as read_listing};
