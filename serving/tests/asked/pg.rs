//! SQL as its clients have it: psql, and a driver that prepares statements.

mod conversations;
mod doors;
mod frames;
mod hostile;
mod limits;
mod raw;

use crate::shared::{
    Client, Numbers, certificate, offered, psql, publish, published, schema, start, wait_for,
};
use dbb_operators::{
    facts::{RseName, ScopeName, State},
    publish::Publisher,
    views::{
        Rows, Table,
        rse_usage::{RseUsage, Usage},
    },
};
use dbb_serving::{
    Health, Metrics, Offered, ServeError,
    pg::{SqlSettings, TlsFiles, serve},
    secret::SecretPlace,
};
use postgres::NoTls;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn usage() -> Arc<dyn Table> {
    let mut rows = Rows::<RseUsage>::default();
    for (rse, files) in [("SLAC_DISK", 3), ("IN2P3_DISK", 5)] {
        let of = Usage {
            rse: RseName::new(rse),
            scope: ScopeName::new("raw"),
            state: State::Available,
        };
        rows.update(
            RseUsage {
                of,
                files,
                bytes: files * 10,
            },
            1,
        );
    }
    Arc::new(rows)
}

fn usage_server() -> dbb_serving::pg::SqlServer {
    let epoch = published(3, vec![("rse_usage", usage())]);
    start(
        SqlSettings::default(),
        Arc::new(epoch),
        vec![Offered::of::<RseUsage>(), offered("replicas")],
        Metrics::default(),
    )
}

fn numbers(count: usize) -> (Arc<Numbers>, Arc<dyn dbb_serving::sql::Epochs>) {
    let table = Arc::new(Numbers::new(0, count));
    let epoch = published(3, vec![("numbers", Arc::clone(&table) as Arc<dyn Table>)]);
    (table, Arc::new(epoch))
}

fn slow_numbers(count: usize, slow: Duration) -> (Arc<Numbers>, Arc<dyn dbb_serving::sql::Epochs>) {
    let table = Arc::new(Numbers {
        slow,
        ..Numbers::new(0, count)
    });
    let epoch = published(3, vec![("numbers", Arc::clone(&table) as Arc<dyn Table>)]);
    (table, Arc::new(epoch))
}

#[test]
fn psql_asks_and_describes() {
    let server = usage_server();
    let rows = psql(
        &server,
        "",
        &[
            "-Atc",
            "select rse, files from rse_usage where state = 'AVAILABLE' order by files",
        ],
    );
    assert_eq!(rows.expect(), "SLAC_DISK|3\nIN2P3_DISK|5\n");
    let tables = psql(&server, "", &["-c", "\\dt"]).expect();
    assert!(
        tables.contains("rse_usage") && tables.contains("replicas"),
        "{tables}"
    );
    let all = psql(&server, "", &["-c", "\\d"]).expect();
    assert!(all.contains("rse_usage"), "{all}");
    let columns = psql(&server, "", &["-c", "\\d rse_usage"]).expect();
    for column in ["rse", "scope", "state", "files", "bigint", "not null"] {
        assert!(columns.contains(column), "{columns}");
    }
    let columns = psql(&server, "", &["-c", "\\d replicas"]).expect();
    assert!(columns.contains("name"), "{columns}");
}

#[test]
fn as_of_and_the_tables_are_of_one_epoch() {
    let server = usage_server();
    let sql = "select a.epoch, a.stream, a.partition, a.next_offset, count(*) from as_of() a, rse_usage group by 1, 2, 3, 4";
    assert_eq!(psql(&server, "", &["-Atc", sql]).expect(), "3|events|0|10|2\n");
}

#[test]
fn now_is_the_time_of_each_statement() {
    let server = usage_server();
    let mut client = Client::connect(&server, "");
    let prepared = client.prepare("select cast(now() as text)").unwrap();
    let mut ask = || client.query(&prepared, &[]).unwrap()[0].get::<_, String>(0);
    let first = ask();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(first < ask());
}

