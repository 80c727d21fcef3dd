//! Rucio's own table of replicas beside its events: what events do not tell is known too, and on what basis.

use crate::{DBB, views::is_ready};
use anyhow::Result;
use dbb_test_services::{Postgres, free_port, root};
use dbb_tests::{
    Site,
    fold::{ask, connect},
};
use std::{collections::BTreeSet, fs};

const TABLES: &str = "
CREATE TYPE replicas_state AS ENUM ('A', 'U', 'C', 'B', 'D', 'T');
CREATE TABLE rses (id uuid PRIMARY KEY, rse varchar(255));
CREATE TABLE replicas (scope varchar(25), name varchar(500), rse_id uuid, bytes bigint, adler32 varchar(8),
    state replicas_state, updated_at timestamp, PRIMARY KEY (scope, name, rse_id));
CREATE PUBLICATION dbb FOR TABLE replicas;
INSERT INTO rses VALUES ('00000000-0000-0000-0000-000000000001', 'HERE');
INSERT INTO replicas VALUES ('raw', 'registered', '00000000-0000-0000-0000-000000000001', 7, '00000a1b', 'A', now()),
    ('raw', 'deleted', '00000000-0000-0000-0000-000000000001', 8, '00000a1c', 'A', now())";

#[test]
fn the_table_tells_what_events_do_not_and_every_change_of_it_follows() -> Result<()> {
    let postgres = Postgres::shared()?;
    let database = postgres.create_database("catalogue_site")?;
    postgres.sql("catalogue_site", TABLES)?;
    let mut site = Site::unmade(DBB, &[])?;
    site.unset_all();
    let (sql, http) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    let log = root().join("tests/data/rucio-events/night-c-events.ndjson.gz");
    fs::write(
        site.config(),
        format!(
            "source: {{log: {{paths: [\"{}\"], follow: true}}, catalogue: {{url: \"{database}\", poll_ms: 10}}}}\n\
             ledger: {{url: \"{}\"}}\n\
             views: {{keep: [replicas]}}\n\
             sql: {{listen: \"{sql}\"}}\n\
             http: {{listen: \"{http}\"}}\n",
            log.display(),
            site.ledger_url(),
        ),
    )?;
    let mut run = site.start(&["--workers", "2"])?;
    run.until("views have caught up", || is_ready(&http))?;
    let mut client = connect(&sql)?;
    let mut wait_for = |what: &str, wanted: &[[&str; 3]]| {
        let wanted: BTreeSet<Vec<String>> = wanted
            .iter()
            .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect())
            .collect();
        run.until(what, || {
            let rows = ask(&mut client, "select name, state, basis from replicas")?;
            Ok(rows == wanted)
        })
    };
    // A snapshot of the whole table is right about all that is older: what events told is gone.
    wait_for(
        "the table is in the view",
        &[
            ["registered", "AVAILABLE", "listing"],
            ["deleted", "AVAILABLE", "listing"],
        ],
    )?;
    postgres.sql(
        "catalogue_site",
        "BEGIN; UPDATE replicas SET state = 'D' WHERE name = 'registered'; \
         DELETE FROM replicas WHERE name = 'deleted'; COMMIT",
    )?;
    wait_for("the changes are in the view", &[["registered", "BAD", "journal"]])?;
    run.terminate()?.with(0)?;
    Ok(())
}
