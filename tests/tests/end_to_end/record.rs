//! A live topic as files, through any number of kills, beside the site's own group.

use crate::DBB;
use anyhow::{Context, Result, ensure};
use dbb_sources::replay::{Input, Kind, Queue, Reader};
use dbb_test_services::{Kafka, Process, Program, wait_until};
use serde_json::{Value, json};
use std::{fs, path::Path, thread, time::Duration};
use tempfile::TempDir;

const PARTITIONS: i32 = 3;
const GROUP: &str = "recorded";

fn start(folder: &Path, more: &[&str]) -> Result<Process> {
    Program::new(DBB, folder.join("log"))
        .args(["record", "site.yaml", "--out", "recorded"])
        .args(more.iter().copied())
        .current_dir(folder)
        .start()
}

/// A folder with a site that reads `topic`.
fn site_of(kafka: &Kafka, topic: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let config = json!({
        "source": {"kafka": {"brokers": [kafka.bootstrap()], "group_id": GROUP, "topics": [topic]}},
        "rses": {"A": {"prefixes": [{"from": "davs://h/", "to": "/none/"}]}},
        "routes": [{"rse": "A", "repositories": ["main"]}],
        "repositories": {"main": {"butler": "/none"}},
        "http": {"listen": null},
    });
    // JSON is YAML.
    fs::write(folder.path().join("site.yaml"), config.to_string())?;
    Ok(folder)
}

/// Topic, partition, offset and value of each line of the complete files.
fn lines(folder: &Path) -> Result<Vec<(String, i64, i64, String)>> {
    let path = folder.join("recorded");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let queue = Queue::open(
        &[Input {
            path,
            kind: Kind::Event,
        }],
        0,
        1,
    )?;
    let (mut reader, mut buffer, mut lines) = (Reader::new(queue), Vec::new(), Vec::new());
    while let Some(block) = reader.next_block(&mut buffer)? {
        for line in block.lines(&buffer) {
            let line: Value = serde_json::from_slice(line.bytes)?;
            let text = |key: &str| {
                line[key]
                    .as_str()
                    .map(str::to_owned)
                    .with_context(|| format!("no {key}"))
            };
            let number = |key: &str| line[key].as_i64().with_context(|| format!("no {key}"));
            ensure!(text("appended_at")?.starts_with("20"), "when? {line}");
            lines.push((
                text("topic")?,
                number("partition")?,
                number("offset")?,
                text("value")?,
            ));
        }
    }
    lines.sort();
    Ok(lines)
}

#[test]
fn a_recording_that_is_killed_again_and_again_holds_each_record_once() -> Result<()> {
    let kafka = Kafka::shared()?;
    kafka.create_topic("REC-raw", PARTITIONS)?;
    let folder = site_of(kafka, "REC-raw")?;
    let value = |n: usize| format!("{{\"event_type\": \"open\", \"n\": \"{n} é \\n\"}}");

    let (mut sent, rounds) = (0, 6);
    for round in 0..rounds {
        kafka.produce("REC-raw", None, (sent..sent + 500).map(value))?;
        sent += 500;
        let mut recording = start(folder.path(), &["--max-file-seconds", "0.4"])?;
        if round > 0 {
            // Some of what it reads is in a complete file, and the rest in none.
            let before = lines(folder.path())?.len();
            wait_until("a file is complete", Duration::from_secs(60), || {
                recording.ensure_running()?;
                Ok(lines(folder.path())?.len() > before)
            })?;
            kafka.produce("REC-raw", None, (sent..sent + 300).map(value))?;
            sent += 300;
        }
        thread::sleep(Duration::from_millis(150 * round as u64));
        recording.kill()?;
    }
    let mut recording = start(folder.path(), &["--until-idle", "2"])?;
    let status = recording.wait()?;
    ensure!(status == 0, "status {status}: {}", recording.log_end());

    let found = lines(folder.path())?;
    ensure!(found.len() == sent, "{} records of {sent}", found.len());
    let mut values: Vec<String> = found.iter().map(|line| line.3.clone()).collect();
    values.sort();
    let mut wanted: Vec<String> = (0..sent).map(value).collect();
    wanted.sort();
    ensure!(values == wanted, "other values than were sent");
    for partition in 0..PARTITIONS {
        let of = found.iter().filter(|line| line.1 == i64::from(partition));
        let offsets: Vec<i64> = of.map(|line| line.2).collect();
        let end = kafka.end_offset("REC-raw", partition)?;
        ensure!(
            offsets == (0..end).collect::<Vec<_>>(),
            "offsets of {partition}: {offsets:?}"
        );
        // The site begins where it would have begun.
        let committed = kafka.committed(GROUP, "REC-raw", partition)?;
        ensure!(
            committed.is_none(),
            "the site's own offset has moved to {committed:?}"
        );
    }
    Ok(())
}

#[test]
fn a_recording_that_is_asked_to_end_completes_its_file() -> Result<()> {
    let kafka = Kafka::shared()?;
    kafka.create_topic("RECT-raw", 1)?;
    let folder = site_of(kafka, "RECT-raw")?;
    kafka.produce("RECT-raw", None, [r#"{"event_type": "open"}"#])?;
    let mut recording = start(folder.path(), &["--format", "parquet"])?;
    let part = folder.path().join("recorded/.events-00000001.parquet.part");
    wait_until("it has read something", Duration::from_secs(60), || {
        recording.ensure_running()?;
        Ok(part.exists())
    })?;
    recording.signal("TERM")?;
    let status = recording.wait()?;
    ensure!(status == 0, "status {status}: {}", recording.log_end());
    let input = Input {
        path: folder.path().join("recorded"),
        kind: Kind::Event,
    };
    let (mut reader, mut buffer) = (Reader::new(Queue::open(&[input], 0, 1)?), Vec::new());
    let block = reader.next_block(&mut buffer)?;
    ensure!(
        block.is_some() && buffer == b"{\"event_type\": \"open\"}\n",
        "{block:?}"
    );
    Ok(())
}
