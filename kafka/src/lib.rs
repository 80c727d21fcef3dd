//! What all that speaks to Kafka shares: login, names and ids of topics, the client's own log.
//!
//! ```text
//!   sources: consumer --\
//!                        >-- Security, Wanted, log, passes --> librdkafka
//!   sinks:   producer --/
//! ```

mod broker_version;
mod commit_metadata;
mod passes;
mod security;
mod topic_id;
mod wanted;
mod words;

pub use broker_version::broker_versions;
pub use commit_metadata::commit_metadata;
pub use passes::passes;
pub use security::{Mechanism, Protocol, Security};
pub use topic_id::topic_ids;
pub use wanted::Wanted;
pub use words::log;

/// Settings that cannot work as they are: someone must change them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(String);

impl BadSettings {
    /// With one sentence: which setting, and why.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
