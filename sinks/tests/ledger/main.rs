//! The ledger against real SQLite files and a real PostgreSQL: every rule on both.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod dead_letters;
mod durations;
mod failures;
mod fencing;
mod gaps;
mod hub;
mod kill;
mod measure;
mod oracle;
mod pooler;
mod rules;
mod story;
mod support;
mod tls;
mod writer;
