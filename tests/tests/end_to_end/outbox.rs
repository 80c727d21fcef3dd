//! From Rucio's own table of messages to a Butler, while `dbb` and the database are killed.

use crate::site;
use anyhow::{Context, Result, ensure};
use dbb_test_services::Postgres;
use dbb_tests::{Dice, Recorded};
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// As Rucio makes it.
const TABLE: &str = "CREATE TABLE messages (id uuid PRIMARY KEY, event_type varchar(256) NOT NULL, \
    payload varchar(4000) NOT NULL, payload_nolimit text, services varchar(256), created_at timestamp NOT NULL, \
    updated_at timestamp NOT NULL)";

/// Rows for our service and for another, as Rucio writes them.
fn insert(postgres: &Postgres, records: &[Recorded]) -> Result<()> {
    let mut sql = String::new();
    for record in records {
        let event: Value = serde_json::from_slice(&record.value)?;
        let payload = event["payload"].to_string();
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let field = |name: &str| {
            event[name]
                .as_str()
                .map(text)
                .with_context(|| format!("no {name}"))
        };
        let (short, long) = match payload.len() > 4000 {
            true => (text("nolimit"), text(&payload)),
            false => (text(&payload), "NULL".into()),
        };
        for service in ["Syslog", "elastic"] {
            sql += &format!(
                "INSERT INTO messages VALUES (gen_random_uuid(), {}, {short}, {long}, '{service}', {}, now());\n",
                field("event_type")?,
                field("created_at")?
            );
        }
    }
    postgres.sql("rucio", &sql).map(drop)
}

#[test]
fn files_are_registered_from_the_outbox_and_its_rows_go_when_they_are() -> Result<()> {
    let mut dice = Dice::new("a site behind an outbox");
    let mut postgres = Postgres::start()?;
    let url = postgres.create_database("rucio")?;
    postgres.sql("rucio", TABLE)?;
    let mut site = site("--files 90 --repeats 10 --faults none --max-datasets 20 --site OUT")?;
    let source = json!({"outbox": {"url": url, "service": "Syslog", "prefetch": 60}});
    site.edit_config(|text| {
        let lines = text.lines().map(|line| match line.starts_with("source: ") {
            true => format!("source: {source}\n"),
            false => format!("{line}\n"),
        });
        lines.collect()
    })?;
    site.set("repositories.main.patience.retry_s=1");
    let records = Recorded::of(&site)?;
    let rounds = 5;
    for round in 0..rounds {
        let upto = |round: usize| records.len() * round / rounds;
        insert(&postgres, &records[upto(round)..upto(round + 1)])?;
        let run = site.start(&[])?;
        thread::sleep(Duration::from_millis(500 + dice.below(3500)));
        if round == 2 {
            postgres.kill()?;
            postgres.start_again()?;
            thread::sleep(Duration::from_millis(dice.below(1000)));
        }
        run.ensure_running()?;
        run.kill()?;
    }
    site.settle_after_kills()?;
    let left = postgres.sql("rucio", "SELECT services, count(*) FROM messages GROUP BY 1")?;
    ensure!(
        left == format!("elastic|{}", records.len()),
        "what is left: {left}"
    );
    Ok(())
}
