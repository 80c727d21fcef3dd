//! Topics: what a hub publishes, and the messages that hubs and sites send each other.

mod admin;
mod backoff;
mod error;
mod messenger;
mod producer;
mod wire;

pub use error::TopicsError;
pub use messenger::{Messenger, NotPosted, Post};
pub use producer::{Compression, NewTopics, ProducerSettings};
pub use wire::Trouble;
