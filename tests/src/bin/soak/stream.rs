//! The stream: files that are queued, land, and are deleted again, so that as many come as go.
//!
//! One RSE for each partition: then the state of an RSE is known from one offset. What each offset holds is kept in a
//! byte, and summed up every [`EACH`] records.

use anyhow::{Context, Result};
use dbb_events::Micros;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(crate) const TOPIC: &str = "soak";
pub(crate) const PARTITIONS: usize = 6;
/// Bytes of each file.
pub(crate) const BYTES: i64 = 20_957_327;

/// Records from one sum to the next.
const EACH: usize = 1024;
/// How long one step of the stream is.
const STEP: Duration = Duration::from_millis(10);
/// Steps from the request to the landing, and from there to the deletion.
const ON_THE_WAY: usize = 100;
const THERE: usize = 500;

/// Queued, done, deleted: how many of each.
pub(crate) type Counts = [u64; 3];

/// What was sent.
#[derive(Default)]
pub(crate) struct Stream(Mutex<[Sent; PARTITIONS]>);

#[derive(Default)]
struct Sent {
    /// What each record says: an index of [`Counts`].
    words: Vec<u8>,
    /// When each was sent, in microseconds since 1970.
    sent_at: Vec<i64>,
    /// The sums before each [`EACH`] records.
    sums: Vec<Counts>,
    total: Counts,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, [Sent; PARTITIONS]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, partition: usize, word: u8) {
        let sent = &mut self.lock()[partition];
        if sent.words.len().is_multiple_of(EACH) {
            sent.sums.push(sent.total);
        }
        sent.words.push(word);
        sent.sent_at.push(now_us());
        sent.total[usize::from(word)] += 1;
    }

    /// What the records of a partition below `offset` say.
    pub(crate) fn below(&self, partition: usize, offset: usize) -> Counts {
        let sent = &self.lock()[partition];
        let offset = offset.min(sent.words.len());
        let block = (offset / EACH).min(sent.sums.len().saturating_sub(1));
        let mut counts = sent.sums.get(block).copied().unwrap_or_default();
        for word in sent.words.get(block * EACH..offset).unwrap_or_default() {
            counts[usize::from(*word)] += 1;
        }
        counts
    }

    /// When the records from one offset to another were sent.
    pub(crate) fn sent_at(&self, partition: usize, from: usize, to: usize) -> Vec<i64> {
        let sent = &self.lock()[partition];
        let to = to.min(sent.sent_at.len());
        sent.sent_at.get(from.min(to)..to).unwrap_or_default().to_vec()
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The name of the RSE of a partition.
pub(crate) fn rse(partition: usize) -> String {
    format!("SITE{partition}_DISK")
}

/// Sends `rate` events a second until told to stop; how many they were.
pub(crate) fn send(stream: &Stream, bootstrap: &str, rate: u64, stop: &AtomicBool) -> Result<u64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // So that the order in which records are handed over is that of their offsets.
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    let begun = Instant::now();
    let (mut sent, mut next, mut step) = (0u64, 0u64, 0usize);
    // The files of each of the last steps, by their first number and how many.
    let mut steps: VecDeque<(u64, u64)> = VecDeque::new();
    while !stop.load(Relaxed) {
        step += 1;
        let due = STEP * u32::try_from(step).context("too many steps")?;
        if let Some(left) = due.checked_sub(begun.elapsed()) {
            thread::sleep(left);
        }
        // Three events for each file.
        let files = (rate * step as u64 / 300).saturating_sub(next);
        steps.push_back((next, files));
        let back = |by: usize| {
            steps
                .len()
                .checked_sub(by + 1)
                .and_then(|at| steps.get(at))
                .copied()
        };
        let groups = [Some((next, files)), back(ON_THE_WAY), back(ON_THE_WAY + THERE)];
        next += files;
        let at = time(now_us());
        for (word, group) in groups.into_iter().enumerate() {
            let Some((first, files)) = group else { continue };
            for file in first..first + files {
                give(&producer, stream, word as u8, file, &at)?;
                sent += 1;
            }
        }
        if steps.len() > ON_THE_WAY + THERE {
            steps.pop_front();
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(sent)
}

fn give(producer: &BaseProducer, stream: &Stream, word: u8, file: u64, at: &str) -> Result<()> {
    let partition = (file % PARTITIONS as u64) as usize;
    let body = body(word, file, &rse(partition), at);
    let mut record = BaseRecord::<[u8], str>::to(TOPIC)
        .payload(&body)
        .partition(partition as i32);
    // Noted before it can be read.
    stream.note(partition, word);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(STEP);
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// As Hermes sends it.
fn body(word: u8, file: u64, rse: &str, at: &str) -> String {
    let scope = if file.is_multiple_of(3) { "raw" } else { "dp" };
    let (day, group) = (file / 100_000, file / 189);
    let name =
        format!("LSSTCam/{day:08}/MC_O_{day:08}_{group:06}/MC_O_{day:08}_{group:06}_R22_S{file:09}.fits");
    let request = format!("{file:032x}");
    let of_file = format!(
        r#""scope": "{scope}", "name": "{name}", "file-size": {BYTES}, "bytes": {BYTES}, "checksum-md5": null, "checksum-adler": "a89a1ad4", "activity": "Data Consolidation""#
    );
    let (event_type, payload) = match word {
        0 => (
            "transfer-queued",
            format!(
                r#"{{"request-id": "{request}", "request-type": "transfer", {of_file}, "dst-rse-id": "0f27e9a0c6b94a4f9d3c1b6f1a5d2e3c", "dst-rse": "{rse}", "state": "queued", "retry-count": 0, "rule-id": "8c7369b6f0724464a9ff9a9a63e453ca", "queued_at": "{at}"}}"#
            ),
        ),
        1 => (
            "transfer-done",
            format!(
                r#"{{"request-id": "{request}", "duration": 5, {of_file}, "guid": null, "previous-request-id": null, "protocol": "davs", "dataset": "LSSTCam/{day:08}/all", "datasetScope": "{scope}", "src-type": "DISK", "src-rse": "SLAC_RAW_DISK", "src-url": "davs://dtn-slac.example.org:443/rucio/raw_disk/{scope}/{name}", "dst-type": "DISK", "dst-rse": "{rse}", "dst-url": "davs://dtn.example.org:443/rucio/disk/{scope}/{name}", "reason": "", "transfer-endpoint": "https://fts:8446", "transfer-id": "aa8b230f-1", "transfer-link": null, "created_at": "{at}", "submitted_at": "{at}", "started_at": "{at}", "transferred_at": "{at}", "tool-id": "rucio-conveyor", "account": "lsstsvc1", "datatype": null}}"#
            ),
        ),
        _ => (
            "deletion-done",
            format!(
                r#"{{{of_file}, "rse": "{rse}", "url": "davs://dtn.example.org:443/rucio/disk/{scope}/{name}", "protocol": "davs", "datatype": null, "duration": 0.25}}"#
            ),
        ),
    };
    format!(r#"{{"event_type": "{event_type}", "payload": {payload}, "created_at": "{at}"}}"#)
}

/// A time as Rucio writes it.
fn time(us: i64) -> String {
    Micros(us).to_string().replace('T', " ").replace('Z', "")
}
