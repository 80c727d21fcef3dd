//! The views of what should be where, of what waits for a Butler, and of the streams themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "views_b/attempts.rs"]
mod attempts;
#[path = "views_b/backlog.rs"]
mod backlog;
#[path = "views_b/health.rs"]
mod health;
#[path = "views_b/placement.rs"]
mod placement;
