//! What waits, is held or is refused, and what an operator does about it.

use crate::{Hub, Published};
use anyhow::{Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Metadata, RucioStub};
use serde_json::{Map, json};
use std::time::Duration;

const SIDECAR: &str = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument","exposure"]},"dataId":{"dataId":{"instrument":"LSSTCam","exposure":1,"day_obs":20261120}},"run":"LSSTCam/raw/all"}"#;

fn event(event_type: &str, rse: &str, name: &str) -> String {
    json!({
        "event_type": event_type,
        "payload": {
            "request-id": format!("{event_type}{rse}{name}"), "scope": "raw", "name": name, "rse": rse, "dst-rse": rse,
            "dst-url": format!("davs://h/{rse}/raw/{name}"), "url": format!("davs://h/{rse}/raw/{name}"),
            "transferred_at": "2026-11-21 19:14:45",
        },
        "created_at": "2026-11-21 19:14:49.938629",
    })
    .to_string()
}

fn raw(name: &str, sidecar: &str) -> Metadata {
    let labels = [
        ("rubin_butler", json!("raw_file")),
        ("rubin_sidecar", json!(sidecar)),
    ];
    let labels = Map::from_iter(labels.map(|(name, value)| (name.to_owned(), value)));
    Metadata::from([(format!("raw:{name}"), labels)])
}

fn names(published: &[Published], topic: &str) -> Vec<String> {
    published
        .iter()
        .filter(|record| record.topic == topic)
        .map(|record| record.key.clone())
        .collect()
}

