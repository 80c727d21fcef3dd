//! The site's side of the federation, on a real Kafka and a real Butler: gaps that are named, asked for and filled;
//! outcomes that travel back, whatever is killed.

use crate::{
    DBB,
    kafka::{ensure_all_committed, get},
    site,
};
use anyhow::{Context, Result, ensure};
use dbb_events::{Lane, Message, Micros, Ranges, Word, message::OutcomeWord};
use dbb_sinks::ledger::{Filter, GapRow, GapState, Selector, State};
use dbb_test_services::{Kafka, Program, free_port, scratch, watermarks};
use dbb_tests::{
    Recorded, Run, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

const PARTITIONS: i32 = 2;
const LIMIT: Duration = Duration::from_secs(60);

/// A record as a hub numbers it.
#[derive(Debug, Clone)]
struct Numbered {
    record: Recorded,
    lane: Lane,
    sequence: u64,
}

/// All records of a site, in turn to the partitions of their topics, each lane numbered from 1.
fn numbered(records: Vec<Recorded>) -> Vec<Numbered> {
    let mut next: BTreeMap<Lane, u64> = BTreeMap::new();
    let mut turn: BTreeMap<String, i32> = BTreeMap::new();
    let number = |record: Recorded| {
        let turn = turn.entry(record.topic.clone()).or_default();
        *turn += 1;
        let lane = Lane {
            topic: record.topic.as_str().into(),
            partition: *turn % PARTITIONS,
        };
        let sequence = next.entry(lane.clone()).or_default();
        *sequence += 1;
        Numbered {
            record,
            sequence: *sequence,
            lane,
        }
    };
    records.into_iter().map(number).collect()
}

fn producer(kafka: &Kafka) -> Result<ThreadedProducer<rdkafka::producer::DefaultProducerContext>> {
    Ok(kafka
        .config()
        .set("message.max.bytes", "8388608")
        .set("acks", "all")
        .create()?)
}

/// What a mirror brings to the site: the topic has the alias of the hub before its name.
fn publish<'n>(kafka: &Kafka, records: impl IntoIterator<Item = &'n Numbered>, resent: bool) -> Result<()> {
    let producer = producer(kafka)?;
    for numbered in records {
        let (lane, sequence) = (numbered.lane.to_string(), numbered.sequence.to_string());
        let mut headers = OwnedHeaders::new()
            .insert(header("dbb-lane", &lane))
            .insert(header("dbb-sequence", &sequence));
        if resent {
            headers = headers.insert(header("dbb-resent", "1"));
        }
        let topic = format!("usdf.{}", numbered.record.topic);
        let record = BaseRecord::<(), _>::to(&topic)
            .partition(numbered.lane.partition)
            .headers(headers)
            .payload(&numbered.record.value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(LIMIT)?)
}

fn header<'h>(key: &'h str, value: &'h str) -> Header<'h, &'h str> {
    Header {
        key,
        value: Some(value),
    }
}

fn say(kafka: &Kafka, topic: &str, words: impl IntoIterator<Item = Word>) -> Result<()> {
    let producer = producer(kafka)?;
    for word in words {
        let body = Message {
            word,
            created_at: Micros(1_790_000_000_000_000),
        }
        .encode();
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload(&body);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(LIMIT)?)
}

/// All messages of a topic, in the order of their partitions.
fn messages(kafka: &Kafka, topic: &str) -> Result<Vec<Message>> {
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "a-look")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(None, LIMIT)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Vec::new());
    };
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in found.partitions() {
        let (low, high) = watermarks(&consumer, topic, partition.id())?;
        list.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
        left += high - low;
    }
    consumer.assign(&list)?;
    let mut all = Vec::new();
    while left > 0 {
        let message = consumer.poll(LIMIT).context("messages are not there")??;
        all.push(Message::decode(message.payload().unwrap_or_default())?);
        left -= 1;
    }
    Ok(all)
}

fn rse_of(lane: &Lane) -> &str {
    lane.topic.rsplit_once('-').map_or(&*lane.topic, |(rse, _)| rse)
}

fn gaps(site: &Site) -> Result<Vec<GapRow>> {
    Ok(if site.path().join("ledger.sqlite").exists() {
        site.ledger()?.gaps(true, 1000)?
    } else {
        Vec::new()
    })
}

