//! From real message brokers: to files, to a topic, to a Butler, while `dbb` and a broker are killed; and who else reads
//! them has a copy of everything.

use crate::{DBB, site};
use anyhow::{Result, ensure};
use dbb_sources::replay::{Input, Kind, Queue, Reader};
use dbb_test_services::{ActiveMq, Kafka, Process, Program, Stomp, root, wait_until};
use dbb_tests::{Dice, Recorded};
use flate2::read::GzDecoder;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::Read, path::Path, thread, time::Duration};

const LIMIT: Duration = Duration::from_secs(90);
const TOPIC: &str = "/topic/rucio.events";

/// The events of a captured night, in the order in which Hermes sent them.
fn night(name: &str) -> Result<Vec<String>> {
    let file = fs::File::open(root().join(format!("tests/data/rucio-events/night-{name}-events.ndjson.gz")))?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Sends as Hermes does, and returns when the broker has all of it.
fn send(broker: &ActiveMq, bodies: &[impl AsRef<[u8]>]) -> Result<()> {
    let mut hermes = Stomp::connect(broker.port(), &[])?;
    for body in bodies {
        let body = body.as_ref();
        let length = body.len().to_string();
        // With a length it is bytes to the broker, which it does not look into.
        let is_text = std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0'));
        let headers: &[_] = if is_text {
            &[]
        } else {
            &[("content-length", length.as_str())]
        };
        hermes.post(TOPIC, headers, body)?;
    }
    hermes.disconnect()
}

/// A monitoring system with a durable subscription of its own.
fn monitor(broker: &ActiveMq) -> Result<Stomp> {
    let mut monitor = Stomp::connect(broker.port(), &[("client-id", "monitor")])?;
    monitor.subscribe(TOPIC, &[("activemq.subscriptionName", "monitor")])?;
    Ok(monitor)
}

/// How often each is there.
fn counted(bodies: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for body in bodies {
        *counted.entry(body).or_default() += 1;
    }
    counted
}

/// A folder with a configuration that has nothing but a source, and where to record it to.
fn folder(brokers: &[&ActiveMq], record: Value) -> Result<tempfile::TempDir> {
    let brokers: Vec<_> = brokers
        .iter()
        .map(|broker| format!("127.0.0.1:{}", broker.port()))
        .collect();
    let config = json!({
        "source": {"stomp": {"brokers": brokers, "destination": TOPIC, "prefetch": 200}},
        "record": record,
    });
    let folder = tempfile::tempdir()?;
    // JSON is YAML.
    fs::write(folder.path().join("dbb.yaml"), config.to_string())?;
    Ok(folder)
}

fn start(folder: &Path, arguments: &[&str]) -> Result<Process> {
    Program::new(DBB, folder.join("log"))
        .args(["record", "dbb.yaml"])
        .args(arguments.iter().copied())
        .current_dir(folder)
        .start()
}

/// Starts it, and waits until it has subscribed to `brokers` brokers.
fn subscribed(folder: &Path, arguments: &[&str], brokers: usize) -> Result<Process> {
    let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    let before = log().len();
    let process = start(folder, arguments)?;
    wait_until("it is subscribed", LIMIT, || {
        process.ensure_running()?;
        Ok(log()[before..].matches("subscribed").count() >= brokers)
    })?;
    Ok(process)
}

/// Runs it until nothing more comes, twice: the second time there is nothing. What it said.
fn drained(folder: &Path, arguments: &[&str]) -> Result<()> {
    let all = [arguments, &["--until-idle", "2"]].concat();
    for last in [false, true] {
        let before = fs::read(folder.join("log"))?.len();
        let mut process = start(folder, &all)?;
        let status = process.wait()?;
        let said = fs::read_to_string(folder.join("log"))?.split_off(before);
        ensure!(status == 0, "status {status}: {said}");
        ensure!(
            !last || said.contains("\n0 records in "),
            "acknowledged messages came again: {said}"
        );
    }
    Ok(())
}

/// The lines of the complete files.
fn recorded(folder: &Path) -> Result<Vec<String>> {
    let input = Input {
        path: folder.join("recorded"),
        kind: Kind::Event,
    };
    let (mut reader, mut buffer, mut lines) =
        (Reader::new(Queue::open(&[input], 0, 1)?), Vec::new(), Vec::new());
    while let Some(block) = reader.next_block(&mut buffer)? {
        for line in block.lines(&buffer) {
            lines.push(String::from_utf8(line.bytes.to_vec())?);
        }
    }
    Ok(lines)
}

#[test]
fn every_event_of_a_night_is_in_files_whatever_is_killed_and_monitoring_has_its_copy() -> Result<()> {
    let mut dice = Dice::new("a night through a broker");
    let mut broker = ActiveMq::start()?;
    let events = night("b")?;
    let folder = folder(&[&broker], json!({}))?;
    let arguments = ["--out", "recorded", "--max-file-seconds", "0.3"];
    // What was sent before the subscription is nobody's.
    let mut dbb = Some(subscribed(folder.path(), &arguments, 1)?);
    drop(monitor(&broker)?);
    let rounds = 8;
    for round in 0..rounds {
        let upto = |round: usize| events.len() * round / rounds;
        send(&broker, &events[upto(round)..upto(round + 1)])?;
        thread::sleep(Duration::from_millis(dice.below(1200)));
        if round == rounds / 2 {
            broker.kill()?;
            broker.start_again()?;
        } else if let Some(mut dbb) = dbb.take() {
            dbb.ensure_running()?;
            dbb.kill()?;
        }
        if dbb.is_none() {
            dbb = Some(start(folder.path(), &arguments)?);
        }
    }
    drop(dbb);
    drained(folder.path(), &arguments)?;

    let (sent, found) = (counted(events), counted(recorded(folder.path())?));
    let missing = sent.keys().filter(|event| !found.contains_key(*event)).count();
    ensure!(missing == 0, "{missing} of {} events are in no file", sent.len());
    ensure!(found.len() == sent.len(), "more is recorded than was sent");
    let copies = found.values().sum::<usize>() - sent.values().sum::<usize>();
    println!(
        "{} events, {copies} copies after {} kills",
        sent.len(),
        rounds - 1
    );
    // Its own copy of everything, each message once.
    let (mut monitor, mut seen) = (monitor(&broker)?, Vec::new());
    while let Some(message) = monitor.receive(Duration::from_secs(2))? {
        seen.push(String::from_utf8(message.body)?);
    }
    ensure!(
        counted(seen) == sent,
        "the monitoring system has not got what was sent"
    );
    Ok(())
}

#[test]
fn two_brokers_become_one_topic_through_kills_of_dbb_and_of_kafka() -> Result<()> {
    let mut dice = Dice::new("two brokers to a topic");
    let (first, second) = (ActiveMq::start()?, ActiveMq::start()?);
    let mut kafka = Kafka::start()?;
    kafka.create_topic("rucio.events", 3)?;
    let events = night("c")?;
    let record = json!({"topic": "rucio.events", "kafka": {"brokers": [kafka.bootstrap()]}});
    let folder = folder(&[&first, &second], record)?;
    let mut dbb = Some(subscribed(folder.path(), &["--to-kafka"], 2)?);
    let rounds = 6;
    for round in 0..rounds {
        let upto = |round: usize| events.len() * round / rounds;
        for (n, chunk) in events[upto(round)..upto(round + 1)].chunks(50).enumerate() {
            // Each message is on one of them, which only Hermes knows.
            send(if n % 2 == 0 { &first } else { &second }, chunk)?;
        }
        thread::sleep(Duration::from_millis(dice.below(800)));
        if round == 2 {
            kafka.restart(0)?;
        } else if let Some(mut dbb) = dbb.take() {
            dbb.ensure_running()?;
            dbb.kill()?;
        }
        if dbb.is_none() {
            dbb = Some(start(folder.path(), &["--to-kafka"])?);
        }
    }
    drop(dbb);
    drained(folder.path(), &["--to-kafka"])?;

    let published = published(&kafka, 3)?;
    let sent = counted(events);
    for event in sent.keys() {
        ensure!(
            published.contains_key(event.as_str()),
            "not in the topic: {event}"
        );
    }
    ensure!(published.len() == sent.len(), "the topic has what was never sent");
    for (body, (key, partitions)) in &published {
        let event: Value = serde_json::from_str(body)?;
        let text = |name: &str| event["payload"][name].as_str();
        if let (Some(scope), Some(name)) = (text("scope"), text("name")) {
            ensure!(*key == format!("{scope}:{name}"), "{key} is the key of {body}");
        }
        ensure!(partitions.len() == 1, "copies of one event are in {partitions:?}");
    }
    Ok(())
}

/// What is in the topic: each body with its key and the partitions it is in.
fn published(kafka: &Kafka, partitions: i32) -> Result<BTreeMap<String, (String, Vec<i32>)>> {
    let mut all = BTreeMap::new();
    for partition in 0..partitions {
        let consumer: BaseConsumer = kafka.config().set("group.id", "looks").create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("rucio.events", partition, Offset::Beginning)?;
        consumer.assign(&list)?;
        let end = kafka.end_offset("rucio.events", partition)?;
        let mut next = kafka.first_offset("rucio.events", partition)?;
        while next < end {
            let Some(message) = consumer.poll(LIMIT) else {
                break;
            };
            let message = message?;
            next = message.offset() + 1;
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let (_, there) = all
                .entry(text(message.payload()))
                .or_insert_with(|| (text(message.key()), Vec::new()));
            if !there.contains(&partition) {
                there.push(partition);
            }
        }
        ensure!(
            next >= end,
            "partition {partition} could be read to {next} of {end}"
        );
    }
    Ok(all)
}

#[test]
fn files_are_registered_from_brokers_and_records_are_counted_from_run_to_run() -> Result<()> {
    let mut dice = Dice::new("a site behind brokers");
    let (first, second) = (ActiveMq::start()?, ActiveMq::start()?);
    // Without topics nobody can be on a wrong one.
    let mut site = site("--files 90 --repeats 10 --faults none --max-datasets 20 --site MQ")?;
    let source = json!({"stomp": {
        "brokers": [format!("127.0.0.1:{}", first.port()), format!("127.0.0.1:{}", second.port())],
        "destination": TOPIC, "prefetch": 40,
    }});
    site.edit_config(|text| {
        let lines = text.lines().map(|line| match line.starts_with("source: ") {
            true => format!("source: {source}\n"),
            false => format!("{line}\n"),
        });
        lines.collect()
    })?;
    site.set("repositories.main.patience.retry_s=1");
    // The first run makes the subscriptions.
    site.run_once(&[])?.with(0)?;
    let chatter: Vec<String> = (0..30)
        .map(|n| format!("{{\"event_type\": \"open\", \"payload\": {{\"name\": \"{n}\"}}, \"created_at\": \"2026-11-21 19:14:49\"}}"))
        .collect();
    for (round, wanted) in [(0..10, 10), (10..30, 30)] {
        send(&first, &chatter[round])?;
        site.run_once(&[])?.with(0)?;
        let counts: u64 = site.ledger()?.counts()?.values().sum();
        ensure!(
            counts == wanted,
            "{counts} records are counted, and {wanted} were read"
        );
    }
    let bodies: Vec<Vec<u8>> = Recorded::of(&site)?
        .into_iter()
        .map(|record| record.value)
        .collect();
    let rounds = 5;
    for round in 0..rounds {
        let upto = |round: usize| bodies.len() * round / rounds;
        for (n, chunk) in bodies[upto(round)..upto(round + 1)].chunks(7).enumerate() {
            send(if n % 2 == 0 { &first } else { &second }, chunk)?;
        }
        let run = site.start(&[])?;
        thread::sleep(Duration::from_millis(500 + dice.below(3500)));
        run.ensure_running()?;
        run.kill()?;
    }
    site.settle_after_kills()?;
    let ended = site.run_once(&[])?.with(0)?;
    ensure!(
        ended.text.contains("0 records read"),
        "acknowledged messages came again: {}",
        ended.text
    );
    Ok(())
}

#[test]
fn what_a_broker_refuses_ends_the_start_with_78_and_one_that_is_away_with_69() -> Result<()> {
    let broker = ActiveMq::secured()?;
    let folder = folder(&[&broker], json!({}))?;
    fs::write(folder.path().join("password"), "wrong")?;
    let run = |command: &[&str], more: &[&str]| -> Result<(i32, String)> {
        let before = fs::read(folder.path().join("log")).map_or(0, |log| log.len());
        let mut process = Program::new(DBB, folder.path().join("log"))
            .args(command.iter().copied())
            .args(more.iter().copied())
            .current_dir(folder.path())
            .start()?;
        let status = process.wait()?;
        Ok((
            status,
            fs::read_to_string(folder.path().join("log"))?.split_off(before),
        ))
    };
    let record = ["record", "dbb.yaml", "--out", "recorded", "--until-idle", "1"];
    let login = [
        "--set",
        "source.stomp.security={username: dbb, password_file: password}",
    ];
    let (status, said) = run(&record, &login)?;
    let named =
        said.contains(&format!("127.0.0.1:{}", broker.port())) && said.contains("security.password_file");
    ensure!(status == 78 && named, "{status}: {said}");
    let (status, said) = run(&["check", "dbb.yaml", "--connect"], &login)?;
    ensure!(
        status == 1 && said.contains("✗") && said.contains("refuses the login"),
        "{status}: {said}"
    );
    fs::write(folder.path().join("password"), ActiveMq::PASSWORD)?;
    let (status, said) = run(&["check", "dbb.yaml", "--connect"], &login)?;
    ensure!(status == 0 && said.contains("lets us in"), "{status}: {said}");
    let (status, said) = run(&record, &login)?;
    ensure!(status == 0, "{status}: {said}");
    // Nothing is there for a run to do.
    let (status, said) = run(&["run", "dbb.yaml"], &login)?;
    ensure!(status == 78 && said.contains("dbb record"), "{status}: {said}");
    let away = ["--set", "source.stomp.brokers=[127.0.0.1:1]"];
    let (status, said) = run(&record, &away)?;
    ensure!(status == 69 && said.contains("127.0.0.1:1"), "{status}: {said}");
    Ok(())
}
