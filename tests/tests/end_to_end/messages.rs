//! What ctrl_filterd lets through is taken, what it drops is counted; and a second telling registers nothing twice.

use crate::site;
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::State;
use dbb_tests::books::Again;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

#[test]
fn what_is_not_a_landed_file_for_a_butler_is_counted_by_reason_and_nothing_else() -> Result<()> {
    let site = site("--files 16 --faults none --chatter 0 --repeats 0")?;
    let path = site.path().join("events/0001.ndjson");
    let text = fs::read_to_string(&path)?;
    let mut lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for line in &mut lines {
        // The case of an event type means nothing.
        change(line, |event| event["event_type"] = json!("Transfer-DONE"))?;
    }
    let good = lines
        .iter()
        .find(|line| line["topic"] == "DEMO_BUTLER_DISK-dp1")
        .context("no product")?
        .clone();
    let mut dropped = |edit: &dyn Fn(&mut Value)| -> Result<()> {
        let mut line = good.clone();
        change(&mut line, |event| {
            event["payload"]["request-id"] = json!("f".repeat(32));
            edit(event);
        })?;
        lines.push(line);
        Ok(())
    };
    for other in [
        "transfer-queued",
        "deletion-done",
        "rule_ok",
        "a-type-of-next-year",
    ] {
        dropped(&|event| event["event_type"] = json!(other))?;
    }
    dropped(&|event| event["payload"]["rubin_butler"] = Value::Null)?;
    dropped(&|event| {
        drop(
            event["payload"]
                .as_object_mut()
                .map(|payload| payload.remove("rubin_butler")),
        )
    })?;
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&path, text.join("\n") + "\n")?;

    site.run_once(&[])?.with(0)?;
    site.prove(Again::Never)?;
    let counts = site.ledger()?.counts()?;
    let wanted = BTreeMap::from([
        ("arrival".to_owned(), site.expected()?.totals.events),
        ("no_rubin_butler".to_owned(), 2),
        ("other_event_type".to_owned(), 3),
        ("unknown_event_type".to_owned(), 1),
    ]);
    ensure!(counts == wanted, "{counts:?} instead of {wanted:?}");

    // All of it once more, from a ledger that knows nothing: the Butler does.
    fs::rename(site.path().join("ledger.sqlite"), site.path().join("old.sqlite"))?;
    let _ = fs::remove_file(site.path().join("ledger.sqlite-wal"));
    let _ = fs::remove_file(site.path().join("ledger.sqlite-shm"));
    site.run_once(&[])?.with(0)?;
    site.prove(Again::Perhaps)?;
    ensure!(
        site.count(|state| state != State::AlreadyThere)? == 0,
        "something was not known: {:?}",
        site.ledger()?.summary()?
    );
    Ok(())
}

/// Changes the event in a line of a recording.
fn change(line: &mut Value, edit: impl FnOnce(&mut Value)) -> Result<()> {
    let mut event: Value = serde_json::from_str(line["value"].as_str().context("no value")?)?;
    edit(&mut event);
    line["value"] = Value::String(event.to_string());
    Ok(())
}
