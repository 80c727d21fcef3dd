//! What a running `dbb` shows: of itself (is it alive, is it ready, what does it do), and of its views.
//!
//! ```text
//!   dataflow --> Metrics, Health (shared, atomic) <-- /metrics, /livez, /readyz (one thread of its own)
//!            \-> Published (one epoch at a time)  <-- SQL (threads of its own), /api/v1/views
//! ```

pub mod catalog;
pub mod doors;
pub mod error;
pub mod health;
pub mod http;
pub mod labels;
pub mod lobby;
pub mod metrics;
pub mod offered;
pub mod panics;
pub mod peers;
pub mod pg;
pub mod secret;
pub mod server;
pub mod sql;

pub use error::ServeError;
pub use health::Health;
pub use metrics::Metrics;
pub use offered::Offered;
pub use server::{Limits, Server, serve, serve_with_views};
