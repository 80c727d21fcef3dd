//! A hub: the real program between real topics, with a stand-in for Rucio. See `../../README.md`.

mod filter;
mod kills;
mod operators;

use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::{Ledger, LedgerSettings, State};
use dbb_test_services::{Kafka, Program, RucioStub, scratch, watermarks};
use dbb_tests::{Ended, Recorded, Run, recording::Publisher};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Headers},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// The program, as built beside these tests.
const DBB: &str = env!("CARGO_BIN_EXE_dbb_under_test");
/// Partitions of the topic of all events.
const PARTITIONS: i32 = 3;

/// A hub of one test, with topics of its own.
struct Hub {
    kafka: &'static Kafka,
    folder: tempfile::TempDir,
    /// In front of the names of all topics.
    name: &'static str,
}

/// A record as its topic has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    /// Without what is in front.
    topic: String,
    key: String,
    value: String,
    id: String,
    lane: String,
    sequence: u64,
}

impl Hub {
    /// One that looks labels up at `rucio`; `more` is added to its configuration, below `hub`.
    fn make(name: &'static str, rucio: &RucioStub, more: &str) -> Result<Self> {
        let kafka = Kafka::shared()?;
        let mut folder = scratch("hub")?;
        folder.disable_cleanup(std::env::var_os("KEEP").is_some());
        let (brokers, path) = (kafka.bootstrap(), folder.path().display());
        fs::write(folder.path().join("token"), "a-token\n")?;
        let config = format!(
            r#"
source: {{kafka: {{brokers: ["{brokers}"], group_id: {name}, topics: ["{name}.events"]}}}}
ledger: {{url: "sqlite:{path}/ledger.sqlite"}}
workers: 2
http: {{listen: null}}
hub:
  topics: {{landed: "{name}.{{rse}}-{{scope}}", dead_letters: "{name}.dead"}}
  publish:
    kafka: {{brokers: ["{brokers}"], new_topics: {{partitions: 3, replication: 1}}}}
    sent_log: {{folder: "{path}/sent"}}
    heartbeats: {{topic: "{name}.{{rse}}-heartbeats"}}
    requests: {{topics: ["/{name}[.].*-requests/"], group_id: {name}-requests}}
  lookup:
    rucio: {{url: "{}", account: dbb, auth: {{token_file: "{path}/token"}}, requests_per_second: null}}
    patience: {{retry_s: 1, retry_max_s: 2, down_retry_s: 1, down_retry_max_s: 1}}
    threads: 4
{more}"#,
            rucio.url()
        );
        fs::write(folder.path().join("dbb.yaml"), config)?;
        kafka.create_topic_with(&format!("{name}.events"), PARTITIONS, &[])?;
        Ok(Self { kafka, folder, name })
    }

    /// Appends events to the topic that the hub reads.
    fn tell<'a>(&self, events: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let records: Vec<Recorded> = events
            .into_iter()
            .map(|event| Recorded {
                topic: format!("{}.events", self.name),
                value: event.as_bytes().to_vec(),
            })
            .collect();
        let mut publisher = Publisher::new(self.kafka, PARTITIONS)?;
        publisher.send(&records)?;
        publisher.flush()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("dbb.yaml")
    }

    fn start(&self, arguments: &[&str]) -> Result<Run> {
        self.start_program(self.program(arguments))
    }

    fn start_program(&self, program: Program) -> Result<Run> {
        Run::start(program, self.folder.path().join("dbb.log"))
    }

    fn program(&self, arguments: &[&str]) -> Program {
        let log = self.folder.path().join("dbb.log");
        let program = std::env::var_os("DBB").map_or_else(|| DBB.into(), PathBuf::from);
        Program::new(&program, log)
            .arg("run")
            .arg(self.config())
            .args(arguments.iter().copied())
            .current_dir(self.folder.path())
    }

    fn run_once(&self) -> Result<Ended> {
        self.start(&["--run-once"])?.end()
    }

    /// Another command: its exit status and what it wrote.
    fn dbb(&self, command: &[&str], arguments: &[&str]) -> Result<(i32, String)> {
        let output = Command::new(DBB)
            .args(command)
            .arg(self.config())
            .args(arguments)
            .current_dir(self.folder.path())
            .output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let text = text(output.stdout) + &text(output.stderr);
        Ok((output.status.code().unwrap_or(-1), text))
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger::open(&LedgerSettings {
            url: format!("sqlite:{}/ledger.sqlite", self.folder.path().display()),
            ..LedgerSettings::default()
        })?)
    }

    /// Rows of the ledger, by how they stand.
    fn rows(&self) -> Result<BTreeMap<State, u64>> {
        let mut rows = BTreeMap::new();
        if self.folder.path().join("ledger.sqlite").exists() {
            for tally in self.ledger()?.summary()? {
                *rows.entry(tally.outcome).or_default() += tally.count;
            }
        }
        Ok(rows)
    }

    /// All that is in the hub's topics, but for heartbeats.
    fn published(&self) -> Result<Vec<Published>> {
        let consumer: BaseConsumer = self.kafka.config().set("group.id", "unused").create()?;
        let timeout = Duration::from_secs(60);
        let metadata = consumer.fetch_metadata(None, timeout)?;
        let mut left = TopicPartitionList::new();
        let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
        let own = |name: &str| {
            let rest = name
                .strip_prefix(self.name)
                .and_then(|rest| rest.strip_prefix('.'));
            rest.is_some_and(|rest| rest != "events" && !rest.ends_with("-heartbeats"))
        };
        for topic in metadata.topics().iter().filter(|topic| own(topic.name())) {
            for partition in topic.partitions() {
                let (_, high) = watermarks(&consumer, topic.name(), partition.id())?;
                if high > 0 {
                    left.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)?;
                    ends.insert((topic.name().to_owned(), partition.id()), high);
                }
            }
        }
        consumer.assign(&left)?;
        let mut all = Vec::new();
        while !ends.is_empty() {
            let message = consumer
                .poll(timeout)
                .context("a topic is not read to its end")??;
            let place = (message.topic().to_owned(), message.partition());
            if ends.get(&place).is_some_and(|end| message.offset() + 1 >= *end) {
                ends.remove(&place);
            }
            all.push(self.record(&message)?);
        }
        all.sort();
        Ok(all)
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Result<Published> {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let header = |name: &str| -> Result<String> {
            let headers = message.headers().context("a record has no headers")?;
            let found = headers.iter().find(|header| header.key == name);
            Ok(text(
                found
                    .with_context(|| format!("a record has no header {name}"))?
                    .value,
            ))
        };
        let topic = message.topic();
        Ok(Published {
            topic: topic.strip_prefix(self.name).unwrap_or(topic)[1..].to_owned(),
            key: text(message.key()),
            value: text(message.payload()),
            id: header("dbb-id")?,
            lane: header("dbb-lane")?,
            sequence: header("dbb-sequence")?.parse()?,
        })
    }
}

/// In each lane numbers are 1, 2, 3 and so on, without a hole.
fn numbers_are_whole(published: &[Published]) -> Result<()> {
    let mut lanes: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for record in published {
        lanes.entry(&record.lane).or_default().insert(record.sequence);
    }
    for (lane, numbers) in lanes {
        let wanted: BTreeSet<u64> = (1..=numbers.len() as u64).collect();
        ensure!(numbers == wanted, "the numbers of {lane} have holes: {numbers:?}");
    }
    Ok(())
}
