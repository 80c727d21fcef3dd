//! A ledger that is lost or older than it was, a topic that is made again, a broker that freezes.

use crate::{
    kafka::{ensure_all_committed, get},
    site,
};
use anyhow::{Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Kafka, Postgres, free_port};
use dbb_tests::{
    Recorded, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

/// A site on a Kafka of its own or the shared one, its records, and who publishes them.
struct Made {
    site: Site,
    records: Vec<Recorded>,
    publisher: Publisher,
    http: String,
}

fn made(kafka: &Kafka, name: &str, more: &str) -> Result<Made> {
    let http = format!("127.0.0.1:{}", free_port()?);
    let group = name.to_lowercase();
    let mut site = site(&format!(
        "--files 60 --faults none --site {name} --kafka {} --group-id {group} --http {http} {more}",
        kafka.bootstrap()
    ))?;
    site.set("source.kafka.discover_seconds=1");
    let records = Recorded::of(&site)?;
    create_topics(kafka, &records, 3, &mut BTreeSet::new())?;
    let publisher = Publisher::new(kafka, 3)?;
    Ok(Made {
        site,
        records,
        publisher,
        http,
    })
}

fn sqlite(site: &Site) -> PathBuf {
    site.ledger_url().trim_start_matches("sqlite:").into()
}

/// The ledger's file, and what SQLite keeps beside it.
fn files(site: &Site) -> Vec<PathBuf> {
    let path = sqlite(site).display().to_string();
    ["", "-wal", "-shm"]
        .map(|suffix| format!("{path}{suffix}").into())
        .into()
}

fn remove(site: &Site) {
    for path in files(site) {
        // What is beside it may have gone with the last connection.
        let _ = fs::remove_file(path);
    }
}

/// What waits for its dimension records is nowhere but in the ledger: the offsets above it are committed.
#[test]
fn a_ledger_removed_between_two_runs_loses_no_file_that_waited_in_it() -> Result<()> {
    let kafka = Kafka::shared()?;
    let Made {
        site,
        records,
        mut publisher,
        http,
    } = made(kafka, "GON", "--late 20")?;
    let (first, second) = records.split_at(records.len() / 2);
    publisher.send(first)?;
    publisher.flush()?;
    site.run_once(&[])?;
    ensure_all_committed(kafka, "gon", &publisher)?;
    remove(&site);
    let (status, text, _) = site.dbb(&["check"], &["--connect"])?;
    ensure!(
        status == 1 && text.contains("goes back to offset 0"),
        "{status}: {text}"
    );
    publisher.send(second)?;
    publisher.flush()?;
    let mut run = site.start(&[])?;
    let mut readiness = String::new();
    run.until("it says so", || {
        readiness = get(&http, "/readyz").unwrap_or_default();
        Ok(readiness.contains("is another than that which has"))
    })?;
    ensure!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
    ensure!(get(&http, "/livez")?.starts_with("HTTP/1.1 200"), "it is alive");
    let metrics = get(&http, "/metrics")?;
    ensure!(
        metrics.contains("dbb_source_findings{reason=\"ledger_lost\"}"),
        "{metrics}"
    );
    run.terminate()?.with(0)?;
    site.run_once(&[])?;
    ensure_all_committed(kafka, "gon", &publisher)?;
    site.prove(Again::Perhaps)?;
    // The mark of the new one is beside the offsets now.
    let (_, text, _) = site.dbb(&["check"], &["--connect"])?;
    ensure!(!text.contains("goes back"), "{text}");
    Ok(())
}

#[test]
fn a_ledger_removed_under_a_run_ends_it_and_the_next_one_loses_nothing() -> Result<()> {
    let kafka = Kafka::shared()?;
    let Made {
        site,
        records,
        mut publisher,
        ..
    } = made(kafka, "UNL", "--late 20")?;
    let (first, second) = records.split_at(records.len() / 2);
    publisher.send(first)?;
    publisher.flush()?;
    let mut run = site.start(&[])?;
    run.until("something is done", || {
        Ok(site.count(|state| state == State::Ingested)? > 5)
    })?;
    remove(&site);
    publisher.send(second)?;
    publisher.flush()?;
    let ended = run.end()?.with(75)?;
    ensure!(
        ended.text.contains("was removed while it was open"),
        "{}",
        ended.text
    );
    site.run_once(&[])?;
    ensure_all_committed(kafka, "unl", &publisher)?;
    site.prove(Again::Perhaps)
}

#[test]
fn a_ledger_that_is_an_older_copy_is_noticed_and_what_it_lacks_is_read_again() -> Result<()> {
    let kafka = Kafka::shared()?;
    let Made {
        site,
        records,
        mut publisher,
        ..
    } = made(kafka, "OLC", "--late 20")?;
    let (first, second) = records.split_at(records.len() / 3);
    publisher.send(first)?;
    publisher.flush()?;
    site.run_once(&[])?;
    let copy: Vec<(PathBuf, Vec<u8>)> = files(&site)
        .into_iter()
        .filter_map(|path| Some((path.clone(), fs::read(path).ok()?)))
        .collect();
    publisher.send(second)?;
    publisher.flush()?;
    site.run_once(&[])?;
    ensure_all_committed(kafka, "olc", &publisher)?;
    remove(&site);
    for (path, bytes) in copy {
        fs::write(path, bytes)?;
    }
    let (status, text, _) = site.dbb(&["check"], &["--connect"])?;
    ensure!(
        status == 1 && text.contains("is older than it was"),
        "{status}: {text}"
    );
    let ended = site.run_once(&[])?;
    ensure!(ended.text.contains("is older than it was"), "{}", ended.text);
    site.prove(Again::Perhaps)
}

#[test]
fn a_postgresql_ledger_restored_from_a_backup_under_a_run_ends_it_and_nothing_is_lost() -> Result<()> {
    let (kafka, postgres) = (Kafka::shared()?, Postgres::start()?);
    let ledger = postgres.create_database("ledger")?;
    let registry = postgres.create_database("registry")?;
    let more = format!("--late 20 --ledger {ledger} --registry {registry}");
    let Made {
        site,
        records,
        mut publisher,
        ..
    } = made(kafka, "BAK", &more)?;
    let (first, second) = records.split_at(records.len() / 3);
    publisher.send(first)?;
    publisher.flush()?;
    site.run_once(&[])?;
    postgres.sql("postgres", "CREATE DATABASE backup TEMPLATE ledger")?;
    publisher.send(second)?;
    publisher.flush()?;
    let mut run = site.start(&[])?;
    run.until("all is committed", || {
        Ok(ensure_all_committed(kafka, "bak", &publisher).is_ok())
    })?;
    postgres.sql("postgres", "ALTER DATABASE ledger ALLOW_CONNECTIONS false")?;
    postgres.sql(
        "postgres",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'ledger'",
    )?;
    std::thread::sleep(Duration::from_millis(500));
    postgres.sql("postgres", "ALTER DATABASE ledger RENAME TO gone")?;
    postgres.sql("postgres", "ALTER DATABASE backup RENAME TO ledger")?;
    let ended = run.end()?.with(75)?;
    ensure!(
        ended.text.contains("an older copy has taken its place"),
        "{}",
        ended.text
    );
    let ended = site.run_once(&[])?;
    ensure!(ended.text.contains("is older than it was"), "{}", ended.text);
    ensure_all_committed(kafka, "bak", &publisher)?;
    site.prove(Again::Perhaps)
}

/// The old topics have the first half, the new ones, under the same names, the second.
#[test]
fn topics_that_are_made_again_under_a_run_and_between_two_are_read_from_their_beginnings() -> Result<()> {
    for running in [true, false] {
        let kafka = Kafka::shared()?;
        let name = if running { "AGR" } else { "AGS" };
        let Made {
            site,
            records,
            mut publisher,
            http,
        } = made(kafka, name, "--late 0")?;
        let (first, second) = records.split_at(records.len() / 2);
        publisher.send(first)?;
        publisher.flush()?;
        site.run_once(&[])?;
        ensure_all_committed(kafka, &name.to_lowercase(), &publisher)?;
        let before = running.then(|| site.start(&[])).transpose()?;
        let topics: BTreeSet<&String> = records.iter().map(|record| &record.topic).collect();
        for topic in &topics {
            kafka.delete_topic(topic)?;
        }
        create_topics(kafka, &records, 3, &mut BTreeSet::new())?;
        // Places in the new topics: of those in the old ones nothing is left.
        let mut publisher = Publisher::new(kafka, 3)?;
        publisher.send(second)?;
        publisher.flush()?;
        let mut run = match before {
            Some(run) => run,
            None => site.start(&[])?,
        };
        run.until("it says so", || {
            Ok(get(&http, "/readyz").unwrap_or_default().contains("made again"))
        })?;
        let group = name.to_lowercase();
        run.until("all is committed", || {
            Ok(ensure_all_committed(kafka, &group, &publisher).is_ok())
        })?;
        run.terminate()?.with(0)?;
        site.run_once(&[])?;
        site.prove(Again::Perhaps)?;
    }
    Ok(())
}

#[test]
fn a_frozen_broker_is_named_in_time_and_its_first_file_comes_soon_after() -> Result<()> {
    let mut kafka = Kafka::start()?;
    let Made {
        site,
        records,
        mut publisher,
        http,
    } = made(&kafka, "FRZ", "--late 0")?;
    let (first, second) = records.split_at(records.len() / 2);
    publisher.send(first)?;
    publisher.flush()?;
    let mut run = site.start(&[])?;
    run.until("all is committed", || {
        Ok(ensure_all_committed(&kafka, "frz", &publisher).is_ok())
    })?;
    run.until("it is ready", || {
        Ok(get(&http, "/readyz")?.starts_with("HTTP/1.1 200"))
    })?;
    kafka.signal(0, "STOP")?;
    let frozen = std::time::Instant::now();
    run.until("it says who", || {
        Ok(get(&http, "/readyz")?.contains("has not answered"))
    })?;
    let named = frozen.elapsed();
    ensure!(get(&http, "/livez")?.starts_with("HTTP/1.1 200"), "it is alive");
    std::thread::sleep(Duration::from_secs(15));
    ensure!(get(&http, "/livez")?.starts_with("HTTP/1.1 200"), "it is alive");
    let before = site.count(|_| true)?;
    kafka.signal(0, "CONT")?;
    publisher.send(second)?;
    publisher.flush()?;
    let back = std::time::Instant::now();
    run.until("a file has an outcome", || Ok(site.count(|_| true)? > before))?;
    println!(
        "named after {named:?}, first outcome {:?} after the return",
        back.elapsed()
    );
    run.until("it is ready again", || {
        Ok(get(&http, "/readyz")?.starts_with("HTTP/1.1 200"))
    })?;
    run.until("all is committed", || {
        Ok(ensure_all_committed(&kafka, "frz", &publisher).is_ok())
    })?;
    let lines = run
        .text()
        .lines()
        .filter(|line| line.contains("does not answer"))
        .count();
    ensure!(lines <= 4, "told {lines} times");
    run.terminate()?.with(0)?;
    site.prove(Again::Perhaps)
}
