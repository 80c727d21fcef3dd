//! Every kind of file and every planted fault, from recorded events to both kinds of registry.

use crate::site;
use anyhow::{Result, ensure};
use dbb_sinks::ledger::{Filter, State};
use dbb_test_services::Postgres;
use dbb_tests::books::Again;

const EVERYTHING: &str = "--repositories main,prep --files 60 --each 2";

#[test]
fn every_kind_and_every_fault_ends_as_it_must_on_sqlite() -> Result<()> {
    let site = site(&format!("{EVERYTHING} --repeats 9 --event-files 3"))?;
    // 1: there are dead letters.
    let ended = site.run_once(&[])?.with(1)?;
    ensure!(ended.text.contains("records read"), "no summary:\n{}", ended.text);
    site.prove(Again::Never)?;

    for letter in site.ledger()?.dead_letters(&Filter::default(), 1000)? {
        let told =
            letter.reason.is_some() && letter.detail.as_deref().is_some_and(|detail| detail.len() > 10);
        ensure!(
            told && letter.place.line.is_some()
                && letter.body.as_deref().is_some_and(|body| !body.is_empty()),
            "a dead letter has its reason, a sentence, its place and its event: {letter:?}"
        );
    }

    let total = site.expected()?.totals.not_for_us;
    let counts = site.ledger()?.counts()?;
    let for_us = ["arrival", "dead_letter"];
    let others = counts.iter().filter(|(word, _)| !for_us.contains(&word.as_str()));
    let nobodys: u64 = others.map(|(_, count)| count).sum();
    ensure!(
        nobodys == total,
        "{total} records were for nobody here, counted were {counts:?}"
    );

    // A run that finds nothing new adds no dead letters, and changes nothing.
    let before = site.count(|_| true)?;
    site.run_once(&[])?.with(0)?;
    ensure!(site.count(|_| true)? == before, "the second run added rows");
    site.prove(Again::Never)
}

#[test]
fn every_kind_and_every_fault_ends_as_it_must_on_postgresql() -> Result<()> {
    let postgres = Postgres::shared()?;
    let registry = postgres.create_database("every_kind")?;
    let ledger = postgres.create_database("every_kind_ledger")?;
    let site = site(&format!(
        "{EVERYTHING} --verify checksum --registry {registry} --ledger {ledger}"
    ))?;
    site.run_once(&["--workers", "2"])?.with(1)?;
    site.prove(Again::Never)?;
    ensure!(
        site.count(|state| state == State::Ingested)? > 60,
        "hardly anything was ingested"
    );
    Ok(())
}
