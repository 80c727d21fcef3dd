//! The outbox source against a real PostgreSQL with Rucio's table of messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_database::Kept;
use dbb_events::Received;
use dbb_sources::{
    Extent, Offsets, OutboxSettings, Partition, Polled, Source, SourceError,
    outbox::{self, OutboxStatistics},
};
use dbb_test_services::{PgBouncer, PoolMode, Postgres, wait_until};
use postgres::{Client, NoTls};
use std::{
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// As Rucio 41.5 makes it in PostgreSQL.
const TABLE: &str = "CREATE TABLE messages (
    id UUID NOT NULL, event_type VARCHAR(256) NOT NULL, payload VARCHAR(4000) NOT NULL, payload_nolimit TEXT,
    services VARCHAR(256), created_at TIMESTAMP WITHOUT TIME ZONE, updated_at TIMESTAMP WITHOUT TIME ZONE,
    CONSTRAINT \"MESSAGES_ID_PK\" PRIMARY KEY (id),
    CONSTRAINT \"CREATED_NN\" CHECK (created_at IS NOT NULL), CONSTRAINT \"UPDATED_NN\" CHECK (updated_at IS NOT NULL));
    CREATE INDEX \"MESSAGES_SERVICES_IDX\" ON messages (services, event_type);";

/// A database with the table; the session of whoever writes it.
fn rucio(name: &str) -> (OutboxSettings, Client) {
    rucio_on(Postgres::shared().unwrap(), name)
}

fn rucio_on(postgres: &Postgres, name: &str) -> (OutboxSettings, Client) {
    let url = postgres.create_database(name).unwrap();
    let mut client = Client::connect(&url, NoTls).unwrap();
    client.batch_execute(TABLE).unwrap();
    let mut settings = OutboxSettings::of(url, "Syslog");
    settings.poll_ms = 20;
    (settings, client)
}

/// Row `n`, of second `n`, for each of `services`.
fn insert(client: &mut impl postgres::GenericClient, n: u32, services: &[&str]) {
    for service in services {
        client
            .execute(
                "INSERT INTO messages VALUES (gen_random_uuid(), 'transfer-DONE', $1, NULL, $2, \
                 timestamp '2026-11-21 00:00:00' + $3 * interval '1 second', now())",
                &[&format!("{{\"n\": {n}}}"), service, &f64::from(n)],
            )
            .unwrap();
    }
}

fn open(settings: &OutboxSettings) -> (Box<dyn Source>, OutboxStatistics) {
    let (mut sources, statistics) =
        outbox::open(settings, 0..2, &Extent::default(), &Offsets::new()).unwrap();
    assert_eq!(
        sources[1].poll(&mut Vec::new(), 10).unwrap(),
        Polled::Idle,
        "worker 0 reads"
    );
    (sources.remove(0), statistics)
}

fn read(source: &mut dyn Source, count: usize) -> Vec<Received> {
    let (mut records, start) = (Vec::new(), Instant::now());
    while records.len() < count {
        source.poll(&mut records, 1000).unwrap();
        assert!(
            start.elapsed() < PATIENCE,
            "{} of {count} rows came",
            records.len()
        );
        thread::sleep(Duration::from_millis(5));
    }
    records
}

fn more(source: &mut dyn Source) -> Vec<Received> {
    let (mut records, start) = (Vec::new(), Instant::now());
    while start.elapsed() < Duration::from_millis(700) {
        source.poll(&mut records, 1000).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    records
}

fn numbers(records: &[Received]) -> Vec<i64> {
    let number = |record: &Received| {
        let body: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
        assert_eq!(body["event_type"], "transfer-done");
        assert_eq!(body["id"].as_str().unwrap().len(), 32);
        body["payload"]["n"].as_i64().unwrap()
    };
    records.iter().map(number).collect()
}

fn ack(source: &mut dyn Source, record: &Received) {
    let partition = Partition {
        stream: record.place.stream.clone(),
        partition: record.place.partition,
    };
    source
        .ack(&Offsets::from([(partition, record.place.offset + 1)]))
        .unwrap();
}

/// What is left of a service.
fn left(client: &mut Client, service: &str) -> Vec<i64> {
    let rows = client
        .query(
            "SELECT (payload::json ->> 'n')::int8 FROM messages WHERE services = $1 ORDER BY created_at",
            &[&service],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn exactly_what_is_handled_is_removed_and_nobody_elses_rows_are_touched() {
    let (settings, mut rucio) = rucio("handled");
    for n in (0..10).rev() {
        insert(&mut rucio, n, &["Syslog", "activemq", "syslog"]);
    }
    let (mut source, statistics) = open(&settings);
    let records = read(&mut *source, 10);
    assert_eq!(numbers(&records), (0..10).collect::<Vec<_>>(), "the oldest first");
    assert_eq!(more(&mut *source), [], "a row is emitted once");
    ack(&mut *source, &records[3]);
    wait_until("four rows are removed", PATIENCE, || {
        Ok(left(&mut rucio, "Syslog").len() == 6)
    })
    .unwrap();
    ack(&mut *source, &records[6]);
    source.flush().unwrap();
    drop(source);
    assert_eq!(left(&mut rucio, "Syslog"), [7, 8, 9]);
    for other in ["activemq", "syslog"] {
        assert_eq!(left(&mut rucio, other).len(), 10);
    }
    assert_eq!(statistics.trouble(), None);
    // The next session gets the rest, at offsets of its own.
    let (mut source, _) = open(&settings);
    let again = read(&mut *source, 3);
    assert_eq!(numbers(&again), [7, 8, 9]);
    assert!(again[0].place.offset > records[9].place.offset);
    assert_eq!(again[0].place.stream.as_ref(), "outbox:127.0.0.1/handled/Syslog");
}

#[test]
fn rows_that_commit_late_or_are_locked_are_read_and_removed_like_others() {
    let (settings, mut rucio) = rucio("late");
    let (mut source, _) = open(&settings);
    let mut slow = Client::connect(&settings.url, NoTls).unwrap();
    let mut transaction = slow.transaction().unwrap();
    insert(&mut transaction, 1, &["Syslog"]);
    insert(&mut rucio, 5, &["Syslog"]);
    let newer = read(&mut *source, 1);
    ack(&mut *source, &newer[0]);
    wait_until("it is removed", PATIENCE, || {
        Ok(left(&mut rucio, "Syslog").is_empty())
    })
    .unwrap();
    transaction.commit().unwrap();
    let older = read(&mut *source, 1);
    assert_eq!(numbers(&older), [1], "older than what was read already");
    // Hermes looks at all rows, and holds those that it looks at locked for a moment.
    let mut hermes = slow.transaction().unwrap();
    hermes.query("SELECT id FROM messages FOR UPDATE", &[]).unwrap();
    insert(&mut rucio, 2, &["Syslog"]);
    ack(&mut *source, &older[0]);
    let next = read(&mut *source, 1);
    ack(&mut *source, &next[0]);
    wait_until("what nobody holds is removed", PATIENCE, || {
        Ok(left(&mut rucio, "Syslog") == [1])
    })
    .unwrap();
    assert_eq!(more(&mut *source), []);
    hermes.commit().unwrap();
    wait_until("and then the other", PATIENCE, || {
        Ok(left(&mut rucio, "Syslog").is_empty())
    })
    .unwrap();
}

#[test]
fn a_database_that_is_killed_costs_no_row_and_repeats_none() {
    let mut postgres = Postgres::start().unwrap();
    let (mut settings, mut rucio) = rucio_on(&postgres, "killed");
    settings.prefetch = 20;
    for n in 0..50 {
        insert(&mut rucio, n, &["Syslog"]);
    }
    let (mut source, statistics) = open(&settings);
    let first = read(&mut *source, 20);
    assert_eq!(more(&mut *source), [], "no more than the prefetch");
    postgres.kill().unwrap();
    ack(&mut *source, &first[9]);
    wait_until("the loss is noticed", PATIENCE, || {
        Ok(statistics.trouble().is_some())
    })
    .unwrap();
    postgres.start_again().unwrap();
    let second = read(&mut *source, 10);
    assert_eq!(statistics.trouble(), None);
    ack(&mut *source, second.last().unwrap());
    let third = read(&mut *source, 20);
    let all = [numbers(&first), numbers(&second), numbers(&third)].concat();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
    ack(&mut *source, third.last().unwrap());
    source.flush().unwrap();
    let mut rucio = Client::connect(&settings.url, NoTls).unwrap();
    assert_eq!(left(&mut rucio, "Syslog"), [0; 0]);
}

#[test]
fn a_second_reader_is_turned_away_and_so_is_a_role_that_may_not() {
    let (settings, mut rucio) = rucio("turned_away");
    let (source, _) = open(&settings);
    let error = outbox::open(&settings, 0..1, &Extent::default(), &Offsets::new())
        .err()
        .unwrap();
    assert!(matches!(error, SourceError::Unreachable { .. }));
    assert!(error.to_string().contains("another dbb reads it"), "{error}");
    drop(source);
    rucio
        .batch_execute("CREATE ROLE reader LOGIN; GRANT SELECT ON messages TO reader")
        .unwrap();
    let refused = |settings: &OutboxSettings, word: &str| {
        let error = outbox::check(settings).unwrap_err();
        assert!(
            !error.is_transient() && error.to_string().contains(word),
            "{error}"
        );
    };
    let mut other = settings.clone();
    other.url = settings.url.replace("postgres@", "reader@");
    refused(&other, "GRANT SELECT, DELETE ON \"public\".messages");
    other.schema = "dev".into();
    refused(&other, "`schema`");
    insert(&mut rucio, 1, &["Syslog"]);
    let report = outbox::check(&settings).unwrap();
    assert_eq!((report.rows, report.kept), (1, Kept::Direct));
    assert_eq!(report.services, ["Syslog"]);
}

#[test]
fn through_a_pooler_it_is_read_only_where_that_keeps_sessions() {
    let (direct, mut rucio) = rucio("pooled");
    insert(&mut rucio, 1, &["Syslog"]);
    let through = |mode: PoolMode| {
        let pooler = PgBouncer::start(Postgres::shared().unwrap(), mode).unwrap();
        let mut settings = direct.clone();
        settings.url = pooler.url("pooled");
        (pooler, settings)
    };
    let (_pooler, settings) = through(PoolMode::Session);
    assert_eq!(outbox::check(&settings).unwrap().kept, Kept::Pooled);
    let (mut source, _) = open(&settings);
    assert_eq!(numbers(&read(&mut *source, 1)), [1]);
    let error = outbox::open(&direct, 0..1, &Extent::default(), &Offsets::new()).err();
    assert!(error.unwrap().to_string().contains("another dbb reads it"));
    drop(source);

    let (_pooler, settings) = through(PoolMode::Transaction);
    for error in [
        outbox::check(&settings).err().unwrap(),
        outbox::open(&settings, 0..1, &Extent::default(), &Offsets::new())
            .err()
            .unwrap(),
    ] {
        assert!(
            !error.is_transient() && error.to_string().contains("connect directly"),
            "{error}"
        );
    }
}

#[test]
fn a_run_that_is_to_end_once_ends_when_the_table_is_empty() {
    let (settings, mut rucio) = rucio("once");
    (0..5).for_each(|n| insert(&mut rucio, n, &["Syslog"]));
    let extent = Extent {
        once: true,
        ..Extent::default()
    };
    let (mut sources, _) = outbox::open(&settings, 0..2, &extent, &Offsets::new()).unwrap();
    assert_eq!(sources[1].poll(&mut Vec::new(), 10).unwrap(), Polled::Finished);
    let records = read(&mut *sources[0], 5);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(sources[0].poll(&mut Vec::new(), 10).unwrap(), Polled::Idle);
    ack(&mut *sources[0], &records[4]);
    let start = Instant::now();
    while sources[0].poll(&mut Vec::new(), 10).unwrap() != Polled::Finished {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
    sources[0].flush().unwrap();
    assert_eq!(left(&mut rucio, "Syslog"), [0; 0]);
}
