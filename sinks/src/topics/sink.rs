//! Sink: events of a hub into the topics of RSEs.
//!
//! ```text
//!   outgoing events --> key, partition --> publish (numbers, sent log, brokers) --> answers
//!        \--- too long, no topic, not allowed: an answer of its own --------------/
//! ```
//!
//! In:    outgoing events with the names of their topics.
//! Out:   an answer for each that was not simply published, or that the ledger had sent again.
//! State: what is known of each topic; the next number of each lane.
//!
//! Once a call has returned, its records are confirmed by the brokers and on the disk in the sent log.

use crate::topics::{
    TopicsError, TopicsFigures, TopicsSettings,
    admin::{Admin, NoTopic, Topic},
    backoff::Backoff,
    lanes::{Lanes, partition_of},
    publish::{End, Going, Publisher, is_gone},
    sent_log::{Kept, SentLog},
    service::Service,
};
use dbb_events::{Class, Dependency, Lane, Micros, Outcome, Outgoing, Reason, Refusal, Rse, Sent};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::warn;

/// Longest that a start waits for brokers that do not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What waits for its topic is tried again after so many seconds.
const AGAIN_SECONDS: i64 = 60;

/// What the client adds to a record: lengths, names of headers, our marks.
const MARKS_BYTES: usize = 300;

/// Which of several processes this is: each numbers and answers for the topics that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Default for Share {
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

/// Publishes the events of a hub.
pub struct TopicsSink {
    publisher: Publisher,
    admin: Admin,
    figures: TopicsFigures,
    stop: Arc<AtomicBool>,
    // Ends its threads when dropped.
    _service: Service,
}