#[test]
fn a_rucio_that_is_down_holds_back_nothing_that_it_is_not_needed_for() -> Result<()> {
    let rucio = RucioStub::start(raw("a", SIDECAR), Duration::ZERO)?;
    rucio.set_down(true);
    let hub = Hub::make("down", &rucio, "")?;
    let labelled =
        event("transfer-done", "A_DISK", "b").replace(r#""scope""#, r#""rubin_butler":"dim_file","scope""#);
    let told = [
        event("transfer-done", "A_DISK", "a"),
        event("deletion-done", "A_DISK", "z"),
        labelled,
    ];
    hub.tell(told.iter().map(String::as_str))?;
    let mut run = hub.start(&[])?;
    run.until("the others are published", || {
        let published = hub.published()?;
        Ok(names(&published, "A_DISK-raw") == ["raw:b"]
            && names(&published, "A_DISK-raw-deletions") == ["raw:z"]
            && hub.rows()?.get(&State::Waiting) == Some(&1))
    })?;
    rucio.set_down(false);
    run.until("what waited is published", || {
        Ok(names(&hub.published()?, "A_DISK-raw") == ["raw:a", "raw:b"]
            && hub.rows()?.get(&State::Published) == Some(&1))
    })?;
    run.terminate()?.with(0)?;
    ensure!(hub.rows()?.len() == 1, "{:?}", hub.rows()?);
    Ok(())
}

#[test]
fn what_is_refused_waits_for_an_operator_and_what_nobody_reads_is_kept_beside_it() -> Result<()> {
    let rucio = RucioStub::start(raw("bad", r#"{"id": 7}"#), Duration::ZERO)?;
    let hub = Hub::make("letters", &rucio, "")?;
    let config = std::fs::read_to_string(hub.config())?;
    let listed = config.replace("topics: {landed:", "topics: {rses: [\"A_*\"], landed:");
    std::fs::write(hub.config(), listed)?;
    let nobodys = event("transfer-done", "NOBODYS_DISK", "n");
    let told = [
        event("transfer-done", "A_DISK", "bad"),
        event("transfer-done", "A_DISK", "unknown"),
        nobodys.clone(),
        "{\"event_type\": \"transf".to_owned(),
        event("rule_ok", "A_DISK", "x"),
    ];
    hub.tell(told.iter().map(String::as_str))?;
    let mut run = hub.start(&[])?;
    run.until("all have an end", || {
        let rows = hub.rows()?;
        let is_there = rows.get(&State::Refused) == Some(&2) && rows.get(&State::Waiting) == Some(&1);
        Ok(is_there && hub.published()?.len() == 2)
    })?;
    let published = hub.published()?;
    let mut dead: Vec<&str> = published.iter().map(|record| record.value.as_str()).collect();
    dead.sort_unstable();
    ensure!(
        dead == [nobodys.as_str(), "{\"event_type\": \"transf"] && published[0].topic == "dead",
        "{published:?}"
    );
    let (_, list) = hub.dbb(&["dead-letters", "list"], &[])?;
    ensure!(
        list.contains("bad_sidecar") && list.contains("unreadable"),
        "{list}"
    );
    // The metadata are mended, the other file gets its own.
    rucio.learn(raw("bad", SIDECAR));
    rucio.learn(raw("unknown", SIDECAR));
    let (status, said) = hub.dbb(&["dead-letters", "retry"], &["--reason", "bad_sidecar"])?;
    ensure!(status == 0, "{said}");
    run.until("both are published", || {
        Ok(names(&hub.published()?, "A_DISK-raw") == ["raw:bad", "raw:unknown"])
    })?;
    run.terminate()?.with(0)?;
    let rows = hub.rows()?;
    ensure!(
        rows.get(&State::Published) == Some(&2) && rows.get(&State::Refused) == Some(&1),
        "{rows:?}"
    );
    let counts = hub.ledger()?.counts()?;
    ensure!(
        counts.get("unroutable") == Some(&1) && counts.get("dead_letter") == Some(&1),
        "{counts:?}"
    );
    let (_, story) = hub.dbb(&["explain"], &["raw:bad"])?;
    ensure!(
        story.contains("refused (bad_sidecar)") && story.contains("published"),
        "{story}"
    );
    let (_, summary) = hub.dbb(&["ledger", "summary"], &[])?;
    ensure!(
        summary.contains("published") && summary.contains("unroutable"),
        "{summary}"
    );
    Ok(())
}

#[test]
fn what_landed_under_embargo_is_held_until_it_is_released() -> Result<()> {
    let rucio = RucioStub::start(raw("early", SIDECAR), Duration::ZERO)?;
    rucio.learn(raw("late", &SIDECAR.replace("20261120", "20261101")));
    let embargo = r#"  embargoes: [{name: "80h", scope: raw, partners: ["A_*"], hours: 80}]
"#;
    let hub = Hub::make("embargo", &rucio, embargo)?;
    let told = [
        event("transfer-done", "A_DISK", "early"),
        event("transfer-done", "A_DISK", "late"),
        event("transfer-done", "OWN_DISK", "early"),
    ];
    hub.tell(told.iter().map(String::as_str))?;
    hub.run_once()?.with(0)?;
    let published = hub.published()?;
    ensure!(
        names(&published, "A_DISK-raw") == ["raw:late"] && names(&published, "OWN_DISK-raw") == ["raw:early"],
        "{published:?}"
    );
    let (_, held) = hub.dbb(&["hub", "held"], &[])?;
    ensure!(
        held.contains("raw:early") && held.contains("under embargo `80h`"),
        "{held}"
    );
    let (_, story) = hub.dbb(&["explain"], &["raw:early"])?;
    ensure!(story.contains("dbb hub release"), "{story}");
    // Time alone, and another start, change nothing.
    hub.run_once()?.with(0)?;
    ensure!(hub.published()?.len() == 2, "it was let go");
    let (status, said) = hub.dbb(&["hub", "release"], &["--did", "raw:late"])?;
    ensure!(status == 1 && said.contains("nothing is held"), "{said}");
    let (status, said) = hub.dbb(&["hub", "release"], &["--did", "raw:early"])?;
    ensure!(status == 0 && said.contains("1 released"), "{said}");
    hub.run_once()?.with(0)?;
    ensure!(
        names(&hub.published()?, "A_DISK-raw") == ["raw:early", "raw:late"],
        "{:?}",
        hub.published()?
    );
    ensure!(
        hub.rows()?.get(&State::Published) == Some(&1),
        "{:?}",
        hub.rows()?
    );
    Ok(())
}

#[test]
fn check_tells_a_recording_apart_without_touching_anything() -> Result<()> {
    let rucio = RucioStub::start(Metadata::new(), Duration::ZERO)?;
    let hub = Hub::make("check", &rucio, "")?;
    let config = std::fs::read_to_string(hub.config())?;
    std::fs::write(
        hub.config(),
        config.replace("topics: {landed:", "topics: {rses: [\"A_*\"], landed:"),
    )?;
    let recording = hub.folder.path().join("events.ndjson");
    let told = [
        event("transfer-done", "A_DISK", "a"),
        event("transfer-done", "B_DISK", "b"),
        event("deletion-done", "A_DISK", "c"),
    ];
    std::fs::write(&recording, told.join("\n"))?;
    let (status, said) = hub.dbb(&["check"], &[&recording.display().to_string()])?;
    for wanted in [
        "1 go to check.A_DISK-raw, or to the topic of files",
        "1 go to check.A_DISK-raw-deletions",
        "1 dead letters, as at",
        "RSE `B_DISK` is none of those under hub.topics.rses",
    ] {
        ensure!(said.contains(wanted), "{wanted} is not in {said}");
    }
    ensure!(status == 0 && !hub.folder.path().join("ledger.sqlite").exists() && hub.published()?.is_empty());
    Ok(())
}

#[test]
fn check_tries_what_a_hub_asks_and_where_it_publishes() -> Result<()> {
    let rucio = RucioStub::start(Metadata::new(), Duration::ZERO)?;
    let hub = Hub::make("connect", &rucio, "")?;
    let (status, said) = hub.dbb(&["check"], &["--connect"])?;
    for wanted in [
        "✓ the hub's topics: Kafka answers, brokers ",
        "topic connect.dead is not there yet; it is made with its first record",
        "✓ Rucio at http",
    ] {
        ensure!(said.contains(wanted), "{wanted} is not in {said}");
    }
    ensure!(status == 0, "{said}");
    rucio.set_down(true);
    let (status, said) = hub.dbb(&["check"], &["--connect"])?;
    ensure!(
        status == 69 && said.contains("✗ labels: Rucio at http"),
        "{status} {said}"
    );
    rucio.set_down(false);
    // Nobody listens there.
    let config = std::fs::read_to_string(hub.config())?;
    let bootstrap = hub.kafka.bootstrap();
    let elsewhere = config.replace(
        &format!("publish:\n    kafka: {{brokers: [\"{bootstrap}\"]"),
        "publish:\n    kafka: {brokers: [\"127.0.0.1:1\"]",
    );
    ensure!(elsewhere != config, "{config}");
    std::fs::write(hub.config(), elsewhere)?;
    let (status, said) = hub.dbb(&["check"], &["--connect"])?;
    ensure!(
        status == 69 && said.contains("✗ the hub's topics: Kafka at 127.0.0.1:1") && said.contains("✓ Rucio"),
        "{status} {said}"
    );
    Ok(())
}

#[test]
fn explain_tells_of_what_was_published_at_once_and_what_is_not_kept() -> Result<()> {
    let mut known = raw("a", SIDECAR);
    // Rucio has it, without labels.
    known.insert("raw:b".into(), Map::new());
    let rucio = RucioStub::start(known, Duration::ZERO)?;
    let hub = Hub::make("told", &rucio, "")?;
    let told = [
        event("transfer-done", "A_DISK", "a"),
        event("deletion-done", "A_DISK", "a").replace("19:14:49", "19:15:49"),
        event("transfer-done", "B_DISK", "b"),
        event("transfer-queued", "A_DISK", "q"),
    ];
    hub.tell(told.iter().map(String::as_str))?;
    let mut run = hub.start(&[])?;
    run.until("all are published", || Ok(hub.published()?.len() == 3))?;
    run.until("the counts are written", || {
        Ok(hub.ledger()?.counts()?.get("other_event_type") == Some(&1))
    })?;
    ensure_explained(&hub)?;
    run.terminate()?.with(0)?;
    ensure_explained(&hub)
}

/// Whether it runs or not.
fn ensure_explained(hub: &Hub) -> Result<()> {
    let published = hub.published()?;
    let lane = |topic: &str| {
        let record = published.iter().find(|record| record.topic == topic);
        let lane = record
            .map(|record| record.lane.replace('/', "["))
            .unwrap_or_default();
        format!("to {lane}], number 1, read from told.events[")
    };
    let sidecar_id = "95fb898e-a577-5690-8e9c-b1d180f220b0";
    for what in ["raw:a", "davs://h/A_DISK/raw/a", sidecar_id] {
        let (status, text) = hub.dbb(&["explain"], &[what])?;
        ensure!(status == 0, "{what}: {text}");
        for wanted in [
            "transfer-done ".to_owned() + &lane("A_DISK-raw"),
            "not in the ledger: what waits, waited or was refused is kept for ever".into(),
        ] {
            ensure!(text.contains(&wanted), "{what}, {wanted}: {text}");
        }
    }
    let (_, text) = hub.dbb(&["explain"], &["raw:a"])?;
    let deletion = "deletion-done ".to_owned() + &lane("A_DISK-raw-deletions");
    ensure!(text.contains(&deletion), "{text}");
    // It has no labels: it is no Butler dataset, which the topic says.
    let (_, text) = hub.dbb(&["explain"], &["raw:b", "--json"])?;
    let text: serde_json::Value = serde_json::from_str(&text)?;
    let record = &text[0]["published"][0];
    ensure!(record["number"] == 1 && record["at"].is_string(), "{text}");
    // What is not kept is said to be so, and nobody claims that it was not read.
    let (status, text) = hub.dbb(&["explain"], &["raw:q"])?;
    ensure!(status == 1, "{text}");
    for wanted in [
        "kept for 336 hours",
        "only their number is kept (1 other_event_type)",
    ] {
        ensure!(text.contains(wanted), "{wanted}: {text}");
    }
    ensure!(!text.contains("was read:"), "{text}");
    Ok(())
}

#[test]
fn check_tells_versions_and_whether_labels_and_topics_are_as_they_should_be() -> Result<()> {
    let mut known = raw("a", SIDECAR);
    known.insert("raw:b".into(), Map::new());
    let rucio = RucioStub::start(known, Duration::ZERO)?;
    let hub = Hub::make("checked", &rucio, "")?;
    let check = |more: &[&str]| hub.dbb(&["check"], &[&["--connect"], more].concat());
    // Nothing has landed yet: it says that it could not try.
    let (status, text) = check(&[])?;
    ensure!(status == 0 && text.contains("name one with --did"), "{text}");

    let told = event("transfer-done", "A_DISK", "a");
    hub.tell([told.as_str()])?;
    hub.run_once()?.with(0)?;
    let brokers = hub.kafka.bootstrap();
    for more in [&[][..], &["--did", "raw:a"]] {
        let (status, text) = check(more)?;
        ensure!(status == 0, "{text}");
        for wanted in [
            &format!("Rucio at {} is 41.5.1, and lets account dbb in", rucio.url()),
            "labels of raw:a can be read: rubin_butler, rubin_sidecar",
            &format!("broker {brokers} is Kafka 4.0 or later"),
            "topics are as new_topics says",
        ] {
            ensure!(text.contains(wanted), "{wanted}: {text}");
        }
    }
    let (status, text) = check(&["--did", "raw:b"])?;
    let is_said = |line: &str| line.starts_with('✗') && line.contains("raw:b");
    ensure!(status == 1 && text.lines().any(is_said), "{text}");
    let (status, text) = check(&["--did", "raw:unknown"])?;
    ensure!(
        status == 1 && text.contains("Rucio knows no DID raw:unknown"),
        "{text}"
    );

    // Somebody has made a topic by hand.
    let compact = [("cleanup.policy", "compact"), ("max.message.bytes", "1000")];
    hub.kafka.create_topic_with("checked.B_DISK-raw", 1, &compact)?;
    hub.kafka.create_topic_with("checked.B_DISK-raw-files", 1, &[])?;
    let (status, text) = check(&[])?;
    ensure!(status == 1, "{text}");
    for wanted in [
        "! topic checked.B_DISK-raw-files: partitions are 1, not 3",
        "✗ topic checked.B_DISK-raw: cleanup.policy is compact",
        "✗ topic checked.B_DISK-raw: max.message.bytes is 1000",
    ] {
        ensure!(text.contains(wanted), "{wanted}: {text}");
    }
    Ok(())
}
