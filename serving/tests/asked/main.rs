//! Views as they are asked for: statements, SQL clients, dashboards, HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod catalogues;
mod engine;
mod http;
mod peers;
mod pg;
mod shared;
