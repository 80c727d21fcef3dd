//! Workers that die, hang, or speak nonsense.

use crate::harness::*;
use anyhow::{Context, Result, ensure};
use dbb_events::{Outcome, Reason};
use dbb_sinks::{
    Sink,
    butler::{ButlerSettings, ButlerSink, NoHistory},
};
use dbb_test_services::{python, wait_until};
use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

fn signal(process: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()?;
    ensure!(status.success(), "could not send {name} to {process}");
    Ok(())
}

/// A sink whose worker runs `code` before its own script.
fn spoilt(site: &Site, code: &str) -> Result<ButlerSettings> {
    let path = site.folder.join(format!("spoilt-{}.py", next()));
    fs::write(
        &path,
        format!(
            "{code}\nimport runpy, sys\nsys.path.insert(0, __import__('os').path.dirname(sys.argv[1]))\nrunpy.run_path(sys.argv[1], run_name='__main__')\n"
        ),
    )?;
    let mut settings = settings(&site.root)?;
    settings.worker.command.push(path.display().to_string());
    Ok(settings)
}

on_both! {
    fn a_worker_killed_in_mid_batch_loses_nothing(site) {
        // How long a batch takes differs tenfold from machine to machine: one that nobody disturbs tells.
        site.sink.warm()?;
        let datasets = site.products(&new_run("undisturbed"), 200)?;
        let begun = Instant::now();
        site.deliver(requests(&datasets));
        let whole = begun.elapsed();
        let failures = site.stats().worker_failures;
        for delay in [Duration::ZERO, whole / 4, whole / 2] {
            // A worker that was killed after its answer is only missed by the next batch.
            let first = site.products(&new_run("first"), 1)?;
            site.deliver(requests(&first));
            let datasets = site.products(&new_run("killed"), 200)?;
            let before = site.stats();
            let worker = before.worker_id.context("no worker")?;
            let killer = thread::spawn(move || {
                thread::sleep(delay);
                signal(worker, "KILL")
            });
            let settled = site.deliver(requests(&datasets));
            killer.join().map_err(|_| anyhow::anyhow!("the killer panicked"))??;
            for answer in &settled {
                ensure!(matches!(answer.outcome, Outcome::Ingested | Outcome::AlreadyThere), "{answer:?}");
            }
            site.assert_registered(&datasets)?;
        }
        // The first kill cannot come too late.
        ensure!(site.stats().worker_failures > failures);
        Ok(())
    }
}

#[test]
fn a_hung_worker_is_killed_and_its_batch_sent_again() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut settings = settings(&site.root)?;
    settings.worker.request_timeout_s = 3;
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    sink.warm()?;
    let first = sink.stats().snapshot().worker_id.context("no worker")?;
    signal(first, "STOP")?;
    let datasets = site.products(&new_run("hung"), 20)?;
    let settled = sink.deliver(requests(&datasets));
    ensure!(words(&settled) == ["ingested"; 20]);
    let stats = sink.stats().snapshot();
    ensure!(stats.worker_id != Some(first) && stats.worker_failures == 1 && stats.worker_starts == 2);
    ensure!(!fs::exists(format!("/proc/{first}"))?);
    site.assert_registered(&datasets)
}

#[test]
fn a_registry_that_is_locked_by_others_makes_its_batch_wait() -> Result<()> {
    let mut site = Site::new(Database::Sqlite, None)?;
    let mut settings = settings(&site.root)?;
    settings.worker.request_timeout_s = 1;
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let datasets = site.products(&new_run("locked"), 4)?;
    let registry = rusqlite::Connection::open(format!("{}/gen3.sqlite3", site.root))?;
    registry.execute_batch("BEGIN EXCLUSIVE")?;
    let settled = sink.deliver(requests(&datasets));
    ensure!(words(&settled) == ["waiting"; 4]);
    ensure!(
        settled
            .iter()
            .all(|answer| waits_for(answer).is_ok_and(|key| key == "repository"))
    );
    registry.execute_batch("ROLLBACK")?;
    wait_until("the repository is found again", Duration::from_secs(60), || {
        Ok(words(&sink.deliver(requests(&datasets)))
            .iter()
            .all(|word| *word == "ingested"))
    })?;
    site.assert_registered(&datasets)
}

