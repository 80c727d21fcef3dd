//! Checkpoints against a plain fold over a map: written, merged, damaged, killed, and read back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod command;
mod damage;
mod faults;
mod round_trip;
mod rows;
mod s3;
mod site;
