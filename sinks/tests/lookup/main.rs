//! Look-ups: against a small server that does what a test tells it, with documents in folders, and against a real Rucio.

mod faults;
mod forms;
mod rucio;
mod server;
