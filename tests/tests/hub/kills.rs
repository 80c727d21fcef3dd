//! SIGKILL at random moments: nothing is lost, and what is there twice is there under one id.

use crate::{
    Hub,
    filter::{did, known, lines, parsed},
    numbers_are_whole,
};
use anyhow::{Result, ensure};
use dbb::runtime::fault::HUB_POINTS;
use dbb_test_services::RucioStub;
use dbb_tests::Dice;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

#[test]
fn whenever_it_is_killed_everything_is_published_and_offsets_are_never_ahead() -> Result<()> {
    let night = lines("night-b-events")?;
    let events = parsed(&night)?;
    let rucio = RucioStub::start(known(&events, &[]), Duration::from_millis(2))?;
    let hub = Hub::make("kills", &rucio, "")?;
    let wanted: BTreeSet<String> = events
        .iter()
        .zip(&night)
        .filter(|(event, _)| {
            let word = event["event_type"].as_str().unwrap_or_default();
            word == "transfer-done" || word.starts_with("deletion-")
        })
        .map(|(event, line)| {
            let event_id = dbb_events::decode(line.as_bytes()).map(|read| read.identity(line.as_bytes()));
            event_id.map_or_else(|_| did(event), |id| id.to_string())
        })
        .collect();
    let mut pieces = night.chunks(night.len().div_ceil(6));
    let mut dice = Dice::of(7);
    for round in 0..6 {
        hub.tell(pieces.next().into_iter().flatten().map(String::as_str))?;
        // Some at random moments, some where a crash would hurt most: before and behind the brokers' word.
        let point = HUB_POINTS[round % 2];
        let run = if round % 3 == 0 {
            let run = hub.start(&[])?;
            thread::sleep(Duration::from_millis(500 + dice.below(1000)));
            run.kill()?;
            None
        } else {
            let fault = format!("{point}:1");
            Some(hub.start_program(hub.program(&[]).env("DBB_FAULT", fault))?)
        };
        if let Some(run) = run {
            let ended = run.end()?;
            ensure!(
                ended.status > 128,
                "it should have died at {point}: {}",
                ended.text
            );
        }
        let committed = committed(&hub)?;
        let (published, rows) = (ids(&hub)?, hub.rows()?);
        // Every event whose offset is committed is in its topic.
        let below = below(&hub, &committed)?;
        let missing: Vec<_> = below
            .intersection(&wanted)
            .filter(|id| !published.contains_key(*id))
            .collect();
        ensure!(
            missing.is_empty() && rows.is_empty(),
            "{} events below {committed:?} are nowhere: {rows:?}",
            missing.len()
        );
    }
    hub.run_once()?.with(0)?;
    let published = ids(&hub)?;
    let got: BTreeSet<String> = published.keys().cloned().collect();
    ensure!(
        got == wanted,
        "{} of {} events are published",
        got.intersection(&wanted).count(),
        wanted.len()
    );
    for (id, values) in &published {
        ensure!(values.len() == 1, "{id} has two bodies: {values:?}");
    }
    numbers_are_whole(&hub.published()?)?;
    ensure!(hub.rows()?.is_empty(), "{:?}", hub.rows()?);
    Ok(())
}

/// Topics and bodies, by id.
fn ids(hub: &Hub) -> Result<BTreeMap<String, BTreeSet<(String, String)>>> {
    let mut ids: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for record in hub.published()? {
        ids.entry(record.id)
            .or_default()
            .insert((record.topic, record.value));
    }
    Ok(ids)
}

/// The committed offset of each partition.
fn committed(hub: &Hub) -> Result<BTreeMap<i32, i64>> {
    let consumer: BaseConsumer = hub.kafka.config().set("group.id", hub.name).create()?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..crate::PARTITIONS {
        asked.add_partition(&format!("{}.events", hub.name), partition);
    }
    let committed = consumer.committed_offsets(asked, Duration::from_secs(60))?;
    Ok(committed
        .elements()
        .iter()
        .map(|at| (at.partition(), at.offset().to_raw().unwrap_or(0).max(0)))
        .collect())
}

/// The identities of all events below these offsets.
fn below(hub: &Hub, committed: &BTreeMap<i32, i64>) -> Result<BTreeSet<String>> {
    use rdkafka::{Message, Offset};
    let consumer: BaseConsumer = hub.kafka.config().set("group.id", "unused").create()?;
    let mut left: BTreeMap<i32, i64> = committed
        .iter()
        .filter(|(_, to)| **to > 0)
        .map(|(p, to)| (*p, *to))
        .collect();
    let mut assigned = TopicPartitionList::new();
    for partition in left.keys() {
        assigned.add_partition_offset(&format!("{}.events", hub.name), *partition, Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;
    let mut ids = BTreeSet::new();
    while !left.is_empty() {
        let Some(message) = consumer.poll(Duration::from_secs(60)).transpose()? else {
            anyhow::bail!("the events are not read to their end");
        };
        let to = committed[&message.partition()];
        if message.offset() < to
            && let Some(body) = message.payload()
            && let Ok(event) = dbb_events::decode(body)
        {
            ids.insert(event.identity(body).to_string());
        }
        if message.offset() + 1 >= to {
            left.remove(&message.partition());
        }
    }
    Ok(ids)
}
