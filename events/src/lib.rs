//! What one Rucio event says, and the words the rest of `dbb` uses for what became of it.
//!
//! ```text
//!   bytes --> event (envelope, payload, identity) --> request for one target --> outcome
//! ```
//!
//! No I/O and no clock: bytes come in, values go out.

pub mod decode;
mod depth;
pub mod did;
pub mod error;
pub mod event;
pub mod event_id;
pub mod event_type;
pub mod gap;
pub mod glimpse;
pub mod identity;
pub mod incarnation;
pub mod journal;
pub mod kind;
pub mod labelled;
pub mod ledger_mark;
pub mod listing;
pub mod mark;
pub mod message;
pub mod outcome;
pub mod outgoing;
pub mod payload;
mod quotes;
pub mod ranges;
pub mod record;
pub mod recorded;
pub mod request;
mod scalar;
pub mod scan;
pub mod sidecar;
pub mod sketch;
pub mod table;
pub mod telling;
pub mod time;
pub mod wire;

pub use decode::{MAX_BODY_BYTES, decode, salvage};
pub use did::{Did, Rse};
pub use error::DecodeError;
pub use event::Event;
pub use event_id::EventId;
pub use event_type::EventType;
pub use gap::{Gap, Numbers};
pub use glimpse::{Glimpse, glimpse};
pub use incarnation::{Incarnation, Position};
pub use kind::Kind;
pub use labelled::with_labels;
pub use ledger_mark::Mark;
pub use mark::{unmarked, without_mark};
pub use message::{Lane, Marks, Message, Word};
pub use outcome::{Dependency, Outcome, Reason, Refusal, Verified};
pub use outgoing::{Ask, Class, Found, Labels, Outgoing, Sent, TOPICS};
pub use payload::{Label, Payload};
pub use ranges::Ranges;
pub use record::{Place, Received};
pub use recorded::{Recorded, decode_record};
pub use request::{Action, Again, Counted, DeadLetter, Due, Entry, Request, Settled};
pub use scan::scan;
pub use sidecar::Sidecar;
pub use table::ReplicaState;
pub use telling::{Landed, Telling};
pub use time::Micros;
