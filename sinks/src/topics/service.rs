//! Service: the threads beside the sink: heartbeats, and requests of sites.
//!
//! ```text
//!   confirmed numbers, every few seconds ----------------> {rse}-heartbeats
//!   {rse}-requests --> jobs --> sent log, or own topic --> the same lanes, again
//!                                    \-- not kept -------> {rse}-heartbeats
//! ```
//!
//! Each thread has a messenger of its own: neither waits for the other, nor publishing for them.

use crate::topics::{
    HeartbeatSettings, Messenger, Post, RequestSettings, Share, TopicsError, TopicsFigures, TopicsSettings,
    lanes::Lanes, resend::Resender, sent_log::Keeper, sink::now,
};
use dbb_events::{Message, Word};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::warn;

/// Longest that a stop is not noticed.
const STEP: Duration = Duration::from_millis(50);

pub(super) struct Service {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    pub(super) fn start(
        settings: &TopicsSettings,
        share: Share,
        keeper: Option<Keeper>,
        lanes: Lanes,
        figures: TopicsFigures,
    ) -> Result<Self, TopicsError> {
        let stop = Arc::new(AtomicBool::new(false));
        let messenger = Messenger::open(&settings.kafka, stop.clone())?;
        figures.messenger(messenger.trouble());
        let heart = Heart {
            settings: settings.heartbeats.clone(),
            messenger,
            lanes: lanes.clone(),
            figures: figures.clone(),
            stop: stop.clone(),
        };
        let mut service = Self {
            stop: stop.clone(),
            threads: vec![spawn("heartbeats", move || heart.run())?],
        };
        if let Some(requests) = &settings.requests {
            let requests = RequestSettings {
                group_id: match share.of {
                    0 | 1 => requests.group_id.clone(),
                    // Each answers for its own lanes, so each reads all requests.
                    _ => format!("{}-{}", requests.group_id, share.index),
                },
                ..requests.clone()
            };
            let alone = share.of <= 1;
            let resender = Resender::open(settings, &requests, alone, keeper, lanes, figures, stop)?;
            service.threads.push(spawn("resending", move || resender.run())?);
        }
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, TopicsError> {
    thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| TopicsError::Configuration(format!("could not start a thread: {error}")))
}

struct Heart {
    settings: HeartbeatSettings,
    messenger: Messenger,
    lanes: Lanes,
    figures: TopicsFigures,
    stop: Arc<AtomicBool>,
}

impl Heart {
    fn run(mut self) {
        let every = Duration::from_secs(u64::from(self.settings.every_seconds));
        while !self.stop.load(Relaxed) {
            let begun = Instant::now();
            self.beat();
            while begun.elapsed() < every && !self.stop.load(Relaxed) {
                thread::sleep(STEP);
            }
        }
    }

    fn beat(&mut self) {
        let at = now();
        let of_an_rse = self
            .lanes
            .all()
            .into_iter()
            .filter(|(_, standing)| !standing.rse.as_str().is_empty());
        let posts: Vec<Post> = of_an_rse
            .map(|(lane, standing)| {
                let topic = self.settings.topic_of(standing.rse.as_str()).into();
                let key = lane.to_string();
                let word = Word::Heartbeat {
                    lane,
                    sequence: standing.confirmed,
                };
                Post::of(&topic, key, &Message { word, created_at: at })
            })
            .collect();
        if posts.is_empty() {
            return;
        }
        match self.messenger.send(&posts) {
            Ok(refused) => {
                if let Some(first) = refused.first() {
                    warn!(
                        refused = refused.len(),
                        detail = first.detail,
                        "heartbeats are not taken"
                    );
                }
                self.figures.add_heartbeats((posts.len() - refused.len()) as u64);
            }
            Err(TopicsError::Stopped) => {}
            Err(error) => warn!(%error, "heartbeats could not be sent"),
        }
    }
}
