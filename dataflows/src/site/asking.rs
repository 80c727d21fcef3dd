//! Asking: requests to a hub for what did not arrive.
//!
//! ```text
//!   ledger: gaps that are due --> a message for each piece --> {rse}-requests, mirrored to the hub
//!                  ^------------- asked at, again at ---------------/
//! ```
//!
//! In:    gaps that have been open for longer than is borne, or that an operator wants asked for.
//! Out:   messages, confirmed; then when to ask again, in the ledger. A crash between the two asks twice.
//! State: none.

use super::work::now;
use crate::{
    config::{Config, federation::topic_of},
    runtime::Control,
};
use anyhow::Context;
use dbb_events::{Lane, Message, Micros, Word};
use dbb_serving::Metrics;
use dbb_sinks::{
    ledger::{GapRow, GapState, Generation, Ledger, LedgerError},
    topics::{Messenger, Post, TopicsError},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Longest that a stop is not noticed.
const STEP: Duration = Duration::from_millis(50);
/// Most gaps that are asked for at once, and most pieces of one.
const MOST: (usize, usize) = (100, 100);
/// The longest time between two requests for the same gap, in seconds.
const LONGEST: i64 = 6 * 3600;

/// The messages that ask for these numbers of a lane.
pub(crate) fn requests(
    config: &Config,
    lane: &Lane,
    pieces: impl IntoIterator<Item = (u64, u64)>,
    now: Micros,
) -> Vec<Post> {
    let gaps = config.gaps.clone().unwrap_or_default();
    let group = config.source.kafka.as_ref().map(|kafka| &kafka.group_id);
    let site: Arc<str> = gaps
        .site
        .as_ref()
        .or(group)
        .map_or_else(|| "".into(), |site| site.as_str().into());
    let topic = topic_of(
        &gaps.requests,
        config.rse_of_topic(&lane.topic).unwrap_or_default(),
    );
    let post = |(from, to)| {
        let word = Word::Resend {
            site: Arc::clone(&site),
            lane: lane.clone(),
            from,
            to,
        };
        let message = Message {
            word,
            created_at: now,
        };
        Post::of(&topic, lane.to_string(), &message)
    };
    pieces.into_iter().map(post).collect()
}

/// The thread that asks.
pub(super) struct Asking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Asking {
    /// Starts it, where gaps are to be asked for.
    ///
    /// # Errors
    ///
    /// The settings cannot work; the ledger cannot be opened.
    pub(super) fn start(
        config: &Config,
        generation: Generation,
        control: &Arc<Control>,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Self>> {
        let Some(gaps) = &config.gaps else {
            return Ok(None);
        };
        let Some(settings) = config.publishes(gaps.kafka.as_ref()) else {
            return Ok(None);
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut asker = Asker {
            messenger: Messenger::open(&settings, Arc::clone(&stop)).context("in gaps.kafka")?,
            ledger: Ledger::open(&config.ledger)?,
            generation,
            config: config.clone(),
            again_seconds: i64::try_from(gaps.again_seconds).unwrap_or(LONGEST),
            metrics: metrics.clone(),
        };
        let (stopped, control) = (Arc::clone(&stop), Arc::clone(control));
        let thread = Builder::new().name("gaps".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match asker.ask() {
                    Ok(()) => {}
                    Err(AskError::Messages(TopicsError::Stopped)) => return,
                    // Whoever writes the ledger says so.
                    Err(AskError::Ledger(LedgerError::Fenced { .. })) => return,
                    Err(AskError::Ledger(error)) if error.is_transient() => {
                        tracing::debug!(%error, "could not look for gaps");
                    }
                    Err(AskError::Ledger(error)) => return control.fail(error.to_string()),
                    Err(AskError::Messages(error)) => return control.fail(error.to_string()),
                }
                while begun.elapsed() < LOOK && !stopped.load(Ordering::Relaxed) {
                    sleep(STEP);
                }
            }
        })?;
        Ok(Some(Self { stop, thread }))
    }

    /// Ends it.
    pub(super) fn join(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the thread that asks for gaps panicked");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Messages(#[from] TopicsError),
}

struct Asker {
    messenger: Messenger,
    ledger: Ledger,
    generation: Generation,
    config: Config,
    again_seconds: i64,
    metrics: Metrics,
}

impl Asker {
    fn ask(&mut self) -> Result<(), AskError> {
        let at = now();
        let due = self.ledger.gaps_to_ask(at, MOST.0)?;
        if due.is_empty() {
            return Ok(());
        }
        let mut posts = Vec::new();
        let mut asked = Vec::with_capacity(due.len());
        for row in due {
            let pieces: Vec<(u64, u64)> = wanted(&row);
            let records: u64 = pieces.iter().map(|(from, to)| to - from + 1).sum();
            let (lane, first, last, times) = (&row.lane, row.gap.first, row.gap.last, row.asks);
            tracing::info!(%lane, first, last, records, times, "asking the hub for records");
            posts.extend(requests(&self.config, lane, pieces, at));
            asked.push((row.lane, first, Some(at.plus_seconds(self.pause(row.asks)))));
        }
        let refused = self.messenger.send(&posts)?;
        if let Some(first) = refused.first() {
            tracing::error!(
                messages = refused.len(),
                detail = first.detail,
                "requests for missing records are not taken: they are made again later"
            );
        }
        self.metrics.asked((posts.len() - refused.len()) as u64);
        self.ledger.asked(self.generation, at, &asked)?;
        Ok(())
    }

    /// Seconds until a gap that was asked for so many times before is asked for again.
    fn pause(&self, asks: u32) -> i64 {
        let longer = 1i64.checked_shl(asks.min(20)).unwrap_or(LONGEST);
        self.again_seconds.saturating_mul(longer).clamp(1, LONGEST)
    }
}

/// What is asked for: what is missing; where the hub has said that it has none of it, that once more.
fn wanted(row: &GapRow) -> Vec<(u64, u64)> {
    let of = match row.state {
        GapState::Unavailable => &row.gap.gone,
        _ => &row.gap.left,
    };
    of.iter()
        .take(MOST.1)
        .map(|piece| (*piece.start(), *piece.end()))
        .collect()
}
