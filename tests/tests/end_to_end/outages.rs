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
use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn a_repository_that_is_down_waits_alone_and_costs_no_attempts() -> Result<()> {
    let (kafka, postgres) = (Kafka::shared()?, Postgres::shared()?);
    let brokers = kafka.bootstrap();
    let http = format!("127.0.0.1:{}", free_port()?);
    let registry = postgres.create_database("outage")?;
    let mut site = site(&format!(
        "--repositories main,prep --files 90 --faults none --late 0 --site OUT --kafka {brokers} --group-id out \
         --registry {registry} --http {http}"
    ))?;
    // Nothing comes back by its timer: the repository is looked after without a request.
    site.set("repositories.prep.patience.down_retry_s=3000");
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
fn of_two_programs_on_one_ledger_the_newer_is_refused_unless_it_was_told_to_take_over() -> Result<()> {
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
    let generation = site
        .ledger()?
        .holder()?
        .context("nobody holds the ledger")?
        .generation;

    // It is not taken by accident: the other is named, and left alone.
    let refused = site.start(&[])?.end()?.with(75)?;
    let named = format!("process {} on host", older.id());
    ensure!(
        refused.text.contains(&named) && refused.text.contains("--take-over"),
        "{}",
        refused.text
    );
    ensure!(older.is_running(), "the older ended:\n{}", older.text());

    let mut newer = site.start(&["--take-over"])?;
    newer.until("it holds the ledger", || {
        Ok(site
            .ledger()?
            .holder()?
            .is_some_and(|now| now.generation != generation))
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

/// A supervisor starts it again at once: its predecessor holds the ledger, and is gone.
#[test]
fn who_starts_after_a_kill_takes_up_work_at_once() -> Result<()> {
    const KILLS: usize = 3;
    const IN_FLIGHT: usize = 8;
    let mut site = site("--files 60 --faults none --late 0 --zips 0 --event-files 3")?;
    site.set("source.log.follow=true");
    site.set(format!("limits.max_in_flight_events={IN_FLIGHT}"));
    site.set(format!("batching.max_datasets={IN_FLIGHT}"));
    for round in 0..KILLS {
        let mut run = site.start(&[])?;
        let begun = Instant::now();
        let done = site.count(|_| true)?;
        let (log, from) = (run.log().to_owned(), run.begin());
        run.until("it holds the ledger", || {
            // The file is there once it has said something.
            let text = fs::read(&log).unwrap_or_default();
            Ok(String::from_utf8_lossy(text.get(from..).unwrap_or_default()).contains("holding the ledger"))
        })?;
        println!("held the ledger after {:.1} s", begun.elapsed().as_secs_f64());
        run.until("it works", || Ok(site.count(|_| true)? > done || round > 0))?;
        ensure!(!run.text().contains("waiting for a moment"), "{}", run.text());
        run.kill()?;
    }
    site.settle_after(Again::AtMost(KILLS * IN_FLIGHT))
}

/// Connections stay, bytes are taken, and nothing is answered: the program lives, and says who hangs.
#[test]
fn a_database_that_hangs_is_named_and_all_goes_on_when_it_does() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let (ledger, registry) = (
        postgres.create_database("ledger")?,
        postgres.create_database("registry")?,
    );
    let http = format!("127.0.0.1:{}", free_port()?);
    let mut site = site(&format!(
        "--files 60 --faults none --late 0 --zips 0 --event-files 3 --ledger {ledger} --registry {registry} --http {http}"
    ))?;
    site.set("source.log.follow=true");
    let later = site.path().join("events/0003.ndjson");
    let held = fs::read(&later)?;
    fs::remove_file(&later)?;
    let mut run = site.start(&[])?;
    run.until("the first files are done", || {
        Ok(site.count(|state| state == State::Ingested)? > 10)
    })?;
    let frozen = postgres.freeze()?;
    let begun = Instant::now();
    fs::write(&later, held)?;
    run.until("it says who hangs", || {
        let readiness = get(&http, "/readyz")?;
        Ok(readiness.starts_with("HTTP/1.1 503") && readiness.contains("ledger"))
    })?;
    println!("named after {:.1} s", begun.elapsed().as_secs_f64());
    // Long enough for every call that was under way to be given up.
    let wait = Duration::from_secs(30).saturating_sub(begun.elapsed());
    std::thread::sleep(wait);
    let liveness = get(&http, "/livez")?;
    ensure!(liveness.starts_with("HTTP/1.1 200"), "{liveness}");
    let told = run.text().matches("the ledger cannot be written").count();
    ensure!(told <= 1, "the same was said {told} times:\n{}", run.text());
    drop(frozen);
    let begun = Instant::now();
    let done = site.count(State::is_settled)?;
    run.until("work goes on", || Ok(site.count(State::is_settled)? > done))?;
    println!("went on after {:.1} s", begun.elapsed().as_secs_f64());
    let expected = site.expected()?.totals.events;
    run.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    run.until("it is ready", || {
        Ok(get(&http, "/readyz")?.starts_with("HTTP/1.1 200"))
    })?;
    run.terminate()?.with(0)?;
    site.prove(Again::Perhaps)
}
