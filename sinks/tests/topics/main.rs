//! Publishing to a real Kafka: numbers, the sent log, what a site asks for, and everything that breaks in between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod deaths;
mod messages;
mod numbers;
mod resend;
mod shared;
