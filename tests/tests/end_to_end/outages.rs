//! A repository that is down while others go on, and two programs on one ledger.

use crate::{
    kafka::{committed, ensure_all_committed, get},
    site,
};
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Kafka, Postgres, free_port, python, root, wait_until};
use dbb_tests::{
    Recorded, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use std::{collections::BTreeSet, fs, process::Command, time::Duration};

#[test]
fn a_repository_that_is_down_waits_alone_and_costs_no_attempts() -> Result<()> {
    let (kafka, postgres) = (Kafka::shared()?, Postgres::shared()?);
    let brokers = kafka.bootstrap();
    let http = format!("127.0.0.1:{}", free_port()?);
    let registry = postgres.create_database("outage")?;
    let site = site(&format!(
        "--repositories main,prep --files 90 --faults none --late 0 --site OUT --kafka {brokers} --group-id out \
         --registry {registry} --http {http}"
    ))?;
    move_to_sqlite(&site, "main")?;
    let records = Recorded::of(&site)?;
    let mut topics = BTreeSet::new();
    create_topics(kafka, &records, 3, &mut topics)?;
    let mut publisher = Publisher::new(kafka, 3)?;
    let (first, second) = records.split_at(records.len() / 3);
    publisher.send(first)?;
    publisher.flush()?;
    let mut run = site.start(&[])?;
    run.until("both repositories have taken something", || {
        let tallies = if site.count(|_| true)? == 0 {
            Vec::new()
        } else {
            site.ledger()?.summary()?
        };
        let done = |name: &str| {
            tallies
                .iter()
                .any(|tally| tally.target == name && tally.outcome == State::Ingested)
        };
        Ok(done("main") && done("prep"))
    })?;

    rename(postgres, "outage", "outage_away")?;
    publisher.send(second)?;
    publisher.flush()?;
    run.until(
        "all offsets are committed although one repository is down",
        || Ok(ensure_all_committed(kafka, "out", &publisher).is_ok()),
    )?;
    let tallies = site.ledger()?.summary()?;
    let waiting = |name: &str| -> u64 {
        tallies
            .iter()
            .filter(|t| t.target == name && t.outcome == State::Waiting)
            .map(|t| t.count)
            .sum()
    };
    ensure!(waiting("prep") > 10, "who is down does not wait: {tallies:?}");
    let (rows, attempts) = attempts_for_the_repository(&site)?;
    ensure!(
        rows > 10 && attempts == 0,
        "{rows} rows wait, up to {attempts} attempts were counted while it was down"
    );
    ensure!(
        site.count(|state| state == State::Refused)? == 0,
        "something was refused"
    );

    let mut readiness = String::new();
    run.until("it is not ready", || {
        readiness = get(&http, "/readyz")?;
        Ok(readiness.starts_with("HTTP/1.1 503"))
    })?;
    ensure!(
        readiness.contains("repository prep") && !readiness.contains("repository main"),
        "{readiness}"
    );
    ensure!(
        get(&http, "/livez")?.starts_with("HTTP/1.1 200"),
        "it is alive all the same"
    );

    rename(postgres, "outage_away", "outage")?;
    run.until("nothing waits for the repository", || {
        Ok(attempts_for_the_repository(&site)?.0 == 0)
    })?;
    run.terminate()?.with(0)?;
    site.run_once(&[])?.with(0)?;
    let places = publisher.places();
    ensure!(
        !committed(
            kafka,
            "out",
            places.keys().map(|(topic, partition, _)| (topic, *partition))
        )?
        .is_empty()
    );
    site.prove(Again::Perhaps)
}

/// How many rows wait for a repository, and the most attempts that were counted for one of them.
fn attempts_for_the_repository(site: &Site) -> Result<(u64, u64)> {
    let ledger = rusqlite::Connection::open(site.ledger_url().trim_start_matches("sqlite:"))?;
    ledger.busy_timeout(Duration::from_secs(20))?;
    let sql = "SELECT count(*), coalesce(max(attempts), 0) FROM events WHERE outcome = 5 AND waits_for = 'repository'";
    let (rows, attempts): (i64, i64) = ledger.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((rows.try_into()?, attempts.try_into()?))
}

/// Makes the database unreachable by its name: its sessions end and new ones find nothing.
fn rename(postgres: &Postgres, from: &str, to: &str) -> Result<()> {
    wait_until("the database is renamed", Duration::from_secs(30), || {
        let end =
            format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{from}'");
        postgres.sql("postgres", &end)?;
        // Between the two statements somebody may have come back.
        Ok(postgres
            .sql("postgres", &format!("ALTER DATABASE {from} RENAME TO {to}"))
            .is_ok())
    })
}

/// Nobody can write down what was done: what has no outcome is left, and read again by the next run.
#[test]
fn who_is_asked_to_stop_while_the_ledger_is_away_leaves_in_time_and_nothing_is_lost() -> Result<()> {
    let (kafka, mut postgres) = (Kafka::shared()?, Postgres::start()?);
    let brokers = kafka.bootstrap();
    let (ledger, registry) = (
        postgres.create_database("ledger")?,
        postgres.create_database("registry")?,
    );
    let site = site(&format!(
        "--files 60 --faults none --late 0 --site STR --kafka {brokers} --group-id str --ledger {ledger} \
         --registry {registry}"
    ))?;
    let records = Recorded::of(&site)?;
    create_topics(kafka, &records, 3, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(kafka, 3)?;
    let (first, second) = records.split_at(records.len() / 3);
    publisher.send(first)?;
    publisher.flush()?;
    let mut run = site.start(&["--set", "shutdown.drain_seconds=3"])?;
    run.until("something is done", || {
        Ok(site.count(|state| state == State::Ingested)? > 0)
    })?;
    postgres.stop()?;
    publisher.send(second)?;
    publisher.flush()?;
    let log = run.log().to_owned();
    run.until("it has noticed", || {
        Ok(fs::read_to_string(&log)?.contains("the ledger cannot be written"))
    })?;
    let ended = run.terminate()?.with(0)?;
    ensure!(ended.text.contains("it will be read again"), "{}", ended.text);
    postgres.start_again()?;
    site.run_once(&[])?;
    ensure_all_committed(kafka, "str", &publisher)?;
    site.prove(Again::Perhaps)
}

/// Makes one repository of a site anew, with a registry of its own.
fn move_to_sqlite(site: &Site, name: &str) -> Result<()> {
    fs::remove_dir_all(site.path().join("repo").join(name))?;
    let script = "import sys\nsys.path.insert(0, sys.argv[1])\nfrom demosite import repo, world\n\
                  from lsst.daf.butler import Config\nw = world.World.load(sys.argv[2])\n\
                  repo.make_repository(w.butler(sys.argv[3]), Config(), w.detectors, w.with_role('known'))\n";
    let output = Command::new(python()?)
        .args(["-c", script])
        .arg(root().join("dataflows/src/demo"))
        .args([site.path().as_os_str(), name.as_ref()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn of_two_programs_on_one_ledger_the_older_leaves_and_nothing_is_lost() -> Result<()> {
    let mut site = site("--files 60 --faults none --late 0 --zips 0 --event-files 3")?;
    site.set("source.log.follow=true");
    let folder = site.path().join("events");
    let held: Vec<_> = ["0002.ndjson", "0003.ndjson"]
        .into_iter()
        .map(|name| Ok((folder.join(name), fs::read(folder.join(name))?)))
        .collect::<Result<_>>()?;
    for (path, _) in &held {
        fs::remove_file(path)?;
    }
    let mut older = site.start(&[])?;
    older.until("the first file is done", || {
        Ok(site.count(|state| state == State::Ingested)? > 10)
    })?;
    let generation = site.ledger()?.holder()?.context("nobody holds the ledger")?.0;

    let mut newer = site.start(&[])?;
    newer.until("it holds the ledger", || {
        Ok(site.ledger()?.holder()?.is_some_and(|(now, _)| now != generation))
    })?;
    // Both see these; only one may write.
    for (path, bytes) in &held {
        fs::write(path, bytes)?;
    }
    let ended = older.end()?;
    ensure!(
        ended.status == 78,
        "the older ended with {}:\n{}",
        ended.status,
        ended.text
    );
    ensure!(
        ended.text.contains("another dbb"),
        "the older does not say why it ends:\n{}",
        ended.text
    );
    let expected = site.expected()?.totals.events;
    newer.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    newer.terminate()?.with(0)?;
    site.prove(Again::Perhaps)
}