impl TopicsSink {
    /// Opens the sent log, looks at the topics or makes them, finds out where their lanes end, and sends what an
    /// earlier process has written down and not sent. Heartbeats and the answering of requests begin.
    ///
    /// `topics` are those that are known beforehand; others are looked at when the first record is for them. Once
    /// `stop` is set no call waits any longer.
    ///
    /// # Errors
    ///
    /// Settings that cannot work, a sent log that cannot be opened, brokers that do not answer within 20 s.
    pub fn open(
        settings: &TopicsSettings,
        topics: &[(Rse, Arc<str>)],
        share: Share,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TopicsError> {
        settings.validate()?;
        let log = settings.sent_log.as_ref().map(SentLog::open).transpose()?;
        let (figures, lanes) = (TopicsFigures::default(), Lanes::default());
        let keeper = log.as_ref().map(SentLog::keeper);
        let mut known: BTreeMap<Arc<str>, Rse> = topics
            .iter()
            .map(|(rse, topic)| (topic.clone(), rse.clone()))
            .collect();
        for (lane, span) in log.iter().flat_map(|log| log.lanes()) {
            known
                .entry(lane.topic.clone())
                .or_insert_with(|| span.rse.clone());
        }
        let mut sink = Self {
            publisher: Publisher::new(&settings.kafka, log, lanes.clone(), figures.clone(), stop.clone())?,
            admin: Admin::open(&settings.kafka)?,
            _service: Service::start(settings, share, keeper, lanes, figures.clone())?,
            figures,
            stop,
        };
        for (topic, rse) in &known {
            sink.begin(topic, rse)?;
        }
        Ok(sink)
    }

    /// What was published, for metrics.
    pub fn figures(&self) -> TopicsFigures {
        self.figures.clone()
    }

    /// How far each lane is numbered.
    pub fn lanes(&self) -> Lanes {
        self.publisher.confirmed.clone()
    }

    /// Publishes all of them, and returns when each is confirmed or has another end: answers are for those that were
    /// not simply published, or that the ledger had sent again.
    ///
    /// # Errors
    ///
    /// [`TopicsError::Stopped`]: some may be published, none has an answer, and the sink is of no use any more.
    pub fn deliver(&mut self, batch: Vec<Outgoing>) -> Result<Vec<Sent>, TopicsError> {
        let start = Instant::now();
        let (mut sent, mut going, mut outgoings) = (Vec::new(), Vec::new(), Vec::new());
        let mut topics: HashMap<Arc<str>, Result<Topic, Outcome>> = HashMap::new();
        for outgoing in batch {
            let topic = match topics.get(&outgoing.topic) {
                Some(topic) => topic.clone(),
                None => {
                    let topic = self.topic(&outgoing.topic, &outgoing.rse)?;
                    topics.insert(outgoing.topic.clone(), topic.clone());
                    topic
                }
            };
            match topic.and_then(|topic| self.place(&outgoing, topic)) {
                Ok(one) => {
                    going.push(one);
                    outgoings.push(outgoing);
                }
                Err(outcome) => sent.push(answer(outgoing, outcome)),
            }
        }
        self.publisher.publish(&mut going)?;
        let mut counts: BTreeMap<(Arc<str>, Class), u64> = BTreeMap::new();
        for (one, outgoing) in going.into_iter().zip(outgoings) {
            match one.end {
                End::Published | End::Open => {
                    *counts
                        .entry((outgoing.topic.clone(), outgoing.class))
                        .or_default() += 1;
                    if outgoing.again.is_some() {
                        sent.push(answer(outgoing, Outcome::Published));
                    }
                }
                End::Refused(code, detail) => {
                    let outcome = self.refused(&outgoing.topic, code, detail);
                    sent.push(answer(outgoing, outcome));
                }
            }
        }
        let refused = sent
            .iter()
            .filter(|one| matches!(one.outcome, Outcome::Refused(_)));
        self.figures.add_refused(refused.count() as u64);
        self.figures.published(counts, start.elapsed());
        Ok(sent)
    }

    /// A topic that is known beforehand; if it cannot be used, only its own records will wait.
    fn begin(&mut self, topic: &Arc<str>, rse: &Rse) -> Result<(), TopicsError> {
        let start = Instant::now();
        let mut backoff = Backoff::new(&self.stop);
        loop {
            match self.try_topic(topic, rse)? {
                Ok(_) => return Ok(()),
                Err(NoTopic::Missing(detail) | NoTopic::Refused(detail)) => {
                    warn!(%topic, detail, "a topic cannot be published to");
                    return Ok(());
                }
                Err(NoTopic::Down(detail)) if start.elapsed() > PATIENCE => {
                    let what = format!("Kafka at {}", self.publisher.settings.brokers.join(","));
                    return Err(TopicsError::Unreachable { what, detail });
                }
                Err(NoTopic::Down(_)) => backoff.wait()?,
            }
        }
    }

    /// The topic, with all its lanes open, or what becomes of records for it. Waits for brokers.
    fn topic(&mut self, topic: &Arc<str>, rse: &Rse) -> Result<Result<Topic, Outcome>, TopicsError> {
        self.figures.trouble().begin();
        let mut backoff = Backoff::new(&self.stop);
        let found = loop {
            match self.try_topic(topic, rse)? {
                Ok(topic) => break Ok(topic),
                Err(NoTopic::Missing(detail)) => break Err(waiting(detail)),
                Err(NoTopic::Refused(detail)) => break Err(refusal(Reason::TopicRefused, detail)),
                Err(NoTopic::Down(detail)) => {
                    self.figures.trouble().set(detail);
                    backoff.wait()?;
                }
            }
        };
        self.figures.trouble().end();
        Ok(found)
    }

    fn try_topic(&mut self, topic: &Arc<str>, rse: &Rse) -> Result<Result<Topic, NoTopic>, TopicsError> {
        let found = match self.admin.topic(topic) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let lane = |partition| Lane {
            topic: topic.clone(),
            partition,
        };
        let unknown: Vec<(Lane, Rse)> = (0..found.partitions)
            .map(lane)
            .filter(|lane| self.publisher.find(lane).is_none())
            .map(|lane| (lane, rse.clone()))
            .collect();
        self.publisher.fit(found.max_bytes)?;
        if unknown.is_empty() {
            return Ok(Ok(found));
        }
        match self.publisher.open_lanes(&unknown)? {
            Ok(()) => Ok(Ok(found)),
            Err(error) => Ok(Err(self.unreadable(topic, &error))),
        }
    }

    /// The ends of its lanes cannot be read.
    fn unreadable(&mut self, topic: &Arc<str>, error: &KafkaError) -> NoTopic {
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
                let no = NoTopic::Refused(format!(
                    "this user may not read topic `{topic}`, which is how numbers go on ({error}): give it the right"
                ));
                self.admin.close(topic, no.clone());
                no
            }
            _ => NoTopic::Down(format!("topic `{topic}`: {error}")),
        }
    }

    /// The lane of a record, if its topic takes records of that length.
    fn place(&self, outgoing: &Outgoing, topic: Topic) -> Result<Going, Outcome> {
        let kept = Kept {
            id: outgoing.event,
            source: outgoing.place.to_string(),
            key: key(outgoing),
            body: outgoing.body.clone(),
        };
        let bytes = kept.key.len() + kept.source.len() + kept.body.len() + outgoing.topic.len() + MARKS_BYTES;
        let most = topic.max_bytes.min(self.publisher.settings.max_record_bytes) as usize;
        if bytes > most {
            return Err(refusal(
                Reason::TooLarge,
                format!(
                    "the record has {bytes} bytes, topic `{}` takes {most}",
                    outgoing.topic
                ),
            ));
        }
        let lane = Lane {
            topic: outgoing.topic.clone(),
            partition: partition_of(kept.key.as_bytes(), topic.partitions),
        };
        match self.publisher.find(&lane) {
            Some(lane) => Ok(Going::new(kept, lane)),
            None => Err(waiting(format!("partition {lane} is not known yet"))),
        }
    }

    /// What becomes of a record that its topic did not take.
    fn refused(&mut self, topic: &Arc<str>, code: Code, detail: String) -> Outcome {
        if is_gone(Some(code)) {
            self.admin.forget(topic);
            return waiting(detail);
        }
        if code == Code::TopicAuthorizationFailed {
            self.admin.close(topic, NoTopic::Refused(detail.clone()));
            return refusal(Reason::TopicRefused, detail);
        }
        // It may take less than it did.
        self.admin.forget(topic);
        let large = matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize);
        refusal(
            if large {
                Reason::TooLarge
            } else {
                Reason::TopicRefused
            },
            detail,
        )
    }
}

/// Events of one file stay in order. What could not be read has no file.
fn key(outgoing: &Outgoing) -> String {
    match (&*outgoing.did.scope, &*outgoing.did.name) {
        ("", "") => outgoing.event.to_string(),
        (scope, name) => format!("{scope}:{name}"),
    }
}

fn waiting(detail: String) -> Outcome {
    Outcome::Waiting {
        dependency: Dependency::Time,
        not_before: now().plus_seconds(AGAIN_SECONDS),
        detail,
        counts: true,
    }
}

fn refusal(reason: Reason, detail: String) -> Outcome {
    Outcome::Refused(Refusal { reason, detail })
}

fn answer(outgoing: Outgoing, outcome: Outcome) -> Sent {
    Sent {
        outgoing,
        outcome,
        at: now(),
    }
}

pub(super) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(since.as_micros() as i64)
}
