//! Messenger: small messages to topics, each confirmed.
//!
//! In:       messages; their order is kept within a partition.
//! Out:      those that no broker will ever take, each with why; all others are in their topics.
//! State:    the messages of one call.
//!
//! What it returns for is certain: the brokers have it, as often as they were asked to.

use crate::topics::{
    ProducerSettings, TopicsError,
    admin::{Admin, NoTopic},
    backoff::Backoff,
    wire::{Parcel, Trouble, Wire},
};
use dbb_events::Message;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tracing::warn;

/// A message on its way to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Where to.
    pub topic: Arc<str>,
    /// Its partition; chosen by the key without it.
    pub partition: Option<i32>,
    /// Messages of one key stay in order.
    pub key: String,
    /// Headers by name.
    pub headers: Vec<(&'static str, String)>,
    /// What is said.
    pub body: Vec<u8>,
}

impl Post {
    /// A message without headers.
    pub fn of(topic: &Arc<str>, key: impl Into<String>, message: &Message) -> Self {
        Self {
            topic: topic.clone(),
            partition: None,
            key: key.into(),
            headers: Vec::new(),
            body: message.encode(),
        }
    }
}

/// A message that will never be in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPosted {
    /// Which of those that were given, from 0.
    pub index: usize,
    /// One sentence.
    pub detail: String,
}

/// Sends messages and waits until they are confirmed.
pub struct Messenger {
    settings: ProducerSettings,
    admin: Admin,
    wire: Wire,
    trouble: Trouble,
    stop: Arc<AtomicBool>,
}

impl Messenger {
    /// A client for those brokers; none of them is asked yet. Once `stop` is set no call waits any longer.
    ///
    /// # Errors
    ///
    /// The settings cannot work.
    pub fn open(settings: &ProducerSettings, stop: Arc<AtomicBool>) -> Result<Self, TopicsError> {
        let trouble = Trouble::default();
        Ok(Self {
            admin: Admin::open(settings)?,
            wire: wire(settings, &trouble)?,
            settings: settings.clone(),
            trouble,
            stop,
        })
    }

    /// What keeps a call waiting just now.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Sends all of them, and returns when each is in its topic, or will never be: those are returned.
    ///
    /// # Errors
    ///
    /// [`TopicsError::Stopped`]: some may be there, some not.
    pub fn send(&mut self, posts: &[Post]) -> Result<Vec<NotPosted>, TopicsError> {
        self.trouble.begin();
        let mut refused = Vec::new();
        let mut left: BTreeSet<usize> = (0..posts.len()).collect();
        let mut backoff = Backoff::new(&self.stop);
        loop {
            self.try_all(posts, &mut left, &mut refused)?;
            if left.is_empty() {
                self.trouble.end();
                refused.sort_by_key(|not: &NotPosted| not.index);
                return Ok(refused);
            }
            if let Some(detail) = self.wire.fatal() {
                warn!(detail, "making a new kafka producer");
                self.wire = wire(&self.settings, &self.trouble)?;
            }
            backoff.wait()?;
        }
    }

    /// One attempt at all that are `left`.
    fn try_all(
        &mut self,
        posts: &[Post],
        left: &mut BTreeSet<usize>,
        refused: &mut Vec<NotPosted>,
    ) -> Result<(), TopicsError> {
        for index in left.clone() {
            let post = &posts[index];
            let sent = match self.admin.topic(&post.topic) {
                Ok(_) => self.wire.send(index, &parcel(post), &self.stop),
                Err(NoTopic::Down(detail)) => {
                    self.trouble.set(detail);
                    break;
                }
                Err(NoTopic::Missing(detail) | NoTopic::Refused(detail)) => {
                    left.remove(&index);
                    refused.push(NotPosted { index, detail });
                    continue;
                }
            };
            match sent {
                Ok(()) => {}
                Err(Some(code)) => self.failed(index, post, code, left, refused),
                Err(None) => return Err(TopicsError::Stopped),
            }
        }
        while self.wire.under_way() > 0 {
            for answered in self.wire.answers(true) {
                match answered.result {
                    Ok(_) => {
                        left.remove(&answered.number);
                    }
                    Err(code) => {
                        self.failed(answered.number, &posts[answered.number], code, left, refused);
                    }
                }
            }
            if self.wire.under_way() == 0 {
                break;
            }
            if self.stop.load(Relaxed) || self.wire.fatal().is_some() {
                self.wire.purge(true);
            }
        }
        if self.stop.load(Relaxed) && !left.is_empty() {
            return Err(TopicsError::Stopped);
        }
        Ok(())
    }

    fn failed(
        &mut self,
        index: usize,
        post: &Post,
        code: Code,
        left: &mut BTreeSet<usize>,
        refused: &mut Vec<NotPosted>,
    ) {
        match code {
            Code::TopicAuthorizationFailed
            | Code::MessageSizeTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation => {
                left.remove(&index);
                let detail = format!("topic `{}` does not take it: {code}", post.topic);
                refused.push(NotPosted { index, detail });
            }
            // It may be gone, or have fewer partitions.
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                self.admin.forget(&post.topic);
            }
            _ => {}
        }
    }
}

fn wire(settings: &ProducerSettings, trouble: &Trouble) -> Result<Wire, TopicsError> {
    Wire::open(
        &settings.producer(settings.max_record_bytes, false)?,
        trouble.clone(),
    )
}

fn parcel(post: &Post) -> Parcel<'_> {
    Parcel {
        topic: &post.topic,
        partition: post.partition,
        key: post.key.as_bytes(),
        headers: post
            .headers
            .iter()
            .map(|(key, value)| (*key, value.as_str().into()))
            .collect(),
        body: &post.body,
    }
}
