//! The sites that demo, tests and benchmarks are made of: right on a real Butler, and whole on a real Kafka.

use anyhow::{Context, Result, ensure};
use dbb_test_services::{Kafka, python, root, scratch};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::{collections::BTreeMap, fs, process::Command, time::Duration};

#[test]
fn a_plain_loop_over_the_butler_agrees_with_the_oracle() -> Result<()> {
    let output = Command::new(python()?)
        .args(["-m", "unittest", "discover", "-s", "tests/site"])
        .current_dir(root())
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn the_demo_proves_itself_and_takes_no_folder_that_is_in_use() -> Result<()> {
    let program =
        option_env!("CARGO_BIN_EXE_dbb_under_test").context("built without the program under test")?;
    let folder = scratch("demo")?;
    let site = folder.path().join("site");
    let demo = || {
        let mut command = Command::new(program);
        command
            .args(["demo", "--files", "40", "--dir"])
            .arg(&site)
            .arg("--python")
            .arg(python()?);
        anyhow::Ok(command.output()?)
    };
    let output = demo()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "--run-once",
        "same uuid two files",
        "dbb explain",
        "0 differences",
        "exactly what it must",
    ] {
        ensure!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    let again = demo()?;
    ensure!(!again.status.success(), "a site was made over another");
    let said = String::from_utf8_lossy(&again.stderr);
    ensure!(said.contains("is not empty"), "{said}");
    Ok(())
}

#[test]
fn a_published_recording_is_on_its_topics_byte_for_byte_and_in_order() -> Result<()> {
    let kafka = Kafka::shared()?;
    let folder = scratch("site")?;
    let record = |topic: &str, value: &str| {
        let record = serde_json::json!({"topic": topic, "key": "message", "value": value});
        record.to_string().into_bytes()
    };
    let large = "x".repeat(1_200_000);
    let lines = [
        record("PUBLISH_RAW-raw", r#"{"n": 1}"#),
        record("PUBLISH_BUTLER-dp1", r#"{"n": 2}"#),
        b"\xff not UTF-8".to_vec(),
        record("PUBLISH_BUTLER-dp1", &large),
        record("PUBLISH_RAW-raw", r#"{"n": 1}"#),
    ];
    fs::write(folder.path().join("0001.ndjson"), lines.join(&b'\n'))?;

    let published = dbb::demo::publish(&kafka.bootstrap(), folder.path(), 3)?;
    assert_eq!(published.records, 5);
    assert_eq!(published.topics, ["PUBLISH_BUTLER-dp1", "PUBLISH_RAW-raw"]);

    let mut read = BTreeMap::new();
    for topic in &published.topics {
        read.insert(topic.as_str(), all_of(kafka, topic)?);
    }
    let body = |text: &str| text.as_bytes().to_vec();
    let expected = BTreeMap::from([
        (
            "PUBLISH_BUTLER-dp1",
            vec![body(r#"{"n": 2}"#), b"\xff not UTF-8".to_vec(), body(&large)],
        ),
        ("PUBLISH_RAW-raw", vec![body(r#"{"n": 1}"#), body(r#"{"n": 1}"#)]),
    ]);
    assert!(read == expected, "the topics hold something else");

    let again = dbb::demo::publish(&kafka.bootstrap(), folder.path(), 3);
    assert!(
        again.is_err_and(|error| error.to_string().contains("of its own")),
        "published on old topics"
    );
    Ok(())
}

/// All records of a topic; a constant key puts them all in one partition, in order.
fn all_of(kafka: &Kafka, topic: &str) -> Result<Vec<Vec<u8>>> {
    let mut config = kafka.config();
    config
        .set("group.id", "site")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut wanted = 0;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..3 {
        wanted += kafka.end_offset(topic, partition)?;
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (mut values, mut seen) = (Vec::new(), Vec::new());
    while (values.len() as i64) < wanted {
        let message = consumer
            .poll(Duration::from_secs(30))
            .context("no more records came")??;
        assert_eq!(message.key(), Some(b"message".as_slice()));
        seen.push(message.partition());
        values.push(message.payload().unwrap_or_default().to_vec());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "one key is in one partition");
    Ok(values)
}
