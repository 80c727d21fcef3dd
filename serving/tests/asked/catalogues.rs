//! What drivers and dashboards ask to find their way, as they send it.

use crate::shared::{Client, Numbers, offered, published, start};
use dbb_serving::{Metrics, pg::SqlSettings};
use postgres::SimpleQueryMessage;
use std::sync::Arc;

/// The rows of `sql`, each value as text.
fn rows(client: &mut postgres::Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client
        .simple_query(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

fn server() -> dbb_serving::pg::SqlServer {
    let epoch = published(3, vec![("numbers", Arc::new(Numbers::new(0, 3)))]);
    start(
        SqlSettings::default(),
        Arc::new(epoch),
        vec![offered("numbers")],
        Metrics::default(),
    )
}

fn contains(rows: &[Vec<Option<String>>], value: &str) -> bool {
    rows.iter().flatten().any(|found| found.as_deref() == Some(value))
}

#[test]
fn jdbc_finds_tables_and_columns() {
    let server = server();
    let mut client = Client::connect(&server, "");
    // DatabaseMetaData.getTables.
    let tables = rows(
        &mut client,
        "SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, \
         CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' \
         WHEN true THEN CASE \
         WHEN n.nspname = 'pg_catalog' OR n.nspname = 'information_schema' THEN CASE c.relkind \
         WHEN 'r' THEN 'SYSTEM TABLE' WHEN 'v' THEN 'SYSTEM VIEW' WHEN 'i' THEN 'SYSTEM INDEX' ELSE NULL END \
         WHEN n.nspname = 'pg_toast' THEN CASE c.relkind \
         WHEN 'r' THEN 'SYSTEM TOAST TABLE' WHEN 'i' THEN 'SYSTEM TOAST INDEX' ELSE NULL END \
         ELSE CASE c.relkind \
         WHEN 'r' THEN 'TEMPORARY TABLE' WHEN 'p' THEN 'TEMPORARY TABLE' WHEN 'i' THEN 'TEMPORARY INDEX' \
         WHEN 'S' THEN 'TEMPORARY SEQUENCE' WHEN 'v' THEN 'TEMPORARY VIEW' ELSE NULL END END \
         WHEN false THEN CASE c.relkind \
         WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'i' THEN 'INDEX' WHEN 'S' THEN 'SEQUENCE' \
         WHEN 'v' THEN 'VIEW' WHEN 'c' THEN 'TYPE' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW' \
         ELSE NULL END ELSE NULL END AS TABLE_TYPE, d.description AS REMARKS, \
         '' as TYPE_CAT, '' as TYPE_SCHEM, '' as TYPE_NAME, '' AS SELF_REFERENCING_COL_NAME, '' AS REF_GENERATION \
         FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c \
         LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) \
         WHERE c.relnamespace = n.oid AND n.nspname LIKE 'public' \
         AND (false OR ( c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' )) \
         ORDER BY TABLE_TYPE,TABLE_SCHEM,TABLE_NAME",
    );
    assert!(
        contains(&tables, "numbers") && contains(&tables, "TABLE"),
        "{tables:?}"
    );
    // DatabaseMetaData.getColumns.
    let columns = rows(
        &mut client,
        "SELECT * FROM (SELECT current_database() AS current_database, n.nspname,c.relname,a.attname,a.atttypid,\
         a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull,a.atttypmod,a.attlen,t.typtypmod,\
         row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, \
         nullif(a.attidentity, '') as attidentity,nullif(a.attgenerated, '') as attgenerated,\
         pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc,dsc.description,t.typbasetype,t.typtype \
         FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) \
         JOIN pg_catalog.pg_attribute a ON (a.attrelid=c.oid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) \
         LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid=def.adrelid AND a.attnum = def.adnum) \
         LEFT JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) \
         LEFT JOIN pg_catalog.pg_class dc ON (dc.oid=dsc.classoid AND dc.relname='pg_class') \
         LEFT JOIN pg_catalog.pg_namespace dn ON (dc.relnamespace=dn.oid AND dn.nspname='pg_catalog') \
         WHERE c.relkind in ('r','p','v','f','m') and a.attnum > 0 AND NOT a.attisdropped \
         AND n.nspname LIKE 'public' AND c.relname LIKE 'numbers') c WHERE true \
         ORDER BY nspname,c.relname,attnum",
    );
    assert_eq!(columns.len(), 2, "{columns:?}");
    assert!(
        contains(&columns, "name") && contains(&columns, "n"),
        "{columns:?}"
    );
    // What the driver says first, and its look-up of a type.
    rows(
        &mut client,
        "SET extra_float_digits = 3; SET application_name = 'PostgreSQL JDBC Driver'",
    );
    let types = rows(
        &mut client,
        "SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t \
         JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = 1043",
    );
    assert!(contains(&types, "varchar"), "{types:?}");
}

#[test]
fn grafana_finds_tables_and_columns_and_asks_for_a_panel() {
    let server = server();
    let mut client = Client::connect(&server, "");
    let version = rows(
        &mut client,
        "SELECT current_setting('server_version_num')::int/100 as version",
    );
    assert_eq!(version, [[Some("1500".to_owned())]], "as it is asked for");
    let tables = rows(
        &mut client,
        "SELECT CASE WHEN quote_ident(table_schema) IN ( \
         SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END \
         FROM generate_series( array_lower(string_to_array(current_setting('search_path'),','),1), \
         array_upper(string_to_array(current_setting('search_path'),','),1) ) as i, \
         string_to_array(current_setting('search_path'),',') s ) \
         THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\" \
         FROM information_schema.tables \
         WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache', \
         '_timescaledb_catalog', '_timescaledb_internal', '_timescaledb_config', 'timescaledb_information', \
         'timescaledb_experimental') \
         ORDER BY CASE WHEN quote_ident(table_schema) IN ( \
         SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END \
         FROM generate_series( array_lower(string_to_array(current_setting('search_path'),','),1), \
         array_upper(string_to_array(current_setting('search_path'),','),1) ) as i, \
         string_to_array(current_setting('search_path'),',') s ) THEN 0 ELSE 1 END, 1",
    );
    assert!(
        contains(&tables, "numbers") || contains(&tables, "public.numbers"),
        "{tables:?}"
    );
    let columns = rows(
        &mut client,
        "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns \
         WHERE quote_ident(table_name) = 'numbers'",
    );
    assert!(
        contains(&columns, "name") && contains(&columns, "n"),
        "{columns:?}"
    );
    let panel = rows(
        &mut client,
        "SELECT at AS \"time\", name AS metric, sum(n) AS value FROM numbers CROSS JOIN as_of() \
         WHERE at BETWEEN '2020-01-01T00:00:00Z' AND '2030-01-01T00:00:00Z' GROUP BY 1, 2 ORDER BY 1, 2",
    );
    assert_eq!(panel.len(), 3, "{panel:?}");
}

#[test]
fn psycopg_and_sqlalchemy_get_ready() {
    let server = server();
    let mut client = Client::connect(&server, "");
    assert!(rows(&mut client, "select pg_catalog.version()")[0][0].is_some());
    assert_eq!(
        rows(&mut client, "select current_schema()"),
        [[Some("public".to_owned())]]
    );
    assert_eq!(
        rows(&mut client, "show transaction isolation level"),
        [[Some("read committed".to_owned())]]
    );
    assert_eq!(
        rows(&mut client, "show standard_conforming_strings"),
        [[Some("on".to_owned())]]
    );
    let tables = rows(
        &mut client,
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class \
         JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace \
         WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) \
         AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'",
    );
    assert!(contains(&tables, "numbers"), "{tables:?}");
}

const PSYCOPG: &str = r#"
import sys, psycopg
with psycopg.connect(sys.argv[1], prepare_threshold=1) as connection:
    for _ in range(3):
        found = connection.execute("select n from numbers where name = %s and n < %s", ("name-2", 100)).fetchall()
        assert found == [(2,)], found
    binary = connection.cursor(binary=True)
    row = binary.execute("select epoch, at, stream, next_offset from as_of()").fetchone()
    assert row[0] == 3 and row[1].isoformat() == "2023-11-14T22:13:20.000003+00:00", row
    assert row[2:] == ("events", 10), row
    try:
        connection.execute("create table t (a int)")
    except psycopg.errors.ReadOnlySqlTransaction as error:
        print(error.sqlstate)
    connection.rollback()
    try:
        with connection.cursor().copy("copy numbers to stdout") as copy:
            list(copy)
    except psycopg.errors.ReadOnlySqlTransaction as error:
        print(error.sqlstate)
"#;

#[test]
fn psycopg_binds_fetches_and_is_refused() {
    let server = server();
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let place = format!(
        "host=127.0.0.1 port={} dbname=dbb user=tester",
        server.address().port()
    );
    let ran = std::process::Command::new(python)
        .args(["-c", PSYCOPG, &place])
        .output()
        .expect("scripts/setup has made .venv");
    let (out, error) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert_eq!((out.as_ref(), error.as_ref()), ("25006\n25006\n", ""));
}
