//! Where events come from: one folder a source, all behind the trait [`Source`].
//!
//! ```text
//!   topic, files --> poll --> records with their places        ack <-- offsets whose outcomes are durable
//! ```

pub mod catalogue;
pub mod error;
pub mod kafka;
pub mod listings;
pub mod log;
pub mod record;
pub mod replay;
pub mod source;

pub use catalogue::CatalogueSettings;
pub use error::SourceError;
pub use kafka::KafkaSettings;
pub use listings::ListingsSettings;
pub use log::LogSettings;
pub use source::{Begin, Extent, Gap, OffsetStore, Offsets, Partition, Polled, Source, Waker};
