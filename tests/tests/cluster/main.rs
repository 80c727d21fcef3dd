//! A site on several processes: real Kafka, a ledger in a real PostgreSQL, a real Butler. See `../../README.md`.

mod chaos;
mod deploy;
mod ends;
mod resume;
mod together;

use anyhow::Result;
use dbb_test_services::{Kafka, Postgres};
use dbb_tests::{
    Recorded, Site,
    recording::{Publisher, create_topics},
};
use std::collections::BTreeSet;

/// The program, as built beside these tests.
const DBB: &str = env!("CARGO_BIN_EXE_dbb_under_test");
/// Partitions of each topic: more than there are workers.
const PARTITIONS: i32 = 4;

/// A site whose events are read from Kafka and whose ledger is in PostgreSQL; `name` is its alone.
fn site(name: &str, options: &str) -> Result<Site> {
    let python = dbb_test_services::python()?.display().to_string();
    let (kafka, postgres) = (Kafka::shared()?, Postgres::shared()?);
    let ledger = postgres.create_database(&format!("{}_ledger", name.to_lowercase()))?;
    let registry = postgres.create_database(&format!("{}_butler", name.to_lowercase()))?;
    let brokers = kafka.bootstrap();
    let options = format!(
        "--late 0 --site {name} --kafka {brokers} --group-id {name} --ledger {ledger} --registry {registry} {options}"
    );
    let mut all = vec!["--python", &python];
    all.extend(options.split_whitespace());
    Site::make(DBB, &all)
}

/// All records of a site, in Kafka.
fn published(site: &Site) -> Result<Publisher> {
    let kafka = Kafka::shared()?;
    let records = Recorded::of(site)?;
    create_topics(kafka, &records, PARTITIONS, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    publisher.send(&records)?;
    publisher.flush()?;
    Ok(publisher)
}
