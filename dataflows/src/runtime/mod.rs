//! What every dataflow runs on: the clock, the reader, and the word that a process must stop.

pub mod bindings;
pub mod clock;
pub mod control;
pub mod fault;
pub(crate) mod files;
pub mod gate;
pub mod manifest;
pub mod offers;
pub mod panic;
pub mod read;

pub use bindings::Bindings;
pub use clock::clock;
pub use control::{Control, Failure};
pub use gate::Gate;
pub use offers::Offers;
