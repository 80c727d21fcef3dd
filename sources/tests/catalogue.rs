//! The catalogue source against a real PostgreSQL, with Rucio's tables as far as it looks at them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_database::Kept;
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
    assert_eq!(catalogue::check(&settings).unwrap(), Kept::Direct);
    let (mut source, _) = catalogue::open(&settings, false).unwrap();
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
    let (mut source, _) = catalogue::open(&settings, false).unwrap();
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
    let (mut source, _) = catalogue::open(&settings, true).unwrap();
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
    let (mut source, _) = catalogue::open(&settings, false).unwrap();
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

/// Operation, RSE, name and state of changes.
fn told(changes: &[(i32, Value)]) -> Vec<[String; 4]> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    changes
        .iter()
        .map(|(_, row)| ["op", "rse", "name", "new_state"].map(|key| text(row, key)))
        .collect()
}

#[test]
fn a_replica_that_gets_another_key_is_gone_under_the_old_one() {
    let (postgres, settings) = database("catalogue_key");
    let (mut source, _) = catalogue::open(&settings, false).unwrap();
    records(&mut *source, 2);
    postgres
        .sql(
            "catalogue_key",
            "BEGIN; INSERT INTO prod.rses VALUES ('00000000-0000-0000-0000-000000000002', 'RAL_RAW_DISK'); \
             UPDATE prod.replicas SET name = 'b'; \
             UPDATE prod.replicas SET rse_id = '00000000-0000-0000-0000-000000000002'; \
             UPDATE prod.replicas SET state = 'B'; COMMIT",
        )
        .unwrap();
    let expected = [
        ["D", "SLAC_RAW_DISK", "a/it's.fits", "-"],
        ["I", "SLAC_RAW_DISK", "b", "A"],
        ["D", "SLAC_RAW_DISK", "b", "-"],
        ["I", "RAL_RAW_DISK", "b", "A"],
        ["U", "RAL_RAW_DISK", "b", "B"],
    ];
    assert_eq!(
        told(&records(&mut *source, 5)),
        expected.map(|row| row.map(String::from))
    );
}

/// Views have rows under the old name: only a new snapshot, in which they are absent, takes them away.
#[test]
fn a_renamed_rse_is_told_under_its_new_name_alone() {
    let (postgres, settings) = database("catalogue_renamed");
    let (mut source, _) = catalogue::open(&settings, false).unwrap();
    records(&mut *source, 2);
    postgres
        .sql("catalogue_renamed", "UPDATE prod.rses SET rse = 'NEW_DISK'")
        .unwrap();
    let again = records(&mut *source, 2);
    assert_eq!((again[0].0, &again[0].1["replicas"]), (SNAPSHOT, &1.into()));
    assert_eq!((again[1].0, &again[1].1["rse"]), (SNAPSHOT, &"NEW_DISK".into()));
}

#[test]
fn an_rse_without_a_name_goes_by_its_id_until_it_has_one() {
    let (postgres, settings) = database("catalogue_nameless");
    let id = "00000000-0000-0000-0000-000000000007";
    let insert =
        format!("INSERT INTO prod.replicas (scope, name, rse_id, state) VALUES ('raw', 'n', '{id}', 'A')");
    postgres.sql("catalogue_nameless", &insert).unwrap();
    let (mut source, _) = catalogue::open(&settings, false).unwrap();
    let rses = |rows: &[(i32, Value)]| -> Vec<String> {
        let mut rses: Vec<String> = rows
            .iter()
            .filter_map(|(_, row)| Some(row["rse"].as_str()?.to_owned()))
            .collect();
        rses.sort();
        rses
    };
    assert_eq!(rses(&records(&mut *source, 3)), [id, "SLAC_RAW_DISK"]);
    let name = format!("INSERT INTO prod.rses VALUES ('{id}', 'LATE_DISK')");
    postgres.sql("catalogue_nameless", &name).unwrap();
    assert_eq!(rses(&records(&mut *source, 3)), ["LATE_DISK", "SLAC_RAW_DISK"]);
}

#[test]
fn a_publication_that_goes_for_a_moment_is_trouble_and_no_end() {
    let (postgres, settings) = database("catalogue_dropped");
    let (mut source, status) = catalogue::open(&settings, false).unwrap();
    records(&mut *source, 2);
    assert_eq!(status.trouble(), None);
    postgres
        .sql(
            "catalogue_dropped",
            "DROP PUBLICATION dbb; UPDATE prod.replicas SET state = 'B'",
        )
        .unwrap();
    let started = Instant::now();
    let mut batch = Vec::new();
    while status
        .trouble()
        .is_none_or(|trouble| !trouble.contains("CREATE PUBLICATION"))
    {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{:?}",
            status.trouble()
        );
        source.poll(&mut batch, 100).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(batch.is_empty(), "{batch:?}");
    postgres
        .sql(
            "catalogue_dropped",
            "CREATE PUBLICATION dbb FOR TABLE prod.replicas",
        )
        .unwrap();
    let again = records(&mut *source, 2);
    assert_eq!((again[0].0, again[1].1["state"].as_str()), (SNAPSHOT, Some("B")));
    assert_eq!(status.trouble(), None);
}
