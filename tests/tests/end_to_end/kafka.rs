//! Events through a real Kafka: offsets, partitions, topics that appear, restarts with other numbers of workers.

use crate::site;
use anyhow::{Result, ensure};
use dbb_test_services::{Kafka, free_port};
use dbb_tests::{
    Recorded, Run, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

const PARTITIONS: i32 = 3;

/// One, three and one worker; a mirror's alias of a topic, made while running; drained by SIGTERM each time.
#[test]
fn offsets_never_run_ahead_of_outcomes_whatever_restarts() -> Result<()> {
    let kafka = Kafka::shared()?;
    let brokers = kafka.bootstrap();
    let http = format!("127.0.0.1:{}", free_port()?);
    let mut site = site(&format!(
        "--repositories main,prep --files 150 --repeats 20 --site KFA --kafka {brokers} --group-id kfa --http {http}"
    ))?;
    site.set(r#"source.kafka.topics=["/(usdf[.])?KFA_.*/"]"#);
    site.set("source.kafka.discover_seconds=1");
    let mut records = Recorded::of(&site)?;
    for record in &mut records {
        if record.topic.ends_with("-dp2") {
            record.topic.insert_str(0, "usdf.");
        }
    }
    let (mirrored, plain): (Vec<_>, Vec<_>) = records
        .iter()
        .cloned()
        .partition(|record| record.topic.starts_with("usdf."));
    let mut topics = BTreeSet::new();
    create_topics(kafka, &plain, PARTITIONS, &mut topics)?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    let watched = Watched::of(&site)?;

    // One worker. The topic of the mirror comes to be while it runs.
    let (first, rest) = plain.split_at(plain.len() / 3);
    let mut run = site.start(&[])?;
    publisher.send(first)?;
    watched.until(&mut run, kafka, &publisher, &site, |done| done > 20)?;
    ensure!(get(&http, "/livez")?.starts_with("HTTP/1.1 200"), "not alive");
    run.until("it is ready", || {
        Ok(get(&http, "/readyz")?.starts_with("HTTP/1.1 200"))
    })?;
    create_topics(kafka, &mirrored, PARTITIONS, &mut topics)?;
    publisher.send(&mirrored)?;
    let before = site.count(|_| true)?;
    watched.until(&mut run, kafka, &publisher, &site, |done| done > before + 20)?;
    let metrics = get(&http, "/metrics")?;
    ensure!(
        metrics.contains("_total") && !metrics.contains("visit_summary"),
        "{metrics}"
    );

    // SIGTERM in mid-flow, and three workers.
    let (second, third) = rest.split_at(rest.len() / 2);
    publisher.send(second)?;
    run.terminate()?.with(0)?;
    watched.check(kafka, &publisher, &site)?;
    let before = site.count(|_| true)?;
    let mut run = site.start(&["--workers", "3"])?;
    publisher.send(third)?;
    watched.until(&mut run, kafka, &publisher, &site, |done| done > before + 10)?;
    run.terminate()?.with(0)?;
    watched.check(kafka, &publisher, &site)?;

    // One again, to the end; then nothing is left to do, and nothing changes.
    publisher.flush()?;
    site.run_once(&["--workers", "1"])?;
    watched.check(kafka, &publisher, &site)?;
    ensure_all_committed(kafka, "kfa", &publisher)?;
    site.prove(Again::Perhaps)?;
    let before = site.count(|_| true)?;
    let ended = site.run_once(&["--workers", "3"])?.with(0)?;
    ensure!(ended.text.contains("0 records read"), "{}", ended.text);
    ensure!(site.count(|_| true)? == before, "the last run added rows");
    Ok(())
}

/// The good events of a site and the repositories at which each must have an outcome before its offset is committed.
pub(crate) struct Watched {
    targets: HashMap<String, usize>,
    group: String,
}

impl Watched {
    fn of(site: &Site) -> Result<Self> {
        Self::of_group(site, "kfa")
    }

    /// The same, for what this group has committed.
    pub(crate) fn of_group(site: &Site, group: &str) -> Result<Self> {
        let good = site
            .expected()?
            .events
            .into_iter()
            .filter(|event| event.fault.is_none());
        let targets = good
            .filter_map(|event| Some((event.did?, event.targets.len())))
            .collect();
        Ok(Self {
            targets,
            group: group.into(),
        })
    }

    /// Looks again and again until the ledger has enough rows.
    fn until(
        &self,
        run: &mut Run,
        kafka: &Kafka,
        publisher: &Publisher,
        site: &Site,
        enough: impl Fn(u64) -> bool,
    ) -> Result<()> {
        run.until("enough is done", || {
            self.check(kafka, publisher, site)?;
            Ok(enough(site.count(|_| true)?))
        })
    }

    /// Every record below a committed offset has its outcomes in the ledger.
    pub(crate) fn check(&self, kafka: &Kafka, publisher: &Publisher, site: &Site) -> Result<()> {
        // First what is committed: the ledger only grows.
        let places = publisher.places();
        let committed = committed(
            kafka,
            &self.group,
            places.keys().map(|(topic, partition, _)| (topic, *partition)),
        )?;
        let path = site.ledger_url().trim_start_matches("sqlite:");
        if !std::path::Path::new(path).exists() {
            ensure!(committed.is_empty(), "offsets without a ledger");
            return Ok(());
        }
        let ledger = rusqlite::Connection::open(path)?;
        ledger.busy_timeout(Duration::from_secs(20))?;
        let mut rows = HashMap::new();
        let found = ledger.prepare(
            "SELECT s.word || ':' || d.name, count(*) FROM events e JOIN dids d ON d.id = e.did \
             JOIN words s ON s.id = d.scope GROUP BY e.did",
        );
        // Its tables may not be made yet.
        if let Ok(mut statement) = found {
            let found = statement.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)? as usize))
            })?;
            rows = found.collect::<Result<HashMap<_, _>, _>>()?;
        }
        for ((topic, partition, offset), value) in &places {
            if committed
                .get(&(topic.clone(), *partition))
                .is_none_or(|to| offset >= to)
            {
                continue;
            }
            let record = Recorded {
                topic: topic.clone(),
                value: value.clone(),
            };
            let Some(did) = record.did() else { continue };
            let Some(&wanted) = self.targets.get(&did) else {
                continue;
            };
            let there = rows.get(&did).copied().unwrap_or(0);
            ensure!(
                there >= wanted,
                "{topic}[{partition}]@{offset} is committed, but {did} has {there} of {wanted} outcomes"
            );
        }
        Ok(())
    }
}

/// What a group has committed.
pub(crate) fn committed<'a>(
    kafka: &Kafka,
    group: &str,
    partitions: impl Iterator<Item = (&'a String, i32)>,
) -> Result<BTreeMap<(String, i32), i64>> {
    let client: BaseConsumer = kafka.config().set("group.id", group).create()?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions.collect::<BTreeSet<_>>() {
        list.add_partition(topic, partition);
    }
    let list = client.committed_offsets(list, Duration::from_secs(20))?;
    Ok(list
        .elements()
        .iter()
        .filter_map(|element| {
            let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
            Some(((element.topic().to_owned(), element.partition()), offset))
        })
        .collect())
}

/// The group has nothing left to read.
pub(crate) fn ensure_all_committed(kafka: &Kafka, group: &str, publisher: &Publisher) -> Result<()> {
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for (topic, partition, offset) in publisher.places().into_keys() {
        let end = ends.entry((topic, partition)).or_default();
        *end = (*end).max(offset + 1);
    }
    let committed = committed(
        kafka,
        group,
        ends.keys().map(|(topic, partition)| (topic, *partition)),
    )?;
    ensure!(
        committed == ends,
        "{committed:?} is committed, the ends are {ends:?}"
    );
    Ok(())
}

pub(crate) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
