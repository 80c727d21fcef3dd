//! Hub: what the site that runs Rucio does with an event: to whom it is told, with which labels, or why not.
//!
//! ```text
//!   records --judge--> outgoing --identify--> enrich --> published in the topics of the RSE
//!                \--> dead letters, counts       \----> entries: waits for labels, held, refused
//! ```

pub mod conclude;
pub mod embargo;
pub mod enrich;
pub mod expected;
pub mod judge;
pub mod topics;

pub use conclude::{Concluded, Rules};
pub use embargo::Embargo;
pub use enrich::{Enriched, Known, LookUpPort, LookingUp, Noted, enrich};
pub use topics::{Namer, NoTopic, TopicSettings};
