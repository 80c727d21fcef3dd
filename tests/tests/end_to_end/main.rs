//! Whole sites, end to end: the real program, a real Butler, real Kafka and PostgreSQL. See `../../README.md`.

mod chaos;
mod every_kind;
mod kafka;
mod operators;
mod outages;

use anyhow::Result;
use dbb_tests::Site;

/// The program, as built beside these tests.
const DBB: &str = env!("CARGO_BIN_EXE_dbb_under_test");

/// A site with this program.
fn site(options: &[&str]) -> Result<Site> {
    let python = dbb_test_services::python()?.display().to_string();
    let mut all = vec!["--python", &python];
    all.extend(options);
    Site::make(DBB, &all)
}
