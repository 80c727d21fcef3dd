//! What one Rucio event says, and the words the rest of `dbb` uses for what became of it.
//!
//! ```text
//!   bytes --> event (envelope, payload, identity) --> request for one target --> outcome
//! ```
//!
//! No I/O and no clock: bytes come in, values go out.

pub mod did;
pub mod event_id;
pub mod kind;
pub mod outcome;
pub mod record;
pub mod request;
pub mod time;

pub use did::{Did, Rse};
pub use event_id::EventId;
pub use kind::Kind;
pub use outcome::{Dependency, Outcome, Reason, Refusal, Verified};
pub use record::{Place, Received};
pub use request::{Counted, DeadLetter, Due, Entry, Request, Settled};
pub use time::Micros;
