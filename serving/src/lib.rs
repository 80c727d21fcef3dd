//! What a running `dbb` shows of itself over HTTP: is it alive, is it ready, what does it do.
//!
//! ```text
//!   dataflow --> Metrics, Health (shared, atomic) <-- /metrics, /livez, /readyz (one thread of its own)
//! ```

pub mod catalog;
pub mod error;
pub mod health;
pub mod labels;
pub mod metrics;
pub mod offered;
pub mod server;
pub mod sql;

pub use error::ServeError;
pub use health::Health;
pub use metrics::Metrics;
pub use offered::Offered;
pub use server::{Server, serve};
