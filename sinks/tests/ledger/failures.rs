//! A ledger that cannot be opened or written says which, and why, and loses nothing.

use crate::support::{On, entry, new, on_both, sqlite_url, waiting};
use dbb_events::{Dependency, Did, EventId, Outcome, Rse};
use dbb_sinks::ledger::{Ledger, LedgerError, LedgerSettings, Selector, migrate};
use dbb_test_services::Postgres;

on_both! {
    at_its_configured_size_it_says_so_and_writes_nothing
    migrating_a_new_ledger_makes_it_and_again_changes_nothing
}

fn open(url: &str) -> LedgerError {
    let settings = LedgerSettings {
        url: url.into(),
        ..LedgerSettings::default()
    };
    Ledger::open(&settings).unwrap_err()
}

fn at_its_configured_size_it_says_so_and_writes_nothing(on: On) {
    let mut place = new(on);
    let (mut ledger, _) = place.begin();
    let bytes = ledger.size_bytes().unwrap();
    assert!(bytes > 0);
    place.settings.max_bytes = Some(bytes);
    let (mut ledger, generation) = place.begin();
    let error = ledger
        .write(generation, &[entry(1, Outcome::Ingested, 20)])
        .unwrap_err();
    assert!(
        matches!(error, LedgerError::Full { max, .. } if max == bytes),
        "{error}"
    );
    // Room may be made: the writer goes on trying.
    assert!(error.is_transient());
    assert!(error.to_string().contains("ledger.max_bytes"), "{error}");
    assert!(ledger.states("main", &[EventId(1)]).unwrap().is_empty());
}

fn migrating_a_new_ledger_makes_it_and_again_changes_nothing(on: On) {
    let place = new(on);
    let (before, newest) = migrate(&place.settings).unwrap();
    assert_eq!(before, 0);
    assert_eq!(migrate(&place.settings).unwrap(), (newest, newest));
    place.begin();
}

/// As ledgers were before attempts had durations.
const WITHOUT_DURATIONS: &str = "ALTER TABLE events DROP COLUMN took, DROP COLUMN tries; \
                                 ALTER TABLE attempts DROP COLUMN took; DROP TABLE durations;";

/// As ledgers were before they had numbers of their own.
const WITHOUT_MARKS: &str = "ALTER TABLE offsets DROP COLUMN counted_of, DROP COLUMN handled_of; \
                             DELETE FROM meta WHERE key IN ('identity', 'mark');";

#[test]
fn files_of_a_ledger_without_rses_learn_theirs() {
    let place = new(On::Postgres);
    let (mut ledger, generation) = place.begin();
    let elsewhere = Outcome::AlreadyThereElsewhere { uri: "/x".into() };
    let entries = [entry(1, Outcome::Ingested, 20), entry(2, elsewhere, 20)];
    ledger.write(generation, &entries).unwrap();
    let database = place.settings.url.rsplit_once('/').unwrap().1;
    let sql = format!(
        "{WITHOUT_DURATIONS} {WITHOUT_MARKS} ALTER TABLE files DROP COLUMN rse; DROP TABLE lanes; DROP TABLE gaps; DROP TABLE holder; \
         UPDATE meta SET value = 1 WHERE key = 'schema'"
    );
    Postgres::shared().unwrap().sql(database, &sql).unwrap();
    let (before, newest) = migrate(&place.settings).unwrap();
    assert!(before == 1 && newest > 1);
    let dids = [Did::new("raw", "f1"), Did::new("raw", "f2")];
    let applied = place.open().applied("main", &dids).unwrap();
    assert_eq!(applied[&dids[0]].rse, Some(Rse::new("IN2P3")));
    assert_eq!(applied[&dids[1]].rse, None);
}

#[test]
fn rows_of_a_ledger_without_durations_stay_and_tell_none() {
    let place = new(On::Postgres);
    let (mut ledger, generation) = place.begin();
    let waits = waiting(Dependency::Time, 50, true);
    ledger.write(generation, &[entry(1, waits, 20)]).unwrap();
    let database = place.settings.url.rsplit_once('/').unwrap().1;
    let sql = format!("{WITHOUT_DURATIONS} UPDATE meta SET value = 5 WHERE key = 'schema'");
    Postgres::shared().unwrap().sql(database, &sql).unwrap();
    assert_eq!(migrate(&place.settings).unwrap(), (5, 6));
    let mut ledger = place.open();
    ledger
        .write(generation, &[entry(1, Outcome::Ingested, 30)])
        .unwrap();
    let story = ledger.explain(&Selector::Did(Did::new("raw", "f1"))).unwrap();
    let (row, history) = &story[0].events[0];
    assert_eq!((row.took, row.tries, history[0].took), (None, 0, None));
    assert_eq!(ledger.durations().unwrap(), []);
}

