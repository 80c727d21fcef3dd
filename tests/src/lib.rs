//! What the tests of whole dataflows share: a site of its own for each, the program running on it, and proof.
//!
//! ```text
//!   Site::make --> files, events, repositories, configuration, oracle
//!   Site::run_once, Site::start --> dbb, the very program, as a process
//!   Site::prove --> Butler content and ledger, both against the oracle
//! ```

pub mod attack;
pub mod books;
pub mod chaos;
pub mod cluster;
pub mod dice;
pub mod federation;
pub mod fold;
pub mod recording;
pub mod run;
pub mod site;

pub use cluster::Cluster;
pub use dice::Dice;
pub use federation::Federation;
pub use recording::Recorded;
pub use run::{Ended, Run};
pub use site::Site;