#[test]
fn a_file_that_takes_the_worker_down_is_singled_out_and_refused() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let datasets = site.products(&new_run("poison"), 8)?;
    let poison = datasets[5].uuid;
    let settings = spoilt(
        site,
        &format!(
            "import os\nfrom lsst.daf.butler import SerializedDatasetRef\n\
             plain = SerializedDatasetRef.model_validate_json\n\
             def spoilt(text):\n    if '{poison}' in text: os._exit(3)\n    return plain(text)\n\
             SerializedDatasetRef.model_validate_json = spoilt"
        ),
    )?;
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let batch = requests(&datasets);
    let settled = in_order(&batch, sink.deliver(batch.clone()));
    let (reason, detail) = refusal(&settled[5])?;
    ensure!(
        reason == Reason::Butler && detail.contains(&datasets[5].uri),
        "{detail}"
    );
    ensure!(words(&settled).iter().filter(|word| **word == "ingested").count() == 7);
    site.assert_absent(&datasets[5..6])
}

#[test]
fn a_worker_that_always_dies_does_not_loop() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let settings = spoilt(
        site,
        "import os\nfrom lsst.daf.butler import Butler\nButler.get_many_datasets = lambda *a: os._exit(3)\n\
         from lsst.daf.butler.direct_butler import DirectButler\nDirectButler.get_many_datasets = lambda *a: os._exit(3)",
    )?;
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let settled = sink.deliver(requests(&site.products(&new_run("always"), 4)?));
    ensure!(settled.iter().all(|answer| matches!(
        answer.outcome,
        Outcome::Waiting { counts: true, .. } | Outcome::Refused(_)
    )));
    ensure!(sink.stats().snapshot().worker_failures <= 8);
    Ok(())
}

#[test]
fn what_speaks_another_language_is_not_a_worker() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let batch = requests(&site.products(&new_run("nonsense"), 2)?);
    let commands: [&[&str]; 4] = [
        &["sh", "-c", "echo nonsense; cat > /dev/null"],
        &["sh", "-c", "echo '{\"proto\": 99}'; cat > /dev/null"],
        &["sh", "-c", "echo 'no such stack' >&2; exit 3"],
        &["/nowhere/python"],
    ];
    for (command, expected) in
        commands
            .iter()
            .zip(["cannot be read", "version 99", "no such stack", "/nowhere/python"])
    {
        let mut settings = settings(&site.root)?;
        settings.worker.command = command.iter().map(|part| (*part).into()).collect();
        let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
        ensure!(words(&sink.deliver(batch.clone())) == ["waiting", "waiting"]);
        let trouble = sink.stats().snapshot().trouble;
        ensure!(trouble.contains(expected), "{trouble}");
    }
    Ok(())
}

#[test]
fn a_site_can_source_its_stack_first_and_pass_its_environment() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut settings = settings(&site.root)?;
    let script = format!("test \"$STACK\" = here && exec {} \"$0\"", python()?.display());
    settings.worker.command = vec!["sh".into(), "-c".into(), script];
    settings.worker.environment.insert("STACK".into(), "here".into());
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let settled = sink.deliver(requests(&site.products(&new_run("stack"), 2)?));
    ensure!(words(&settled) == ["ingested", "ingested"]);
    let worker = sink.stats().snapshot().worker_id.context("no worker")?;
    drop(sink);
    let start = Instant::now();
    while fs::exists(format!("/proc/{worker}"))? && start.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    ensure!(
        !fs::exists(format!("/proc/{worker}"))?,
        "the worker outlives its sink"
    );
    Ok(())
}
