//! Whole sites, end to end: the real program, a real Butler, real Kafka and PostgreSQL. See `../../README.md`.

mod catalogue;
mod chaos;
mod checkpoint;
mod ctrl_ingestd;
mod every_kind;
mod federation;
mod kafka;
mod listings;
mod lost;
mod messages;
mod operators;
mod outages;
mod outbox;
mod reconcile;
mod record;
mod removal;
mod stomp;
mod usdf_to_frdf;
mod views;

use anyhow::Result;
use dbb_tests::Site;

/// The program, as built beside these tests.
const DBB: &str = env!("CARGO_BIN_EXE_dbb_under_test");

/// A site with this program, made with these options of `site.py make`, separated by spaces.
fn site(options: &str) -> Result<Site> {
    let python = dbb_test_services::python()?.display().to_string();
    let mut all = vec!["--python", &python];
    all.extend(options.split_whitespace());
    Site::make(DBB, &all)
}
