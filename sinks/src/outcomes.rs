//! Outcomes: tells the centre what became of events, each message confirmed.
//!
//! ```text
//!   answers, dead letters --> a message each --> topic of the RSE --> confirmed
//! ```
//!
//! In:    what is told, in batches.
//! Out:   nothing: when [`Outcomes::tell`] returns, the brokers have all of it at least once.
//! State: the messages of one batch. While the brokers are away, or do not take one, it waits.

use crate::topics::{Messenger, Post, ProducerSettings, TopicsError};
use dbb_events::{Message, Micros, Telling, Word, message::OutcomeWord};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two attempts at messages that brokers have refused.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest that a stop is not noticed.
const STEP: Duration = Duration::from_millis(20);
/// What a record has beside key and body, at most.
const AROUND: usize = 1024;

/// The topic of a word; `None` where it is not told.
pub type TopicOf = Box<dyn FnMut(&OutcomeWord) -> Option<Arc<str>> + Send>;

/// See the module.
pub struct Outcomes {
    messenger: Messenger,
    topic_of: TopicOf,
    max_bytes: usize,
    stop: Arc<AtomicBool>,
    delay: Delay,
}

/// Since when a batch is on its way, and what keeps it; shared with whoever tells of it.
#[derive(Debug, Clone, Default)]
pub struct Delay(Arc<Mutex<Option<Held>>>);

#[derive(Debug, Clone)]
struct Held {
    since: Instant,
    reason: String,
}

impl Delay {
    /// What keeps outcomes that have waited `longer_than` this; empty where nothing is known.
    pub fn reason(&self, longer_than: Duration) -> Option<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref()?;
        (held.since.elapsed() > longer_than).then(|| held.reason.clone())
    }

    fn set(&self, to: Option<Held>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    fn because(&self, reason: &str) {
        if let Some(held) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            reason.clone_into(&mut held.reason);
        }
    }
}

impl Outcomes {
    /// A client for those brokers; none of them is asked yet. Once `stop` is set no call waits any longer.
    ///
    /// # Errors
    ///
    /// The settings cannot work.
    pub fn open(
        settings: &ProducerSettings,
        topic_of: TopicOf,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TopicsError> {
        Ok(Self {
            messenger: Messenger::open(settings, Arc::clone(&stop))?,
            topic_of,
            max_bytes: usize::try_from(settings.max_record_bytes).unwrap_or(usize::MAX),
            stop,
            delay: Delay::default(),
        })
    }

    /// What keeps them.
    pub fn delay(&self) -> Delay {
        self.delay.clone()
    }

    /// What the client complains of just now.
    pub fn trouble(&self) -> crate::topics::Trouble {
        self.messenger.trouble()
    }

    /// Tells all of them, for as long as it takes; `on_told` hears each word.
    ///
    /// # Errors
    ///
    /// [`TopicsError::Stopped`]: some may have been told, some not.
    pub fn tell(
        &mut self,
        tellings: &[Telling],
        now: Micros,
        on_told: impl Fn(&OutcomeWord),
    ) -> Result<(), TopicsError> {
        let mut posts = Vec::with_capacity(tellings.len());
        for word in tellings.iter().filter_map(Telling::word) {
            let Some(topic) = (self.topic_of)(&word) else {
                continue;
            };
            on_told(&word);
            posts.extend(self.post(&topic, word, now));
        }
        self.delay.set(Some(Held {
            since: Instant::now(),
            reason: String::new(),
        }));
        while !posts.is_empty() {
            let refused = self.messenger.send(&posts)?;
            let Some(first) = refused.first() else { break };
            tracing::error!(
                messages = refused.len(),
                detail = first.detail,
                "outcomes are not taken: trying again"
            );
            self.delay.because(&first.detail);
            posts = refused.iter().map(|not| posts[not.index].clone()).collect();
            self.wait()?;
        }
        self.delay.set(None);
        Ok(())
    }

    fn post(&self, topic: &Arc<str>, word: OutcomeWord, now: Micros) -> Option<Post> {
        let key = format!("{}:{}", word.scope, word.name);
        let message = Message {
            word: Word::Outcome(word),
            created_at: now,
        };
        let post = Post::of(topic, key, &message);
        // A name of megabytes, from a bad event, would keep all others for ever.
        let bytes = post.key.len() + post.body.len() + AROUND;
        if bytes > self.max_bytes {
            let name: String = post.key.chars().take(200).collect();
            tracing::error!(
                name,
                bytes,
                "an outcome is too long to be told: only the ledger has it"
            );
            return None;
        }
        Some(post)
    }

    fn wait(&self) -> Result<(), TopicsError> {
        let start = Instant::now();
        while start.elapsed() < AGAIN {
            if self.stop.load(Relaxed) {
                return Err(TopicsError::Stopped);
            }
            thread::sleep(STEP);
        }
        Ok(())
    }
}
