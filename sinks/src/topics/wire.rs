//! Wire: a producer, and what the brokers answer for each record that was given to it.
//!
//! In:    records with a number of the caller's.
//! Out:   for each number its offset, or why it was not taken.
//! State: what is not answered; all of it is in librdkafka.

use crate::topics::TopicsError;
use crossbeam_channel::{Receiver, Sender};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer},
};
use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::debug;

/// Longest that a stop is not noticed.
const STEP: Duration = Duration::from_millis(50);

/// A call that takes longer is worth telling.
const LONG: Duration = Duration::from_secs(3);

/// Pause when the client holds as much as it may.
const FULL: Duration = Duration::from_millis(1);

/// What was answered for one record.
pub(super) struct Answered {
    pub(super) number: usize,
    pub(super) result: Result<i64, Code>,
}

/// A record to send.
pub(super) struct Parcel<'a> {
    pub(super) topic: &'a str,
    /// Chosen by the client from the key without it.
    pub(super) partition: Option<i32>,
    pub(super) key: &'a [u8],
    pub(super) headers: Vec<(&'static str, Cow<'a, str>)>,
    pub(super) body: &'a [u8],
}

/// What a call that waits is waiting for; shared with whoever tells of it.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    since: Option<Instant>,
    said: Option<String>,
}

impl Trouble {
    /// What keeps a call waiting just now: one sentence.
    pub fn get(&self) -> Option<String> {
        let waits = lock(&self.0);
        let long = waits.since.is_some_and(|since| since.elapsed() > LONG);
        let said = waits.said.clone();
        long.then(|| said.unwrap_or_else(|| "the brokers do not answer".into()))
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        *lock(&self.0) = Waits {
            since: Some(Instant::now()),
            said: None,
        };
    }

    /// It has ended well.
    pub(super) fn end(&self) {
        *lock(&self.0) = Waits::default();
    }

    pub(super) fn set(&self, said: impl Into<String>) {
        lock(&self.0).said = Some(said.into());
    }
}

pub(super) struct Wire {
    // Answers come from its own thread as soon as they are there.
    producer: ThreadedProducer<Heard>,
    answers: Receiver<Answered>,
    under_way: usize,
}

pub(super) struct Heard {
    answers: Sender<Answered>,
    said: Trouble,
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        dbb_kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka");
        self.said.set(reason.to_owned());
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        // Nobody listens once the wire has been dropped.
        let _ = self.answers.send(Answered { number, result });
    }
}

impl Wire {
    pub(super) fn open(config: &ClientConfig, said: Trouble) -> Result<Self, TopicsError> {
        let (sender, answers) = crossbeam_channel::unbounded();
        let heard = Heard {
            answers: sender,
            said,
        };
        let producer = config
            .create_with_context(heard)
            .map_err(|error| TopicsError::Configuration(format!("kafka: {error}")))?;
        Ok(Self {
            producer,
            answers,
            under_way: 0,
        })
    }

    /// Takes a record; waits while too much is under way.
    ///
    /// # Errors
    ///
    /// Why the client does not take it, or `None` when it was told to stop.
    pub(super) fn send(
        &mut self,
        number: usize,
        parcel: &Parcel<'_>,
        stop: &AtomicBool,
    ) -> Result<(), Option<Code>> {
        let mut headers = OwnedHeaders::new_with_capacity(parcel.headers.len());
        for (key, value) in &parcel.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value.as_bytes()),
            });
        }
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(parcel.topic, number)
            .key(parcel.key)
            .headers(headers)
            .payload(parcel.body);
        if let Some(partition) = parcel.partition {
            record = record.partition(partition);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.under_way += 1;
                    return Ok(());
                }
                Err((error, unsent)) => {
                    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                    if code != Code::QueueFull {
                        return Err(Some(code));
                    }
                    if stop.load(Relaxed) {
                        return Err(None);
                    }
                    thread::sleep(FULL);
                    record = unsent;
                }
            }
        }
    }

    /// How many records have no answer that was taken.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// The answers that are there; waits a moment for the first where `wait` is set.
    pub(super) fn answers(&mut self, wait: bool) -> Vec<Answered> {
        let first = (wait && self.under_way > 0).then(|| self.answers.recv_timeout(STEP));
        let answers: Vec<_> = first
            .into_iter()
            .flatten()
            .chain(self.answers.try_iter())
            .collect();
        self.under_way -= answers.len();
        answers
    }

    /// Lets go of what has not been sent, and with `all` of what was; each of it still gets an answer.
    pub(super) fn purge(&self, all: bool) {
        let purge = PurgeConfig::default().queue();
        self.producer.purge(if all { purge.inflight() } else { purge });
    }

    /// Why this producer will never send anything again, if so.
    pub(super) fn fatal(&self) -> Option<String> {
        let (code, text) = self.producer.client().fatal_error()?;
        Some(format!("{code}: {text}"))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
