//! Where events come from: one folder a source, all behind the trait [`Source`].
//!
//! ```text
//!   topic, queue, table, files --> poll --> records with their places        ack <-- offsets whose outcomes are durable
//! ```

pub mod catalogue;
mod database;
pub mod error;
mod format;
pub mod kafka;
pub mod listings;
pub mod log;
pub mod outbox;
mod paths;
pub mod record;
pub mod replay;
pub mod source;
pub mod stomp;
mod tls;

pub use catalogue::{CatalogueSettings, CatalogueStatus};
pub use error::SourceError;
pub use kafka::KafkaSettings;
pub use listings::ListingsSettings;
pub use log::LogSettings;
pub use outbox::OutboxSettings;
pub use source::{Begin, Extent, Gap, OffsetStore, Offsets, Partition, Polled, Positions, Source, Waker};
pub use stomp::StompSettings;
