//! The hub's leg of the dataflow: where a site has repositories, a hub has look-ups and topics.
//!
//! ```text
//!   outgoing --> identify --> enrich --> publish --> ledger
//!                               | ^        | ^
//!                            threads: labels; one thread a process: topics
//! ```
//!
//! Frontier: once the output has passed epoch `e`, every record of `e` is in its topic, or has its end in the entries.
//! Topics are shared out over the processes, so that one numbers each of their records.

use super::work::{Shared, now};
use crate::{
    cluster::Place,
    config::Config,
    runtime::{Control, fault},
};
use anyhow::Context;
use dbb_events::{Ask, Dependency, Did, Entry, Found, Outcome, Outgoing, Sent};
use dbb_operators::{
    Batching, Epoch,
    deliver::{Delivery, Lane, deliver},
    hub::{Enriched, Known, LookUpPort, LookingUp, Namer, Noted, Rules, TopicSettings, enrich},
    port::{Port, Served, port},
};
use dbb_serving::{
    Health, Metrics,
    metrics::{LookedUp, Publishing},
};
use dbb_sinks::{
    lookup::{LabelPatience, LookUp, LookUpStats, LookUps},
    topics::{Share, TopicsError, TopicsFigures, TopicsSink},
};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};
use timely::dataflow::{
    Stream,
    operators::{
        core::{Concat, Inspect as _},
        vec::Map,
    },
};

/// Batches on their way to a thread, beside the one it works on.
const DEPTH: usize = 1;
/// Records in one delivery to the brokers, and how long the first may wait for more.
const PUBLISHING: Batching = Batching {
    max_datasets: 5000,
    max_bytes: 16 << 20,
    max_wait_ms: 2,
};
/// Bytes of events in one look-up; only their number matters.
const ASKING_BYTES: usize = 64 << 20;

/// What the workers of a hub share.
pub(super) struct Leg {
    pub(super) topics: Arc<TopicSettings>,
    rules: Arc<Rules>,
    batching: Batching,
    /// For each worker of this process, taken by it.
    look_ups: Mutex<Vec<LookUpPort>>,
    known: Option<Known>,
    /// For each process; that of another leads nowhere.
    publishers: Vec<Port<Outgoing, Sent>>,
    /// Workers of each process.
    workers: usize,
}

/// The threads of a hub.
pub(super) struct Threads {
    threads: Vec<JoinHandle<()>>,
    watched: Watched,
    stop: Arc<AtomicBool>,
}

/// How they are doing, for whoever watches.
#[derive(Clone)]
pub(super) struct Watched {
    looked_up: Option<Arc<LookUpStats>>,
    published: TopicsFigures,
}

impl Threads {
    pub(super) fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Waits for them, once nothing holds their ports any more. What they have not ended by then nobody waits for.
    pub(super) fn join(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the hub panicked");
            }
        }
    }
}

impl Watched {
    /// Tells metrics and health.
    pub(super) fn tell(&self, metrics: &Metrics, health: &Health) {
        let published = self.published.snapshot();
        for (name, trouble) in [
            ("publishing", published.trouble),
            ("heartbeats and resending", published.message_trouble),
        ] {
            match trouble {
                Some(trouble) => health.fail(name, trouble),
                None => health.clear(name),
            }
        }
        metrics.publishing(&Publishing {
            published: published.published_total,
            refused: published.refused_total,
            resent: published.resent_total,
            unavailable: published.unavailable_total,
            requests: published.requests_total,
            heartbeats: published.heartbeats_total,
            sent_log_bytes: published.sent_log_bytes,
        });
        let Some(stats) = &self.looked_up else { return };
        let stats = stats.snapshot();
        match stats.down {
            true => health.fail("rucio", stats.trouble.as_str()),
            false => health.clear("rucio"),
        }
        metrics.looked_up(&LookedUp {
            known: stats.operator_hits,
            asked: stats.asked,
            requests: (stats.requests, stats.requests_failed),
            cache: (stats.cached_files, stats.cached_bytes),
            down: stats.down,
        });
    }
}