/// What of each lane is missing, by the ledger.
fn missing(rows: &[GapRow]) -> BTreeMap<Lane, Ranges> {
    let mut missing: BTreeMap<Lane, Ranges> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state != GapState::Filled) {
        missing.entry(row.lane.clone()).or_default().extend(&row.gap.left);
    }
    missing
}

fn asked(kafka: &Kafka, rses: &BTreeSet<String>) -> Result<BTreeMap<Lane, Ranges>> {
    let mut asked: BTreeMap<Lane, Ranges> = BTreeMap::new();
    for rse in rses {
        for message in messages(kafka, &format!("{rse}-requests"))? {
            if let Word::Resend { lane, from, to, site } = message.word {
                ensure!(
                    &*site == "gap" && rse_of(&lane) == rse,
                    "{lane} by {site} of {rse}"
                );
                asked.entry(lane).or_default().insert(from, to);
            }
        }
    }
    Ok(asked)
}

/// Some records in the middle and at the end of lanes never reach the site; heartbeats tell of those at the end.
#[test]
fn what_is_lost_on_the_way_is_named_asked_for_and_registered_once() -> Result<()> {
    let kafka = Kafka::shared()?;
    let brokers = kafka.bootstrap();
    let http = format!("127.0.0.1:{}", free_port()?);
    let mut site = site(&format!(
        "--repositories main --files 60 --repeats 6 --site GAP --kafka {brokers} --group-id gap --http {http}"
    ))?;
    site.set(r#"source.kafka.topics=["/usdf[.]GAP_.*/"]"#);
    site.set("source.kafka.discover_seconds=1");
    site.set("gaps.patience_seconds=2");
    site.set("workers=2");
    let all = numbered(Recorded::of(&site)?);
    let mut ends: BTreeMap<Lane, u64> = BTreeMap::new();
    for numbered in &all {
        ends.insert(numbered.lane.clone(), numbered.sequence);
    }
    let rses: BTreeSet<String> = ends.keys().map(|lane| rse_of(lane).to_owned()).collect();
    let is_lost = |numbered: &&Numbered| {
        let (number, end) = (numbered.sequence, ends[&numbered.lane]);
        number > 1 && (number + 1 >= end || number % 5 == 2 || number % 11 == 3)
    };
    let (lost, came): (Vec<_>, Vec<_>) = all.iter().partition(is_lost);
    let mut wanted: BTreeMap<Lane, Ranges> = BTreeMap::new();
    for numbered in &lost {
        let of = wanted.entry(numbered.lane.clone()).or_default();
        of.insert(numbered.sequence, numbered.sequence);
    }
    let aliased = |numbered: &Numbered| Recorded {
        topic: format!("usdf.{}", numbered.record.topic),
        ..numbered.record.clone()
    };
    let topics: Vec<_> = all.iter().map(aliased).collect();
    create_topics(kafka, &topics, PARTITIONS, &mut BTreeSet::new())?;
    for rse in &rses {
        kafka.create_topic(&format!("usdf.{rse}-heartbeats"), 1)?;
    }
    let beat = || -> Result<()> {
        for rse in &rses {
            let of_rse = ends.iter().filter(|(lane, _)| rse_of(lane) == rse);
            let words = of_rse.map(|(lane, end)| Word::Heartbeat {
                lane: lane.clone(),
                sequence: *end,
            });
            say(kafka, &format!("usdf.{rse}-heartbeats"), words)?;
        }
        Ok(())
    };
    // The hub's word comes before what it tells of, and is no alarm.
    beat()?;
    let mut run = site.start(&[])?;
    publish(kafka, came.iter().copied(), false)?;
    run.until("what is missing is named exactly", || {
        Ok(missing(&gaps(&site)?) == wanted)
    })?;
    run.until("it is asked for exactly", || Ok(asked(kafka, &rses)? == wanted))?;
    ensure!(
        get(&http, "/readyz")?.starts_with("HTTP/1.1 200"),
        "a gap is no reason not to be ready"
    );
    run.until("metrics tell of it", || {
        let metrics = get(&http, "/metrics")?;
        Ok(metrics.contains("dbb_missing_records{lane=\"GAP_") && metrics.contains(r#"state="asked"} "#))
    })?;
    let (status, listed, _) = site.dbb(&["gaps", "list"], &[])?;
    let first = wanted.keys().next().context("nothing was lost")?;
    ensure!(status == 0 && listed.contains(&first.to_string()), "{listed}");

    // A kill and a start later nothing is forgotten, and nothing made up.
    run.kill()?;
    let before = gaps(&site)?.len();
    let mut run = site.start(&[])?;
    beat()?;
    run.until("it reads", || {
        Ok(get(&http, "/readyz").is_ok_and(|ready| ready.starts_with("HTTP/1.1 200")))
    })?;
    ensure!(
        missing(&gaps(&site)?) == wanted && gaps(&site)?.len() == before,
        "gaps have changed"
    );

    // What the hub says it has not is told, and taken all the same if it comes.
    let (lane, pieces) = wanted.first_key_value().context("nothing was lost")?;
    let (first, last) = pieces.ends().context("nothing was lost")?;
    let gone = Word::Unavailable {
        lane: lane.clone(),
        from: first,
        to: last,
        detail: "not kept".into(),
    };
    say(kafka, &format!("usdf.{}-heartbeats", rse_of(lane)), [gone])?;
    run.until("it is known to be unavailable", || {
        let rows = gaps(&site)?;
        let mut of_lane = rows.iter().filter(|row| row.lane == *lane);
        Ok(of_lane.all(|row| row.state == GapState::Unavailable && row.gap.left.is_empty()))
    })?;

    // The hub sends again what was asked for; of one record twice.
    publish(kafka, lost.iter().copied().chain(lost.first().copied()), true)?;
    run.until("all gaps are filled", || {
        Ok(gaps(&site)?.iter().all(|row| row.state == GapState::Filled))
    })?;
    run.terminate()?.with(0)?;
    // 1 where dead letters were left for it.
    let ended = site.run_once(&[])?;
    ensure!(
        ended.status <= 1 && !ended.text.contains("have not arrived"),
        "{}",
        ended.text
    );
    site.prove(Again::Perhaps)?;
    ensure!(
        gaps(&site)?
            .iter()
            .all(|row| row.state == GapState::Filled && row.asks > 0),
        "{:?}",
        gaps(&site)?
    );
    Ok(())
}

/// Every row of the ledger, by file and event, with its word.
fn rows(site: &Site) -> Result<BTreeSet<(String, String, String, String)>> {
    let mut rows = BTreeSet::new();
    let mut ledger = site.ledger()?;
    let dids: BTreeSet<_> = site
        .expected()?
        .events
        .iter()
        .filter_map(|event| {
            let (scope, name) = event.did.as_deref()?.split_once(':')?;
            Some(dbb_events::Did::new(scope, name))
        })
        .collect();
    for did in dids {
        for story in ledger.explain(&Selector::Did(did.clone()))? {
            for (row, _) in &story.events {
                let is_ours = row
                    .rse
                    .as_ref()
                    .is_some_and(|rse| rse.as_str().starts_with("TOLD_"));
                if is_ours && (!row.target.is_empty() || row.outcome != State::Refused) {
                    rows.insert((
                        did.to_string(),
                        row.target.to_string(),
                        row.event.to_string(),
                        row.outcome.as_str().into(),
                    ));
                }
            }
        }
    }
    Ok(rows)
}

fn outcomes(kafka: &Kafka, rses: &BTreeSet<String>) -> Result<Vec<OutcomeWord>> {
    let mut words = Vec::new();
    for rse in rses {
        words.extend(
            messages(kafka, &format!("{rse}-outcomes"))?
                .into_iter()
                .filter_map(|message| match message.word {
                    Word::Outcome(word) => Some(word),
                    _ => None,
                }),
        );
    }
    Ok(words)
}

/// First their brokers are away, then the site is killed again and again.
#[test]
fn every_outcome_in_the_ledger_was_told_before_whatever_is_killed() -> Result<()> {
    let kafka = Kafka::shared()?;
    let brokers = kafka.bootstrap();
    let http = format!("127.0.0.1:{}", free_port()?);
    let mut site = site(&format!(
        "--repositories main,prep --files 60 --repeats 6 --site TOLD --kafka {brokers} --group-id told --http {http}"
    ))?;
    site.set(r#"source.kafka.topics=["/TOLD_.*/"]"#);
    site.set("shutdown.drain_seconds=1");
    let records = Recorded::of(&site)?;
    create_topics(kafka, &records, PARTITIONS, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    publisher.send(&records)?;
    publisher.flush()?;
    let topics = records.iter().map(|record| record.topic.as_str());
    let rses: BTreeSet<String> = topics
        .filter_map(|topic| Some(topic.rsplit_once('-')?.0.to_owned()))
        .collect();

    let away = format!(r#"outcomes.kafka.brokers=["127.0.0.1:{}"]"#, free_port()?);
    let mut run = site.start(&["--set", &away])?;
    run.until("it says what keeps outcomes", || {
        let ready = get(&http, "/readyz").unwrap_or_default();
        Ok(ready.contains("outcomes wait to be published on 127.0.0.1"))
    })?;
    // What could not be read has no name to be told by.
    ensure!(
        site.count(|state| state != State::Refused)? == 0,
        "an outcome is in the ledger that nobody was told"
    );
    run.terminate()?;

    site.set(r#"outcomes.topic="{rse}-outcomes""#);
    for round in 1.. {
        let before = site.count(|_| true)?;
        let mut run = site.start(&[])?;
        if round > 3 {
            run.terminate()?;
            break;
        }
        run.until("a little more is done", || Ok(site.count(|_| true)? > before + 8))?;
        run.kill()?;
    }
    site.run_once(&[])?;
    ensure_all_committed(kafka, "told", &publisher)?;
    site.prove(Again::Perhaps)?;

    let told = outcomes(kafka, &rses)?;
    let words: BTreeSet<_> = told
        .iter()
        .map(|word| {
            (
                format!("{}:{}", word.scope, word.name),
                word.repository.to_string(),
                word.id.clone(),
                word.outcome.to_string(),
            )
        })
        .collect();
    let rows = rows(&site)?;
    let untold: Vec<_> = rows.difference(&words).collect();
    ensure!(
        rows.len() > 60 && untold.is_empty(),
        "{} rows, not told: {untold:?}",
        rows.len()
    );
    // Each with what the Butler knows it by, and each refusal with its reason.
    let of = |outcome: &str| {
        told.iter()
            .filter(|word| &*word.outcome == outcome)
            .collect::<Vec<_>>()
    };
    ensure!(of("ingested").iter().any(|word| word.uuids.len() == 1));
    ensure!(of("refused").iter().all(|word| word.reason.is_some()));
    let mut letters = 0;
    site.ledger()?.export(&Filter::default(), |row| {
        letters += u64::from(row.did.is_some());
        true
    })?;
    ensure!(letters > 0 && !of("refused").is_empty(), "nothing was refused");
    Ok(())
}

/// A site without a Butler, which has nothing in its ledger to tell of.
#[test]
fn a_site_without_repositories_tells_what_has_landed() -> Result<()> {
    let kafka = Kafka::shared()?;
    let folder = scratch("receipts")?;
    let config = folder.path().join("dbb.yaml");
    let text = format!(
        "source:\n  kafka: {{brokers: [\"{}\"], group_id: rcp, topics: [\"/RCP_DISK-.*raw/\"]}}\n\
         ledger: {{url: \"sqlite:{}\"}}\nhttp: {{listen: null}}\noutcomes: {{}}\n",
        kafka.bootstrap(),
        folder.path().join("ledger.sqlite").display()
    );
    fs::write(&config, text)?;
    let event = |number: u32, label: &str| {
        format!(
            r#"{{"event_type":"transfer-done","payload":{{"request-id":"q{number}","scope":"raw","name":"f{number}","dst-rse":"RCP_DISK","dst-url":"davs://h/x/f{number}"{label}}},"created_at":"2026-11-21 19:14:49"}}"#
        )
    };
    let label = r#","rubin_butler":"zip_file","rubin_sidecar":"""#;
    kafka.create_topic("RCP_DISK-raw", 1)?;
    kafka.produce(
        "RCP_DISK-raw",
        None,
        [event(1, label), event(2, ""), event(1, label)],
    )?;
    let log = folder.path().join("log");
    let run = |folder: &std::path::Path| -> Result<()> {
        let program = Program::new(DBB, &log)
            .args(["run", "--run-once"])
            .arg(&config)
            .current_dir(folder);
        Run::start(program, log.clone())?.end()?.with(0)?;
        Ok(())
    };
    run(folder.path())?;
    // It is told once, and nothing is left to be read.
    run(folder.path())?;
    let told = outcomes(kafka, &BTreeSet::from(["RCP_DISK".to_owned()]))?;
    ensure!(told.len() == 1, "{told:?}");
    let word = &told[0];
    ensure!(
        (&*word.name, &*word.outcome, &*word.repository) == ("f1", "landed", ""),
        "{word:?}"
    );
    Ok(())
}
