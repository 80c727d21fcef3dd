//! Own: the hub's own topics, read back: where each lane ends, and records that are to be sent again.
//!
//! ```text
//!   lane --> its last records --> the highest number among them
//!   lane, numbers --> the offsets where they must be --> records
//! ```
//!
//! Numbers rise with offsets but for records that were sent again, which are marked.

use crate::topics::{ProducerSettings, TopicsError, sent_log::Kept};
use bytes::Bytes;
use dbb_events::{EventId, Lane, message::header};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// Longest that one question to the brokers may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest that records which must be there are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// When all partitions have been read to their ends, and nothing comes for so long, nothing will.
const SILENCE: Duration = Duration::from_secs(1);

/// So many records are read at first to find one that tells the last number.
const WINDOW: i64 = 100;

/// Records without our headers are of somebody else, who published before us: after so many we look no further.
const FOREIGN: i64 = 10_000;

/// How a lane ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// The highest number, and whose record it is.
    pub(super) last: Option<(u64, EventId)>,
    /// The offset after the last record; above 0 there were records once.
    pub(super) end: i64,
    /// There are none now.
    pub(super) empty: bool,
}

/// A record with our headers.
struct Ours {
    lane: Lane,
    sequence: u64,
    resent: bool,
    id: EventId,
}

pub(super) struct Own {
    consumer: BaseConsumer,
}

impl Own {
    pub(super) fn open(settings: &ProducerSettings) -> Result<Self, TopicsError> {
        let mut config = settings.client()?;
        config
            .set("group.id", "dbb-own-topics")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.wait.max.ms", "10")
            .set("fetch.error.backoff.ms", "100");
        let consumer = config
            .create()
            .map_err(|error| TopicsError::Configuration(format!("kafka: {error}")))?;
        Ok(Self { consumer })
    }