#[test]
fn nothing_but_queries_runs_in_either_protocol() {
    let server = usage_server();
    let mut client = Client::connect(&server, "");
    for (sql, state) in [
        ("create table t (a int)", "25006"),
        ("create table t as select 1", "25006"),
        ("drop table rse_usage", "25006"),
        ("insert into rse_usage values ('a')", "25006"),
        ("delete from rse_usage", "25006"),
        ("copy rse_usage to stdout", "25006"),
        ("copy (select 1) to '/tmp/stolen.csv'", "25006"),
        ("copy rse_usage from stdin", "25006"),
        (
            "create external table t stored as csv location '/etc/passwd'",
            "42601",
        ),
        ("select * into t from rse_usage", "25006"),
        (
            "with a as (delete from rse_usage returning *) select * from a",
            "25006",
        ),
        ("explain insert into rse_usage values ('a')", "25006"),
        ("select * from read_csv('/etc/passwd')", "42000"),
        ("select * from '/etc/passwd'", "42P01"),
        ("select * from \"/etc/passwd\"", "42P01"),
        ("select pg_read_file('/etc/passwd')", "42883"),
        ("select * from read_parquet('/etc/passwd')", "42000"),
        (
            "with recursive a as (select 1 as n union all select n + 1 from a) select * from a",
            "0A000",
        ),
        ("select 1; drop table rse_usage", "25006"),
        ("selec 1", "42601"),
        ("select rze from rse_usage", "42703"),
        ("select * from rze_usage", "42P01"),
    ] {
        let said = psql(&server, "", &["-Atc", sql]);
        assert_eq!(
            (said.out.as_str(), said.state.as_str()),
            ("", state),
            "psql, {sql}: {}",
            said.error
        );
        let error = client.simple_query(sql).map(|_| ()).unwrap_err();
        assert_eq!(error.code().unwrap().code(), state, "simple, {sql}: {error:?}");
        let error = client.query(sql, &[]).map(|_| ()).unwrap_err();
        let expected = if sql.starts_with("select 1;") {
            "25006"
        } else {
            state
        };
        assert_eq!(
            error.code().unwrap().code(),
            expected,
            "extended, {sql}: {error:?}"
        );
    }
    let error = client
        .copy_out("copy (select 1) to stdout")
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    let error = client.prepare("select 1; select 2").map(|_| ()).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42601");
    // And it still answers.
    assert_eq!(client.query("select rse from rse_usage", &[]).unwrap().len(), 2);
}

#[test]
fn what_clients_say_before_they_ask_is_taken() {
    let server = usage_server();
    let mut client = Client::connect(&server, "");
    client
        .batch_execute(
            "set datestyle = 'ISO'; set extra_float_digits = 3; begin; select 1; commit; discard all",
        )
        .unwrap();
    let shown = client.query_one("show transaction_isolation", &[]).unwrap();
    assert_eq!(shown.get::<_, String>(0), "read committed");
    let mut transaction = client.transaction().unwrap();
    assert_eq!(transaction.query("select 1", &[]).unwrap().len(), 1);
    assert!(transaction.query("select nothing", &[]).is_err());
    let error = transaction.query("select 1", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02");
    transaction.rollback().unwrap();
    assert_eq!(client.query("select 1", &[]).unwrap().len(), 1);
}

#[test]
fn a_prepared_statement_has_parameters_and_sees_each_new_epoch() {
    let publisher = Arc::new(Publisher::new(1));
    publish(&publisher, 1, vec![("numbers", Arc::new(Numbers::new(100, 30)))]);
    let epochs = Arc::clone(&publisher) as Arc<dyn dbb_serving::sql::Epochs>;
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    let prepared = client
        .prepare("select n from numbers where name = $1 and n > $2 order by n")
        .unwrap();
    let mut ask = || {
        let rows = client.query(&prepared, &[&"name-3", &105i64]).unwrap();
        rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>()
    };
    assert_eq!(ask(), [113, 123]);
    publish(&publisher, 2, vec![("numbers", Arc::new(Numbers::new(200, 20)))]);
    assert_eq!(ask(), [203, 213]);
}

#[test]
fn rows_come_in_portions_when_a_client_wants_them_so() {
    let (_, epochs) = numbers(2500);
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    let mut transaction = client.transaction().unwrap();
    let portal = transaction.bind("select n from numbers", &[]).unwrap();
    let mut portions = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 1000).unwrap();
        if rows.is_empty() {
            break;
        }
        portions.push(rows.len());
    }
    assert_eq!(portions, [1000, 1000, 500]);
}

