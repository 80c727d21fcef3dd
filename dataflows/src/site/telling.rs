//! Telling: outcomes on their way to the ledger go through a topic first, where that is wanted.
//!
//! ```text
//!   entries --> told? --yes--> thread: messages, confirmed --> entries --\
//!                  \--no-------------------------------------------------> ledger
//!   files that have landed, where there is no repository --> thread --> nothing more
//! ```
//!
//! Frontier: an epoch ends at the ledger only after what it tells has been confirmed. So a crash repeats a message and
//! never loses one; and while the brokers are away, outcomes wait, and reading stops when too much is on its way.

use super::work::{Shared, now};
use crate::{
    cluster::Place,
    config::{Config, federation::topic_of},
    runtime::Control,
};
use anyhow::Context;
use dbb_events::{Entry, Landed, Telling, message::OutcomeWord};
use dbb_operators::{
    Arrival, Batching, Epoch,
    deliver::{Delivery, Lane, deliver},
    port::{Port, port},
};
use dbb_serving::Metrics;
use dbb_sinks::{
    outcomes::{Delay, Outcomes},
    topics::{TopicsError, Trouble},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};
use timely::dataflow::{
    Stream,
    operators::{
        core::{Concat, OkErr},
        vec::Map,
    },
};

/// Messages on their way at once, and how long the first waits for more.
const MESSAGES: Batching = Batching {
    max_datasets: 2000,
    max_bytes: 16 << 20,
    max_wait_ms: 2,
};
/// Batches on their way to the thread, beside the one it works on.
const DEPTH: usize = 1;
/// So long a batch may take before somebody should look.
const LATE: Duration = Duration::from_secs(10);

/// The operator's end of the wire.
pub(super) type OutcomesPort = Port<Telling, Entry>;

/// Tells what of `entries`, and all that has `landed`; then entries are as they were.
pub(super) fn told<'s>(
    entries: Stream<'s, Epoch, Vec<Entry>>,
    landed: Option<Stream<'s, Epoch, Vec<Arrival>>>,
    port: OutcomesPort,
    shared: &Arc<Shared>,
) -> Stream<'s, Epoch, Vec<Entry>> {
    let (mut told, others) = entries.ok_err(|entry| {
        if Telling::is_told(&entry) {
            Ok(Telling::Entry(entry))
        } else {
            Err(entry)
        }
    });
    if let Some(landed) = landed {
        told = told.concat(landed.map(|arrival| {
            Telling::Landed(Landed {
                event: arrival.event,
                event_type: arrival.event_type,
                did: arrival.did,
                rse: arrival.rse,
                created_at: arrival.created_at,
            })
        }));
    }
    let control = Arc::clone(&shared.control);
    let told = deliver(
        told,
        vec![port],
        Delivery {
            name: "outcomes",
            // Where the ledger is written.
            exchange: Box::new(|_| 0),
            lane: Box::new(|_| Lane { port: 0, group: () }),
            bytes: Box::new(Telling::weight),
            batching: MESSAGES,
            clock: Box::new(Instant::now),
            on_lost: Box::new(move |_| control.fail("the thread of outcomes has gone")),
        },
    );
    told.concat(others)
}

/// The thread that tells.
pub(super) struct OutcomesThread {
    delay: Delay,
    trouble: Trouble,
    brokers: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// How it is doing, for whoever watches.
#[derive(Clone)]
pub(super) struct OutcomesHealth {
    delay: Delay,
    trouble: Trouble,
    brokers: String,
}

impl OutcomesHealth {
    /// Why outcomes wait, if they do.
    pub(super) fn problem(&self) -> Option<String> {
        let reason = self.delay.reason(LATE)?;
        let reason = match (reason.is_empty(), self.trouble.get()) {
            (false, _) => reason,
            (true, Some(trouble)) => trouble,
            (true, None) => "no answer".into(),
        };
        Some(format!(
            "outcomes wait to be published on {}: {reason}; nothing is lost, and reading stops at \
             limits.max_in_flight_events",
            self.brokers
        ))
    }
}

impl OutcomesThread {
    pub(super) fn health(&self) -> OutcomesHealth {
        OutcomesHealth {
            delay: self.delay.clone(),
            trouble: self.trouble.clone(),
            brokers: self.brokers.clone(),
        }
    }

    /// Ends it: what is not confirmed by now is told again by the next run.
    pub(super) fn join(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the thread of outcomes panicked");
        }
    }
}

/// The wire to it, and on the first process the thread; `None` where outcomes are not told.
///
/// # Errors
///
/// The settings cannot work.
pub(super) fn outcomes(
    config: &Config,
    place: Place,
    control: &Arc<Control>,
    metrics: &Metrics,
) -> anyhow::Result<Option<(OutcomesPort, Option<OutcomesThread>)>> {
    let Some(outcomes) = &config.outcomes else {
        return Ok(None);
    };
    let Some(settings) = config.publishes(outcomes.kafka.as_ref()) else {
        return Ok(None);
    };
    let (port, served) = port::<Telling, Entry>(DEPTH);
    if !place.is_first() {
        return Ok(Some((port, None)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let topics = topics(config, outcomes.topic.clone());
    let mut teller =
        Outcomes::open(&settings, Box::new(topics), Arc::clone(&stop)).context("in outcomes.kafka")?;
    let (delay, trouble, brokers) = (teller.delay(), teller.trouble(), settings.brokers.join(","));
    let (control, metrics) = (Arc::clone(control), metrics.clone());
    let thread = Builder::new().name("outcomes".into()).spawn(move || {
        for batch in &served.batches {
            match teller.tell(&batch.requests, now(), |word| metrics.told(&word.outcome)) {
                Ok(()) => {}
                Err(TopicsError::Stopped) => return,
                Err(error) => return control.fail(error.to_string()),
            }
            let entries = batch.requests.into_iter().filter_map(|telling| match telling {
                Telling::Entry(entry) => Some(entry),
                Telling::Landed(_) => None,
            });
            served.answer(batch.id, entries.collect());
        }
    })?;
    let thread = OutcomesThread {
        delay,
        trouble,
        brokers,
        stop,
        thread,
    };
    Ok(Some((port, Some(thread))))
}

/// The topic of each word. What has no repository, a dead letter, is told for the RSEs of this site alone: an event of
/// another would make a topic there that nobody reads.
fn topics(
    config: &Config,
    template: String,
) -> impl FnMut(&OutcomeWord) -> Option<Arc<str>> + Send + 'static {
    let rses: BTreeSet<String> = config.rses.keys().cloned().collect();
    let mut topics: HashMap<Arc<str>, Arc<str>> = HashMap::new();
    move |word| {
        let rse = &word.rse.0;
        let is_ours = !word.repository.is_empty() || rses.is_empty() || rses.contains(&**rse);
        is_ours.then(|| {
            let topic = topics.entry(Arc::clone(rse));
            Arc::clone(topic.or_insert_with(|| topic_of(&template, rse)))
        })
    }
}