    /// How each of the lanes ends.
    pub(super) fn tails(&self, lanes: &[Lane]) -> KafkaResult<HashMap<Lane, Tail>> {
        let mut tails = HashMap::new();
        let mut open = Vec::new();
        for lane in lanes {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&lane.topic, lane.partition, LIMIT)?;
            let tail = Tail {
                last: None,
                end: high,
                empty: low == high,
            };
            tails.insert(lane.clone(), tail);
            if low < high {
                open.push((lane.clone(), low, high));
            }
        }
        let mut window = WINDOW;
        while !open.is_empty() {
            let ranges = open
                .iter()
                .map(|(lane, low, high)| (lane.clone(), (*low).max(high - window), *high));
            // How many are ours, and how many of those were no repeats.
            let mut seen: HashMap<Lane, (u64, u64)> = HashMap::new();
            self.read(&ranges.collect::<Vec<_>>(), |lane, message| {
                if let Some(ours) = ours(message).filter(|ours| ours.lane == *lane) {
                    let (all, fresh) = seen.entry(lane.clone()).or_default();
                    *all += 1;
                    *fresh += u64::from(!ours.resent);
                    if let Some(tail) = tails.get_mut(lane)
                        && tail.last.is_none_or(|(last, _)| last < ours.sequence)
                    {
                        tail.last = Some((ours.sequence, ours.id));
                    }
                }
                true
            })?;
            open.retain(|(lane, low, high)| {
                let (all, fresh) = seen.get(lane).copied().unwrap_or_default();
                fresh == 0 && high - window > *low && (all > 0 || window < FOREIGN)
            });
            window *= 10;
        }
        Ok(tails)
    }

    /// Those records of `from` to `to` that the lane's topic still has, by number.
    pub(super) fn find(&self, lane: &Lane, from: u64, to: u64) -> KafkaResult<BTreeMap<u64, Kept>> {
        let mut found = BTreeMap::new();
        let (low, high) = self
            .consumer
            .fetch_watermarks(&lane.topic, lane.partition, LIMIT)?;
        let Some((last, _)) = self
            .tails(std::slice::from_ref(lane))?
            .get(lane)
            .and_then(|tail| tail.last)
        else {
            return Ok(found);
        };
        // Each number has an offset of its own, so it is this one at most.
        let mut begin = (high - 1 - last.saturating_sub(from) as i64).max(low);
        while begin > low {
            match self.first_fresh(lane, begin, high)? {
                Some(ours) if ours.sequence <= from => break,
                Some(ours) => begin = (begin - (ours.sequence - from) as i64).max(low),
                None => begin = (begin - WINDOW).max(low),
            }
        }
        self.read(&[(lane.clone(), begin, high)], |_, message| {
            let Some(ours) = ours(message).filter(|ours| ours.lane == *lane) else {
                return true;
            };
            if (from..=to).contains(&ours.sequence) {
                found.entry(ours.sequence).or_insert_with(|| kept(&ours, message));
            }
            ours.resent || ours.sequence < to
        })?;
        Ok(found)
    }

    /// The lowest number that the lane's topic still has, but for records that were sent again.
    pub(super) fn lowest(&self, lane: &Lane) -> KafkaResult<Option<u64>> {
        let (low, high) = self
            .consumer
            .fetch_watermarks(&lane.topic, lane.partition, LIMIT)?;
        if low == high {
            return Ok(None);
        }
        Ok(self.first_fresh(lane, low, high)?.map(|ours| ours.sequence))
    }

    /// The first record at `begin` or after that was not sent again.
    fn first_fresh(&self, lane: &Lane, begin: i64, end: i64) -> KafkaResult<Option<Ours>> {
        let mut first = None;
        self.read(&[(lane.clone(), begin, end)], |_, message| {
            first = ours(message).filter(|ours| ours.lane == *lane && !ours.resent);
            first.is_none()
        })?;
        Ok(first)
    }

    /// Reads offsets `from` to below `to` of each lane, until `each` has enough or all are read.
    fn read(
        &self,
        ranges: &[(Lane, i64, i64)],
        mut each: impl FnMut(&Lane, &BorrowedMessage<'_>) -> bool,
    ) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        let mut left: HashMap<(String, i32), (&Lane, i64)> = HashMap::new();
        for (lane, from, to) in ranges {
            list.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(*from))?;
            left.insert((lane.topic.to_string(), lane.partition), (lane, *to));
        }
        self.consumer.assign(&list)?;
        let (mut heard, mut ends) = (Instant::now(), 0);
        let result = loop {
            // The last offsets may be none of records; which partition has ended is not told.
            if left.is_empty() || (ends >= ranges.len() && heard.elapsed() > SILENCE) {
                break Ok(());
            }
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let key = (message.topic().to_owned(), message.partition());
                    let Some((lane, to)) = left.get(&key).copied() else {
                        continue;
                    };
                    if message.offset() < to && !each(lane, &message) {
                        break Ok(());
                    }
                    if message.offset() + 1 >= to {
                        left.remove(&key);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
                Some(Err(error)) if !dbb_kafka::passes(&error) => break Err(error),
                Some(Err(_)) | None if heard.elapsed() > PATIENCE => {
                    break Err(KafkaError::MessageConsumption(Code::OperationTimedOut));
                }
                Some(Err(_)) | None => {}
            }
        };
        self.consumer.unassign()?;
        result
    }
}

fn ours(message: &BorrowedMessage<'_>) -> Option<Ours> {
    let headers = message.headers()?;
    let (mut lane, mut sequence, mut id, mut resent) = (None, None, None, false);
    for one in headers.iter() {
        let value = one.value.and_then(|value| std::str::from_utf8(value).ok());
        match (one.key, value) {
            (header::LANE, Some(value)) => lane = value.parse().ok(),
            (header::SEQUENCE, Some(value)) => sequence = value.parse().ok(),
            (header::ID, Some(value)) => id = u128::from_str_radix(value, 16).ok().map(EventId),
            (header::RESENT, _) => resent = true,
            _ => {}
        }
    }
    Some(Ours {
        lane: lane?,
        sequence: sequence?,
        resent,
        id: id?,
    })
}

fn kept(ours: &Ours, message: &BorrowedMessage<'_>) -> Kept {
    let source = message.headers().and_then(|headers| {
        let source = headers.iter().find(|one| one.key == header::SOURCE)?;
        Some(String::from_utf8_lossy(source.value?).into_owned())
    });
    Kept {
        id: ours.id,
        source: source.unwrap_or_default(),
        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
        body: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
    }
}
