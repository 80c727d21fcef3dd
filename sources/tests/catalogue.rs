//! The catalogue source against a real PostgreSQL, with Rucio's tables as far as it looks at them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::Received;
use dbb_sources::{
    CatalogueSettings, Polled, Source, SourceError,
    catalogue::{self, CHANGES, SNAPSHOT},
};
use dbb_test_services::Postgres;
use serde_json::Value;
use std::time::{Duration, Instant};

const RUCIO: &str = "
CREATE SCHEMA prod;
CREATE TYPE prod.replicas_state AS ENUM ('A', 'U', 'C', 'B', 'D', 'T');
CREATE TABLE prod.rses (id uuid PRIMARY KEY, rse varchar(255));
CREATE TABLE prod.replicas (
    scope varchar(25), name varchar(500), rse_id uuid, bytes bigint, md5 varchar(32), adler32 varchar(8),
    path varchar(1024), state prod.replicas_state, lock_cnt integer, accessed_at timestamp, tombstone timestamp,
    updated_at timestamp, created_at timestamp, PRIMARY KEY (scope, name, rse_id));
CREATE PUBLICATION dbb FOR TABLE prod.replicas;
INSERT INTO prod.rses VALUES ('00000000-0000-0000-0000-000000000001', 'SLAC_RAW_DISK');
INSERT INTO prod.replicas (scope, name, rse_id, bytes, adler32, state, updated_at) VALUES
    ('raw', 'a/it''s.fits', '00000000-0000-0000-0000-000000000001', 7, '00000a1b', 'A', now());";

fn database(name: &str) -> (&'static Postgres, CatalogueSettings) {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.create_database(name).unwrap();
    postgres.sql(name, RUCIO).unwrap();
    let mut settings = CatalogueSettings::of(url);
    settings.schema = "prod".into();
    settings.poll_ms = 5;
    (postgres, settings)
}

/// Polls until `count` records are there.
fn records(source: &mut dyn Source, count: usize) -> Vec<(i32, Value)> {
    let (mut batch, started) = (Vec::<Received>::new(), Instant::now());
    while batch.len() < count {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "only {} records",
            batch.len()
        );
        source.poll(&mut batch, 100).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let read = |record: Received| {
        (
            record.place.partition,
            serde_json::from_slice(&record.body).unwrap(),
        )
    };
    batch.into_iter().map(read).collect()
}

#[test]
fn the_table_comes_first_and_then_every_change_of_it() {
    let (postgres, settings) = database("catalogue_changes");
    let mut source = catalogue::open(&settings, false).unwrap();
    let first = records(&mut *source, 2);
    assert_eq!((first[0].0, &first[0].1["replicas"]), (SNAPSHOT, &1.into()));
    let row = &first[1].1;
    assert_eq!(
        (&row["name"], &row["rse"], &row["state"]),
        (&"a/it's.fits".into(), &"SLAC_RAW_DISK".into(), &"A".into())
    );
    // A new RSE, a birth, a change and a deletion, in one transaction.
    postgres
        .sql(
            "catalogue_changes",
            "BEGIN; \
             INSERT INTO prod.rses VALUES ('00000000-0000-0000-0000-000000000002', 'RAL_RAW_DISK'); \
             INSERT INTO prod.replicas (scope, name, rse_id, bytes, state) VALUES \
                ('raw', 'b', '00000000-0000-0000-0000-000000000002', NULL, 'C'); \
             UPDATE prod.replicas SET state = 'A' WHERE name = 'b'; \
             DELETE FROM prod.replicas WHERE name = 'a/it''s.fits'; COMMIT",
        )
        .unwrap();
    let changes = records(&mut *source, 3);
    let told: Vec<_> = changes
        .iter()
        .map(|(partition, row)| {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            (
                *partition,
                text("op"),
                text("rse"),
                text("name"),
                text("new_state"),
            )
        })
        .collect();
    let expected = [
        ("I", "RAL_RAW_DISK", "b", "C"),
        ("U", "RAL_RAW_DISK", "b", "A"),
        ("D", "SLAC_RAW_DISK", "a/it's.fits", "-"),
    ]
    .map(|(op, rse, name, state)| {
        (
            CHANGES,
            op.to_owned(),
            rse.to_owned(),
            name.to_owned(),
            state.to_owned(),
        )
    });
    assert_eq!(told, expected);
    let positions: Vec<_> = changes
        .iter()
        .map(|(_, row)| row["seq"].as_u64().unwrap())
        .collect();
    assert!(positions.is_sorted() && positions[0] > 0, "{positions:?}");
}

#[test]
fn a_lost_session_begins_again_with_the_table_as_it_is() {
    let (postgres, settings) = database("catalogue_lost");
    let mut source = catalogue::open(&settings, false).unwrap();
    records(&mut *source, 2);
    postgres
        .sql(
            "catalogue_lost",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = 'catalogue_lost' AND application_name = 'dbb'",
        )
        .unwrap();
    postgres.sql("catalogue_lost", "TRUNCATE prod.replicas").unwrap();
    let again = records(&mut *source, 1);
    assert_eq!((again[0].0, &again[0].1["replicas"]), (SNAPSHOT, &0.into()));
}

#[test]
fn one_snapshot_ends_when_only_one_is_wanted() {
    let (_, settings) = database("catalogue_once");
    let mut source = catalogue::open(&settings, true).unwrap();
    records(&mut *source, 2);
    let mut batch = Vec::new();
    let started = Instant::now();
    while source.poll(&mut batch, 10).unwrap() != Polled::Finished {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(batch.is_empty());
}

#[test]
fn a_missing_publication_says_what_to_make() {
    let (_, mut settings) = database("catalogue_unpublished");
    settings.publication = "other".into();
    let mut source = catalogue::open(&settings, false).unwrap();
    let (mut batch, started) = (Vec::new(), Instant::now());
    let error: SourceError = loop {
        assert!(started.elapsed() < Duration::from_secs(30));
        match source.poll(&mut batch, 100) {
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => break error,
        }
    };
    assert!(!error.is_transient());
    assert!(error.to_string().contains("CREATE PUBLICATION"), "{error}");
}