/// Starts what a hub needs beside the workers of `place`; `None` for a site.
///
/// # Errors
///
/// What is configured is of no use.
pub(super) fn start(
    config: &Config,
    place: Place,
    control: &Arc<Control>,
) -> anyhow::Result<Option<(Leg, Threads)>> {
    let Some(hub) = &config.hub else { return Ok(None) };
    let mut threads = Vec::new();
    let mut labels: Vec<Arc<str>> = vec!["rubin_butler".into(), "rubin_sidecar".into()];
    let mut look_ups = Vec::new();
    let (mut known, mut looked_up): (Option<Known>, _) = (None, None);
    if let Some(settings) = &hub.lookup {
        labels.extend(settings.labels.iter().map(|label| Arc::from(label.as_str())));
        let mut settings = settings.clone();
        // An embargo may look at labels that nobody is sent.
        let needed = hub.embargoes.iter().flat_map(|embargo| embargo.labels.keys());
        settings.labels.extend(needed.cloned().chain(["day_obs".into()]));
        settings.labels.sort();
        settings.labels.dedup();
        let opened = LookUps::open(&settings).context("in hub.lookup")?;
        let cache = opened.cache.clone();
        known = Some(Arc::new(move |did: &Did| cache.get(did)));
        looked_up = Some(Arc::clone(&opened.stats));
        let ports: Vec<_> = place.range().map(|_| port(DEPTH)).collect();
        let served: Vec<_> = ports.iter().map(|(_, served)| served.clone()).collect();
        for (number, look_up) in opened.threads.into_iter().enumerate() {
            // Each thread serves one worker.
            let served = served[number % served.len()].clone();
            let patience = settings.patience.clone();
            let thread = Builder::new().name(format!("look up {number}"));
            threads.push(thread.spawn(move || answer(&served, look_up, &patience))?);
        }
        look_ups.extend(ports.into_iter().map(|(port, _)| port));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (mut publishers, mut published) = (Vec::new(), TopicsFigures::default());
    for process in 0..place.processes {
        let (port, served) = port::<Outgoing, Sent>(DEPTH);
        publishers.push(port);
        if process != place.process {
            continue;
        }
        let share = Share {
            index: process,
            of: place.processes,
        };
        let sink = TopicsSink::open(&hub.publish, &[], share, Arc::clone(&stop))?;
        published = sink.figures();
        let control = Arc::clone(control);
        let thread = Builder::new().name("publish".into());
        threads.push(thread.spawn(move || publish(&served, sink, &control))?);
    }
    let leg = Leg {
        topics: Arc::new(hub.topics.clone()),
        rules: Arc::new(Rules {
            labels,
            embargoes: hub.embargoes.clone(),
            policies: config.views.policies.clone().into(),
        }),
        batching: Batching {
            max_datasets: hub.asking.max_files,
            max_bytes: ASKING_BYTES,
            max_wait_ms: hub.asking.max_wait_ms,
        },
        look_ups: Mutex::new(look_ups),
        known,
        publishers,
        workers: place.workers,
    };
    let threads = Threads {
        threads,
        watched: Watched { looked_up, published },
        stop,
    };
    Ok(Some((leg, threads)))
}

/// Looks up what it is given, until the dataflow has gone.
fn answer(
    served: &Served<Outgoing, (Outgoing, Found)>,
    mut look_up: Box<dyn LookUp>,
    patience: &LabelPatience,
) {
    for batch in &served.batches {
        let asks = batch.requests.iter().map(ask).collect();
        // Whatever the order of the answers: each is for a file at an RSE.
        let found: HashMap<Ask, Found> = look_up.look_up(asks).into_iter().collect();
        let answers = batch.requests.into_iter().map(|outgoing| {
            let found = found.get(&ask(&outgoing)).cloned().unwrap_or_else(unanswered);
            let found = patience.weigh(found, outgoing.again.as_ref(), now());
            (outgoing, found)
        });
        served.answer(batch.id, answers.collect());
    }
}

fn ask(outgoing: &Outgoing) -> Ask {
    Ask {
        did: outgoing.did.clone(),
        rse: outgoing.rse.clone(),
        url: outgoing.url.clone(),
        source_url: outgoing.source_url.clone(),
    }
}

fn unanswered() -> Found {
    Found::Later(Outcome::Waiting {
        dependency: Dependency::Time,
        not_before: now().plus_seconds(10),
        detail: "the look-up has not answered".into(),
        counts: false,
    })
}

/// Publishes what it is given, until the dataflow has gone.
fn publish(served: &Served<Outgoing, Sent>, mut sink: TopicsSink, control: &Control) {
    for batch in &served.batches {
        fault::point("publish");
        match sink.deliver(batch.requests) {
            Ok(sent) => {
                fault::point("published");
                served.answer(batch.id, sent);
            }
            // Nothing of the batch is answered: it will be read again.
            Err(error) => {
                if !matches!(error, TopicsError::Stopped) {
                    control.fail(format!("nothing can be published any more: {error}"));
                }
                return;
            }
        }
    }
}

/// The hub's part of the graph of one worker: what is published, and the entries for the ledger.
pub(super) fn build<'s>(
    outgoing: Stream<'s, Epoch, Vec<Outgoing>>,
    leg: &Leg,
    shared: &Arc<Shared>,
) -> Stream<'s, Epoch, Vec<Entry>> {
    let control = Arc::clone(&shared.control);
    let port = leg.look_ups.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let looking_up = port.zip(leg.known.clone()).map(|(port, known)| LookingUp {
        port,
        known,
        batching: leg.batching,
        on_lost: Box::new(move || control.fail("the threads that look labels up have gone")),
    });
    let (topics, noting) = (Arc::clone(&leg.topics), Arc::clone(shared));
    let Enriched { outgoing, entries } = enrich(
        outgoing,
        Arc::clone(&leg.rules),
        move || Namer::new(Arc::clone(&topics)),
        looking_up,
        now,
        move |noted| note(&noting, &noted),
    );
    let answered = Arc::clone(shared);
    let sent = published(outgoing, leg, shared)
        .inspect(move |sent: &Sent| answered.metrics.sent(sent))
        .map(|sent| Entry::Sent(Box::new(sent)));
    entries.concat(sent)
}

