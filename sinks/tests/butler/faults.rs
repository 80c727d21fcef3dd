//! Databases that go away, and others that write at the same time.

use crate::harness::*;
use anyhow::{Result, ensure};
use dbb_events::{Dependency, Outcome};
use dbb_sinks::{
    Sink,
    butler::{ButlerSink, NoHistory},
};
use dbb_test_services::{Postgres, wait_until};
use std::{thread, time::Duration};

/// True if all wait for the repository and no attempt is counted.
fn all_wait(settled: &[dbb_events::Settled]) -> bool {
    settled.iter().all(|answer| {
        matches!(
            answer.outcome,
            Outcome::Waiting {
                dependency: Dependency::Repository,
                counts: false,
                ..
            }
        )
    })
}

#[test]
fn a_database_that_stops_costs_no_attempts_and_is_found_again() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.create_database("butler")?;
    let mut site = Site::new(Database::Postgres, Some(&url))?;
    let datasets = site.products(&new_run("outage"), 30)?;
    ensure!(words(&site.deliver(requests(&datasets[..10]))) == ["ingested"; 10]);

    postgres.stop()?;
    ensure!(all_wait(&site.deliver(requests(&datasets[10..20]))));
    let stats = site.stats();
    ensure!(
        stats.down && stats.trouble.contains("does not answer"),
        "{}",
        stats.trouble
    );
    // The breaker is open: these are not sent at all.
    for _ in 0..20 {
        ensure!(all_wait(&site.deliver(requests(&datasets[20..]))));
    }
    ensure!(site.stats().worker_starts == 1);

    postgres.start_again()?;
    wait_until("the repository is found again", Duration::from_secs(60), || {
        Ok(words(&site.deliver(requests(&datasets[10..20])))
            .iter()
            .all(|word| *word == "ingested"))
    })?;
    ensure!(!site.stats().down);
    // Sessions that are killed under it, while it stands idle and while it works.
    for round in 0..3 {
        let more = site.products(&new_run("sessions"), 100)?;
        let killer = thread::spawn({
            let url = postgres.url("butler");
            move || {
                thread::sleep(Duration::from_millis(40 * round));
                terminate_sessions(&url)
            }
        });
        let mut settled = site.deliver(requests(&more));
        killer
            .join()
            .map_err(|_| anyhow::anyhow!("the killer panicked"))??;
        wait_until("all are registered", Duration::from_secs(60), || {
            if !settled
                .iter()
                .all(|answer| matches!(answer.outcome, Outcome::Ingested | Outcome::AlreadyThere))
            {
                ensure!(all_wait(&settled), "{:?}", words(&settled));
                settled = site.deliver(requests(&more));
                return Ok(false);
            }
            Ok(true)
        })?;
        site.assert_registered(&more)?;
    }
    Ok(())
}

fn terminate_sessions(url: &str) -> Result<()> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    client.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        &[],
    )?;
    Ok(())
}

#[test]
fn a_repository_that_is_not_there_makes_its_batch_wait() -> Result<()> {
    let mut sink = ButlerSink::new("none", settings("/nowhere/repo")?, Box::new(NoHistory))?;
    let site = shared(Database::Sqlite)?;
    let batch = requests(&site.products(&new_run("none"), 3)?);
    ensure!(all_wait(&sink.deliver(batch)));
    ensure!(sink.stats().snapshot().trouble.contains("/nowhere/repo"));
    let error = dbb_sinks::butler::check(&settings("/nowhere/repo")?);
    ensure!(error.is_err_and(|error| error.to_string().contains("could not open")));
    Ok(())
}

on_both! {
    fn two_that_register_the_same_datasets_at_once_both_succeed(site) {
        let mut other = ButlerSink::new("other", settings(&site.root)?, Box::new(NoHistory))?;
        other.warm()?;
        for _ in 0..3 {
            let datasets = site.products(&new_run("race"), 100)?;
            let theirs = datasets.clone();
            let (ours, theirs) = thread::scope(|scope| {
                let theirs = scope.spawn(|| other.deliver(requests(&theirs)));
                (site.deliver(requests(&datasets)), theirs.join())
            });
            let theirs = theirs.map_err(|_| anyhow::anyhow!("the other panicked"))?;
            for answer in ours.iter().chain(&theirs) {
                ensure!(matches!(answer.outcome, Outcome::Ingested | Outcome::AlreadyThere), "{answer:?}");
            }
            site.assert_registered(&datasets)?;
        }
        Ok(())
    }
}
