//! Topics: what a hub publishes and sends again, and the messages that hubs and sites send each other.
//!
//! ```text
//!   outgoing events --> TopicsSink --> topics of each RSE, numbered
//!                          |  ^
//!                          v  |
//!                       sent log --> what sites ask for, again
//! ```

mod admin;
mod backoff;
mod check;
mod error;
mod figures;
mod lanes;
mod messenger;
mod own;
mod producer;
mod publish;
mod requests;
mod resend;
mod sent_log;
mod service;
mod settings;
mod sink;
mod wire;

pub use admin::Difference;
pub use check::{BrokersReport, check};
pub use error::TopicsError;
pub use figures::{CONFIRM_SECONDS, TopicsFigures, TopicsSnapshot};
pub use lanes::{Lanes, Standing, partition_of};
pub use messenger::{Messenger, NotPosted, Post};
pub use producer::{Compression, NewTopics, ProducerSettings};
pub use sent_log::{Published, PublishedRecords, published};
pub use settings::{HeartbeatSettings, RequestSettings, SentLogSettings, TopicsSettings};
pub use sink::{Share, TopicsSink};
pub use wire::Trouble;