fn published<'s>(
    outgoing: Stream<'s, Epoch, Vec<Outgoing>>,
    leg: &Leg,
    shared: &Arc<Shared>,
) -> Stream<'s, Epoch, Vec<Sent>> {
    let (processes, workers) = (leg.publishers.len(), leg.workers);
    // The same in all processes, so that one of them numbers all records of a topic.
    let process_of = move |outgoing: &Outgoing| {
        let mut hasher = DefaultHasher::new();
        outgoing.topic.hash(&mut hasher);
        hasher.finish() as usize % processes.max(1)
    };
    let control = Arc::clone(&shared.control);
    deliver(
        outgoing,
        leg.publishers.clone(),
        Delivery {
            name: "publish",
            exchange: Box::new(move |outgoing| (process_of(outgoing) * workers) as u64),
            lane: Box::new(move |outgoing| Lane {
                port: process_of(outgoing),
                group: (),
            }),
            bytes: Box::new(|outgoing: &Outgoing| outgoing.body.len()),
            batching: PUBLISHING,
            clock: Box::new(Instant::now),
            on_lost: Box::new(move |_| control.fail("the thread that publishes has gone")),
        },
    )
}

fn note(shared: &Shared, noted: &Noted<'_>) {
    match noted {
        Noted::Unexpected(outgoing, policy) => {
            shared.metrics.unexpected(outgoing, policy);
            tracing::info!(rse = %outgoing.rse, file = %outgoing.did, policy, "unexpected: no policy wants it there");
        }
        Noted::Ended(sent) => {
            shared.metrics.sent(sent);
            if let Outcome::Waiting {
                dependency: Dependency::Embargo,
                detail,
                ..
            } = &sent.outcome
            {
                tracing::error!(file = %sent.outgoing.did, "held: {detail}");
            }
        }
    }
}
