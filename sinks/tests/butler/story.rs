//! Several events of one file.

use crate::harness::*;
use anyhow::{Result, ensure};
use dbb_events::{Did, Micros, Outcome, Request, Rse};
use dbb_sinks::{
    Sink,
    butler::{Applied, ButlerSink, History, NoHistory},
    ledger::State,
};
use std::{collections::HashMap, sync::Arc};

/// A ledger that has applied one version of one file, or cannot be asked.
struct Ledger(Result<(Did, Micros), String>);

impl History for Ledger {
    fn applied(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, Applied>, String> {
        assert_eq!(target, "site");
        let (did, version) = self.0.clone()?;
        Ok(dids
            .iter()
            .filter(|d| **d == did)
            .map(|d| {
                let applied = Applied {
                    version,
                    state: State::Ingested,
                    rse: Some(Rse::new("SITE_RAW_DISK")),
                    uri: "/data/file".into(),
                    uuids: Arc::new([]),
                };
                (d.clone(), applied)
            })
            .collect())
    }
}

/// The same file at version `created_at`.
fn version(request: &Request, created_at: i64) -> Request {
    let mut request = request.clone();
    request.created_at = Micros(created_at);
    request.event = dbb_events::EventId(next().into());
    request
}

#[test]
fn of_one_batch_only_the_newest_version_is_applied() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let dataset = site.product(&new_run("story"), 1, 1)?;
    let one = dataset.request();
    let batch = vec![
        version(&one, 5),
        version(&one, 7),
        version(&one, 6),
        version(&one, 7),
    ];
    let settled = site.deliver(batch);
    ensure!(words(&settled) == ["superseded", "ingested", "superseded", "ingested"]);
    ensure!(settled[0].outcome == Outcome::Superseded { by: Micros(7) });
    // And so it stays in the batches after it, before any ledger knows.
    let settled = site.deliver(vec![version(&one, 6)]);
    ensure!(words(&settled) == ["superseded"]);
    let settled = site.deliver(vec![version(&one, 7)]);
    ensure!(words(&settled) == ["already_there"]);
    let settled = site.deliver(vec![version(&one, 8)]);
    ensure!(words(&settled) == ["already_there"]);
    Ok(())
}

#[test]
fn a_newest_version_that_is_refused_does_not_take_the_older_with_it() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let dataset = site.product(&new_run("story"), 1, 1)?;
    let older = version(&dataset.request(), 1);
    let mut newer = version(&older, 2);
    newer.sidecar = "{".into();
    let settled = site.deliver(vec![older, newer]);
    ensure!(words(&settled) == ["ingested", "refused"]);
    site.assert_registered(&[dataset])
}

#[test]
fn what_the_ledger_has_applied_supersedes_what_is_older() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let datasets = site.products(&new_run("story"), 2)?;
    let batch: Vec<Request> = requests(&datasets)
        .iter()
        .map(|request| version(request, 10))
        .collect();
    let ledger = Ledger(Ok((batch[0].did.clone(), Micros(11))));
    let mut sink = ButlerSink::new("site", settings(&site.root)?, Box::new(ledger))?;
    let settled = in_order(&batch, sink.deliver(batch.clone()));
    ensure!(words(&settled) == ["superseded", "ingested"]);
    site.assert_absent(&datasets[..1])
}

#[test]
fn a_ledger_that_cannot_be_asked_makes_the_batch_wait() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let datasets = site.products(&new_run("story"), 2)?;
    let ledger = Ledger(Err("locked".into()));
    let mut sink = ButlerSink::new("site", settings(&site.root)?, Box::new(ledger))?;
    ensure!(words(&sink.deliver(requests(&datasets))) == ["waiting", "waiting"]);
    site.assert_absent(&datasets)?;
    let mut sink = ButlerSink::new("site", settings(&site.root)?, Box::new(NoHistory))?;
    ensure!(words(&sink.deliver(requests(&datasets))) == ["ingested", "ingested"]);
    Ok(())
}
