//! In the place of ctrl_ingestd: its file as it is, its group where it stopped, and never beside it.

use crate::{DBB, kafka::ensure_all_committed, site};
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Kafka, python, wait_until};
use dbb_tests::{
    Recorded, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use std::{collections::BTreeSet, env, fs, time::Duration};

const PARTITIONS: i32 = 3;

#[test]
fn a_group_with_a_live_member_is_left_alone() -> Result<()> {
    let kafka = Kafka::shared()?;
    kafka.create_topic("FOREIGN-raw", 1)?;
    let member: BaseConsumer = kafka
        .config()
        .set("group.id", "foreign")
        .set("client.id", "ctrl-ingestd-of-another")
        .create()?;
    member.subscribe(&["FOREIGN-raw"])?;
    wait_until("it is a member", Duration::from_secs(60), || {
        let _ = member.poll(Duration::from_millis(100));
        Ok(member.assignment()?.count() == 1)
    })?;
    let mut site = Site::unmade(DBB, &[])?;
    site.unset_all();
    let config = format!(
        "source: {{kafka: {{brokers: ['{}'], group_id: foreign, topics: [FOREIGN-raw]}}}}\n\
         rses: {{A: {{prefixes: [{{from: 'davs://h/', to: /none/}}]}}}}\n\
         routes: [{{rse: A, repositories: [main]}}]\nrepositories: {{main: {{butler: /none}}}}\nhttp: {{listen: null}}\n",
        kafka.bootstrap()
    );
    fs::write(site.config(), config)?;
    let ended = site.run_once(&[])?.with(78)?;
    ensure!(ended.text.contains("foreign"), "which group?\n{}", ended.text);
    ensure!(
        ended.text.contains("ctrl-ingestd-of-another"),
        "who is it?\n{}",
        ended.text
    );
    drop(member);
    Ok(())
}

#[test]
fn a_ctrl_ingestd_file_is_used_unchanged_from_where_its_group_stopped() -> Result<()> {
    let kafka = Kafka::shared()?;
    let brokers = kafka.bootstrap();
    let mut site = site(&format!(
        "--in-place --detectors 2 --files 60 --faults dot_dot,double_slash,bad_sidecar --site OLD --kafka {brokers}"
    ))?;
    let old = [
        "--ctrl-ingestd",
        "--kafka",
        &brokers,
        "--group-id",
        "old",
        "--config",
        "dbb.yaml",
    ];
    site.script("config", &old)?;
    site.unset_all();

    // Files of one scope lie outside the datastore: `auto` takes them into it.
    let inside = site.path().join("repo/main/rse/OLD_BUTLER_DISK");
    let outside = site.path().join("outside/OLD_BUTLER_DISK");
    fs::create_dir_all(&outside)?;
    fs::rename(inside.join("dp2"), outside.join("dp2"))?;
    site.edit_config(|config| {
        let topic = "\"OLD_BUTLER_DISK-dp2\": {";
        let (before, after) = config.split_once(topic).unwrap_or_default();
        let moved = after.replacen(&inside.display().to_string(), &outside.display().to_string(), 1);
        format!("{before}{topic}{moved}")
    })?;
    let expected = fs::read_to_string(site.path().join("expected.json"))?;
    let mut expected: serde_json::Value = serde_json::from_str(&expected)?;
    let mut refused = 2;
    let in_dp2 = |value: &serde_json::Value, ending: &str| {
        value.as_str().is_some_and(|text| {
            (text.contains("/dp2/") || text.starts_with("dp2:")) && text.ends_with(ending)
        })
    };
    // A formatter that writes YAML has no place for JSON in its datastore: only where it is, JSON can be read.
    for event in expected["events"].as_array_mut().context("no events")? {
        if in_dp2(&event["did"], ".json") {
            event["outcomes"] = serde_json::json!(["refused/butler"]);
            refused += 1;
        }
    }
    let datasets = expected["repositories"]["main"]["datasets"]
        .as_array_mut()
        .context("no datasets")?;
    datasets.retain(|dataset| !in_dp2(&dataset["uri"], ".json"));
    let mut taken = 0;
    for dataset in datasets {
        if in_dp2(&dataset["uri"], ".yaml") {
            dataset["uri"] = serde_json::Value::Null;
            taken += 1;
        }
    }
    ensure!(taken > 0, "no file outside the datastore can be taken");
    fs::write(site.path().join("expected.json"), expected.to_string())?;

    // What that program has read already would all be dead letters.
    let records = Recorded::of(&site)?;
    let mut topics = BTreeSet::new();
    create_topics(kafka, &records, PARTITIONS, &mut topics)?;
    let mut stopped_at = TopicPartitionList::new();
    for topic in &topics {
        for partition in 0..PARTITIONS {
            kafka.produce(topic, Some(partition), ["{old", "{older"])?;
            stopped_at.add_partition_offset(topic, partition, Offset::Offset(2))?;
        }
    }
    let theirs: BaseConsumer = kafka.config().set("group.id", "old").create()?;
    theirs.commit(&stopped_at, CommitMode::Sync)?;
    drop(theirs);
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    publisher.send(&records)?;
    publisher.flush()?;

    // Its ledger is `./dbb-ledger.sqlite`, its Python the one in the PATH.
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![python()?.parent().context("no folder")?.to_owned()];
    folders.extend(env::split_paths(&path));
    let program = |arguments: &[&str]| -> Result<_> {
        let ledger = site.ledger_url().to_owned();
        Ok(site
            .program(arguments)
            .env("PATH", env::join_paths(&folders)?)
            .env("DBB_LEDGER__URL", ledger)
            .env("DBB_HTTP__LISTEN", "null"))
    };
    site.start_program(program(&["--run-once"])?)?.end()?.with(1)?;
    site.prove(Again::Never)?;
    ensure_all_committed(kafka, "old", &publisher)?;
    ensure!(
        site.count(|state| state == State::Refused)? == refused,
        "more was refused than must be"
    );
    let (status, ticks, _) = site.dbb(&["check"], &[])?;
    ensure!(status == 0 && ticks.contains("ctrl_ingestd"), "{ticks}");
    Ok(())
}