#[test]
fn a_missing_folder_is_named() {
    let error = open("sqlite:/no/such/folder/ledger.sqlite");
    assert!(matches!(error, LedgerError::Configuration(_)));
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}

#[test]
fn a_file_that_is_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let text = "this is a letter, and not a ledger at all\n".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let error = open(&sqlite_url(folder.path()));
    assert!(error.to_string().contains("is not a ledger"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_ledger_of_another_version_says_what_to_do() {
    let place = new(On::Postgres);
    place.begin();
    let database = place.settings.url.rsplit_once('/').unwrap().1;
    let shared = Postgres::shared().unwrap();
    let set = |schema: i64| {
        shared
            .sql(
                database,
                &format!("UPDATE meta SET value = {schema} WHERE key = 'schema'"),
            )
            .unwrap()
    };
    set(99);
    let error = Ledger::open(&place.settings).unwrap_err();
    assert!(matches!(error, LedgerError::Newer { found: 99, .. }), "{error}");
    assert!(migrate(&place.settings).is_err());
    set(0);
    let error = Ledger::open(&place.settings).unwrap_err();
    assert!(error.to_string().contains("dbb ledger migrate"), "{error}");
}

#[test]
fn a_ledger_without_lanes_is_taken_to_the_present_one_with_all_it_has() {
    let place = new(On::Postgres);
    let (mut ledger, generation) = place.begin();
    ledger
        .write(generation, &[entry(1, Outcome::Ingested, 20)])
        .unwrap();
    let database = place.settings.url.rsplit_once('/').unwrap().1;
    let shared = Postgres::shared().unwrap();
    let before = format!(
        "{WITHOUT_DURATIONS} {WITHOUT_MARKS} DROP TABLE lanes; DROP TABLE gaps; DROP TABLE holder; \
         UPDATE meta SET value = 2 WHERE key = 'schema'"
    );
    shared.sql(database, &before).unwrap();
    let error = Ledger::open(&place.settings).unwrap_err();
    assert!(matches!(error, LedgerError::Older { found: 2, .. }), "{error}");
    assert_eq!(migrate(&place.settings).unwrap().0, 2);
    let mut ledger = place.open();
    assert_eq!(ledger.states("main", &[EventId(1)]).unwrap().len(), 1);
    assert!(ledger.numbers().unwrap().is_empty());
    assert_ne!(ledger.mark().unwrap().ledger, 0, "it has a number of its own now");
}

#[test]
fn a_server_that_is_away_is_worth_waiting_for_and_a_missing_database_is_not() {
    let port = dbb_test_services::free_port().unwrap();
    let error = open(&format!("postgresql://postgres@127.0.0.1:{port}/x"));
    assert!(error.is_transient(), "{error}");
    let error = open(&Postgres::shared().unwrap().url("no_such_database"));
    assert!(matches!(error, LedgerError::Configuration(_)), "{error}");
}

#[test]
fn a_killed_server_loses_nothing_it_acknowledged_and_the_same_handle_goes_on() {
    let mut server = Postgres::start().unwrap();
    let settings = LedgerSettings {
        url: server.create_database("site").unwrap(),
        ..LedgerSettings::default()
    };
    let mut ledger = Ledger::open(&settings).unwrap();
    let generation = ledger.begin_generation(&crate::support::who()).unwrap();
    for round in 0..3u128 {
        ledger
            .write(generation, &[entry(round * 2, Outcome::Ingested, 20)])
            .unwrap();
        server.kill().unwrap();
        let lost = [entry(round * 2 + 1, Outcome::Ingested, 20)];
        let error = ledger.write(generation, &lost).unwrap_err();
        assert!(error.is_transient(), "{error}");
        server.start_again().unwrap();
        // Sessions of a killed server end a moment later; the writer tries again as this does.
        let mut tries = 0;
        while let Err(e) = ledger.write(generation, &lost) {
            assert!(e.is_transient() && tries < 100, "{e}");
            tries += 1;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    let all: Vec<EventId> = (0..6).map(EventId).collect();
    assert_eq!(ledger.states("main", &all).unwrap().len(), 6);
}

#[test]
fn who_only_reads_does_not_notice_that_the_server_was_started_again() {
    let mut server = Postgres::start().unwrap();
    let settings = LedgerSettings {
        url: server.create_database("site").unwrap(),
        ..LedgerSettings::default()
    };
    let mut ledger = Ledger::open(&settings).unwrap();
    for round in 0..2 {
        assert_eq!(ledger.dead_letter_count().unwrap(), 0);
        if round == 0 {
            server.kill().unwrap();
        } else {
            server.stop().unwrap();
        }
        server.start_again().unwrap();
    }
    assert!(ledger.states("main", &[EventId(1)]).unwrap().is_empty());
    server.stop().unwrap();
    let error = ledger.states("main", &[EventId(1)]).unwrap_err();
    assert!(error.is_transient(), "{error}");
}

/// On one megabyte of tmpfs. Only root may mount it; for others the same class of error is tested beside the
/// SQLite code, by a limit on pages.
#[test]
fn a_full_disk_is_named_and_what_was_written_before_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none", &path])
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        println!("not allowed to mount a tmpfs: not tested here");
        return;
    }
    let done = std::panic::catch_unwind(|| {
        let settings = LedgerSettings {
            url: sqlite_url(folder.path()),
            ..LedgerSettings::default()
        };
        let mut ledger = Ledger::open(&settings).unwrap();
        let generation = ledger.begin_generation(&crate::support::who()).unwrap();
        let mut written = 0u128;
        let error = loop {
            let batch: Vec<_> = (written..written + 100)
                .map(|n| entry(n, Outcome::Ingested, 20))
                .collect();
            match ledger.write(generation, &batch) {
                Ok(_) => written += 100,
                Err(e) => break e,
            }
        };
        assert!(matches!(error, LedgerError::DiskFull { .. }), "{error}");
        assert!(error.is_transient());
        let all: Vec<EventId> = (0..written + 100).map(EventId).collect();
        assert_eq!(ledger.states("main", &all).unwrap().len(), written as usize);
    });
    let _ = std::process::Command::new("umount").arg(&path).status();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// A disk that hangs, a process that is stopped: connections stay, bytes are taken, and nothing is answered.
#[test]
fn a_server_that_hangs_is_one_that_is_away_and_goes_on_when_it_does() {
    let mut postgres = Postgres::start().unwrap();
    let settings = LedgerSettings {
        url: postgres.create_database("ledger").unwrap(),
        ..LedgerSettings::default()
    };
    let mut ledger = Ledger::open(&settings).unwrap();
    let generation = ledger.begin_generation(&crate::support::who()).unwrap();
    ledger.set_limit(std::time::Duration::from_secs(1));
    let mut write = |event| ledger.write(generation, &[entry(event, Outcome::Ingested, 20)]);
    write(1).unwrap();
    let frozen = postgres.freeze().unwrap();
    // The first call has a session, the second must have one; nobody waits for ever for either.
    for _ in 0..2 {
        let error = write(2).unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("does not answer"),
            "{error}"
        );
    }
    drop(frozen);
    write(2).unwrap();
    write(3).unwrap();
    let rows = postgres.sql("ledger", "SELECT count(*) FROM events").unwrap();
    assert_eq!(rows, "3");
}

#[test]
fn a_table_that_somebody_has_locked_is_waited_for_and_not_for_ever() {
    let place = new(On::Postgres);
    let (mut ledger, generation) = place.begin();
    ledger.set_limit(std::time::Duration::from_secs(1));
    ledger
        .write(generation, &[entry(1, Outcome::Ingested, 20)])
        .unwrap();
    let mut other = ::postgres::Client::connect(&place.settings.url, ::postgres::NoTls).unwrap();
    let mut locked = other.transaction().unwrap();
    locked
        .batch_execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let error = ledger
        .write(generation, &[entry(2, Outcome::Ingested, 20)])
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    locked.rollback().unwrap();
    ledger
        .write(generation, &[entry(2, Outcome::Ingested, 20)])
        .unwrap();
}