#[test]
fn joined_tables_agree_while_epochs_are_published() {
    let publisher = Arc::new(Publisher::new(1));
    let tables = |epoch: u64| -> Vec<(&'static str, Arc<dyn Table>)> {
        vec![
            ("left", Arc::new(Numbers::new(epoch as i64, 3))),
            ("right", Arc::new(Numbers::new(epoch as i64, 3))),
        ]
    };
    publish(&publisher, 1, tables(1));
    let epochs = Arc::clone(&publisher) as Arc<dyn dbb_serving::sql::Epochs>;
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("left"), offered("right")],
        Metrics::default(),
    );
    let done = Arc::new(AtomicBool::new(false));
    let (publishing, stop) = (Arc::clone(&publisher), Arc::clone(&done));
    let publishes = std::thread::spawn(move || {
        let mut epoch = 1;
        while !stop.load(Ordering::SeqCst) {
            epoch += 1;
            publish(&publishing, epoch, tables(epoch));
            std::thread::yield_now();
        }
        epoch
    });
    let mut client = Client::connect(&server, "");
    let mut seen = std::collections::BTreeSet::new();
    let sql = "select a.epoch, min(l.n), min(r.n), count(*) from \"left\" l join \"right\" r on l.n = r.n cross join as_of() a group by 1";
    for _ in 0..100 {
        let row = client.query_one(sql, &[]).unwrap();
        let epoch: i64 = row.get(0);
        assert_eq!(
            (row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)),
            (epoch, epoch, 3)
        );
        seen.insert(epoch);
    }
    done.store(true, Ordering::SeqCst);
    let last = publishes.join().unwrap();
    assert!(seen.len() > 1 && last > 1, "epochs went by: {seen:?}");
}

#[test]
fn replicas_are_asked_of_the_dataflow_only_when_they_are_named() {
    let publisher = Arc::new(Publisher::new(1));
    publish(&publisher, 1, vec![("numbers", Arc::new(Numbers::new(0, 5)))]);
    let epochs = Arc::clone(&publisher) as Arc<dyn dbb_serving::sql::Epochs>;
    let settings = SqlSettings {
        statement_timeout_ms: 500,
        ..SqlSettings::default()
    };
    let server = start(
        settings,
        epochs,
        vec![offered("numbers"), offered("replicas")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    assert_eq!(client.query("select n from numbers", &[]).unwrap().len(), 5);
    // Nobody publishes them in time.
    let error = client.query("select n from replicas", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014", "{error:?}");
    // What is asked is as of no earlier than the question: the epochs go on.
    let done = Arc::new(AtomicBool::new(false));
    let goes_on = {
        let (publisher, done) = (Arc::clone(&publisher), Arc::clone(&done));
        std::thread::spawn(move || {
            for epoch in 2.. {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                let tables = vec![
                    ("numbers", Arc::new(Numbers::new(0, 5)) as Arc<dyn Table>),
                    ("replicas", Arc::new(Numbers::new(0, 7)) as Arc<dyn Table>),
                ];
                publish(&publisher, epoch, tables);
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    };
    let rows = client.query("select n from replicas", &[]);
    done.store(true, Ordering::SeqCst);
    goes_on.join().unwrap();
    assert_eq!(rows.unwrap().len(), 7);
}

#[test]
fn before_the_first_epoch_views_are_there_but_not_published() {
    let publisher: Arc<dyn dbb_serving::sql::Epochs> = Arc::new(Publisher::new(1));
    let server = start(
        SqlSettings::default(),
        publisher,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    assert_eq!(client.query("select 1", &[]).unwrap().len(), 1);
    assert_eq!(client.query("select * from as_of()", &[]).unwrap().len(), 0);
    let error = client.query("select n from numbers", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55000", "{error:?}");
    let columns = client
        .query(
            "select column_name from information_schema.columns where table_name = 'numbers'",
            &[],
        )
        .unwrap();
    assert_eq!(columns.len(), schema().fields().len());
}
