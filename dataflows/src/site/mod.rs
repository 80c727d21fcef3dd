//! The `site` dataflow: events in, files registered in Butler repositories, an outcome for each event.
//!
//! ```text
//!   clock --> read, read_due --> decode --> identify --> route --> butler --> ledger --> acks
//!                                  |  \------------------\----> dead letters -/
//!                                  \--> facts --> views --> published
//! ```
//!
//! One thread for each timely worker, one for each repository, one for the ledger, one for HTTP, some for SQL.
//!
//! Frontier: once the ledger's output has passed epoch `e`, every event read in `e` and before has a
//! durable outcome, and its offsets are committed.

mod asking;
mod backlog;
mod catalogue;
mod graph;
mod history;
mod hub;
mod join;
mod keeping;
mod late;
mod listings;
mod live;
mod mapping;
mod numbered;
mod offsets;
mod open;
mod report;
mod tables;
mod telling;
mod threads;
mod watch;
mod work;

pub(crate) use asking::requests;
pub use mapping::mapping;
pub(crate) use offsets::of_partitions as handled;
pub use report::RunReport;

use crate::{
    cluster::{self, Hosts, Members, Place},
    config::Config,
    runtime::{Control, Failure, files},
    views::Name,
};
use dbb_operators::sequences::Following;
use dbb_serving::{Health, Metrics};
use dbb_sinks::ledger::{Generation, Ledger, Who};
use dbb_sources::{Begin, Extent, kafka::Memory};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};
use telling::OutcomesThread;
use work::Shared;

/// A worker that has not stepped for this long is stuck: `/livez` says so.
const STUCK: Duration = Duration::from_secs(60);

/// Longest that the watch waits for the ledger: others wait for the watch.
const WATCHED: Duration = Duration::from_secs(3);

/// How the dataflow is run, beyond what the configuration says.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Ends when everything that was there has an outcome, instead of waiting for more.
    pub run_once: bool,
    /// Shows a progress bar on standard error; for a terminal.
    pub progress: bool,
    /// SIGTERM and SIGINT drain and end the run.
    pub signals: bool,
    /// Several processes, of which this is one.
    pub hosts: Option<Hosts>,
    /// Takes the ledger from whoever holds it, even if that one lives.
    pub take_over: bool,
}

/// Runs the dataflow until it is told to stop or, with `run_once`, has nothing left to do.
///
/// # Errors
///
/// What keeps it from starting: [`dbb_sources::SourceError`], [`dbb_sinks::ledger::LedgerError`], a bad
/// mapping; or [`crate::runtime::Failure`], what ended it before its time.
pub fn run(config: &Config, options: &RunOptions) -> anyhow::Result<RunReport> {
    let mut members = None;
    let ended = run_as(config, options, &mut members);
    if let (Err(error), Some(members)) = (&ended, &members) {
        let taken_over = matches!(error.downcast_ref(), Some(Failure::TakenOver(_)));
        members.fail(&format!("{error:#}"), taken_over);
    }
    ended
}

/// The same; `joined` are the other processes, once they have been met.
fn run_as(
    config: &Config,
    options: &RunOptions,
    joined: &mut Option<Arc<Members>>,
) -> anyhow::Result<RunReport> {
    let started = Instant::now();
    let hosts = options.hosts.as_ref().filter(|hosts| hosts.processes() > 1);
    let (config, warning) = files::fit(config, hosts.map_or(1, Hosts::processes), files::raise());
    let config: &Config = &config;
    warning.iter().for_each(|warning| tracing::warn!("{warning}"));
    if hosts.is_some() {
        join::suits(config)?;
    }
    let mapping = Arc::new(mapping(config)?);
    let mut ledger = Ledger::open(&config.ledger)?;
    for warning in config.ledger.warnings() {
        tracing::warn!("{warning}");
    }
    let before = report::Before::read(&mut ledger)?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let health = Arc::new(Health::new(STUCK));
    let live = live::Live::of(config, hosts)?;
    let api = live.as_ref().map(|live| live.api(config, &metrics)).transpose()?;
    let _server = match &config.http.listen {
        Some(listen) => Some(dbb_serving::serve_with_views(
            listen,
            &config.http.limits(),
            metrics.clone(),
            Arc::clone(&health),
            api,
        )?),
        None => None,
    };
    let sql = match &live {
        Some(live) => live.sql(config, &metrics)?,
        None => None,
    };
    if let Some(sql) = &sql {
        sql.tell(&health);
    }
    *joined = hosts
        .map(|hosts| join::joined(config, hosts, &health))
        .transpose()?;
    // From here on others are told: a process that just ended would end them with an error.
    let signals = options.signals.then(watch::signals).transpose()?;
    let members = joined.clone();
    let place = members
        .as_ref()
        .map_or(Place::alone(config.workers), |members| members.place());
    // Only once all have met: a cluster that is never whole takes nothing from one that works.
    let generation = if place.is_first() {
        let who = Who::this(env!("CARGO_PKG_VERSION"), work::now(), &config.instance);
        let asked = || {
            signals
                .as_ref()
                .is_some_and(|asked| asked.load(Ordering::Relaxed))
        };
        let generation = if options.take_over {
            ledger.begin_generation(&who)?
        } else {
            ledger.hold(&who, &asked)?
        };
        members.iter().for_each(|members| members.begin(generation.0));
        generation
    } else {
        Generation(members.as_ref().map_or(0, |members| members.generation()))
    };
    let counted_to = ledger.counted_to()?;
    // The ledger of the thread that writes: what it says is durable, is.
    let writer = Ledger::open(&config.ledger)?;
    let newest = writer.newest_mark();
    tracing::info!(
        generation = generation.0,
        ledger = config.ledger.shown_url(),
        "holding the ledger"
    );
    let control = Arc::new(Control::of(place.range()));
    // Whoever wrote there before does so no more: what is found is the last.
    let opened = keeping::Opened::of(config, live.as_ref(), &control)?;
    if let (Some(live), Some(epoch)) = (&live, opened.as_ref().and_then(keeping::Opened::restored)) {
        live.publisher.goes_on_after(epoch);
    }
    let begin = match (&live, &opened) {
        (Some(_), Some(opened)) => opened.begin().unwrap_or(Begin::Oldest),
        (Some(_), None) => Begin::Oldest,
        (None, _) => Begin::Unhandled,
    };
    let offsets = offsets::LedgerOffsets::new(config.ledger.clone());
    let mark = ledger.mark()?;
    let memory = Memory {
        mark: Some(mark),
        ask: Some(if place.is_first() {
            let newest = newest.clone();
            Arc::new(move || newest.get().or(Some(mark)))
        } else {
            offsets::asks(&config.ledger)
        }),
        handled: offsets::of_partitions(&ledger.handled_to()?),
        checkpoint: opened.as_ref().and_then(keeping::Opened::mark),
    };
    let (sources, lag) = open::open(
        config,
        place,
        Extent {
            once: options.run_once,
            begin,
        },
        offsets.clone(),
        &offsets::plain(&offsets::of_partitions(&counted_to)),
        memory,
    )?;
    let offsets_thread = offsets.start(generation, lag.statistics(), &control)?;

    let looks_at_backlog = live.as_ref().is_some_and(|live| live.keeps(Name::IngestBacklog));
    let waiting = if looks_at_backlog && place.is_first() {
        backlog::waiting(&mut ledger, &mapping)?
    } else {
        Vec::new()
    };
    let counts_attempts = live.as_ref().is_some_and(|live| live.keeps(Name::Attempts));
    let durations = if counts_attempts && place.is_first() {
        backlog::counted(ledger.durations()?)
    } else {
        Vec::new()
    };

    let (catalogue, catalogue_status) = match (&config.source.catalogue, &live) {
        (Some(settings), Some(_)) if place.is_first() => {
            Some(dbb_sources::catalogue::open(settings, options.run_once)?)
        }
        _ => None,
    }
    .unzip();
    let listings = match (&config.source.listings, &live) {
        (Some(settings), Some(_)) if place.is_first() => {
            Some(dbb_sources::listings::open(settings, options.run_once)?)
        }
        _ => None,
    };
    if catalogue.is_some() || listings.is_some() {
        control.expect_tables();
    }
    let (kept, keepers) = match opened {
        Some(opened) => {
            let (kept, keepers) = opened.start(config, place, generation, newest, &control)?;
            (Some(kept), Some(keepers))
        }
        None => (None, None),
    };
    let (ledger_thread, ledger_port, due) = if place.is_first() {
        let longest_wait_s = threads::longest_wait_s(config);
        threads::ledger(writer, generation, longest_wait_s, &control, &metrics)?
    } else {
        threads::no_ledger()
    };
    let following = match &config.gaps {
        Some(gaps) => Some(Following {
            patience_us: i64::try_from(gaps.patience_seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX),
            restored: ledger.numbers()?,
        }),
        None => None,
    };
    let asking = if place.is_first() {
        asking::Asking::start(config, generation, &control, &metrics)?
    } else {
        None
    };
    let (outcomes, outcomes_thread) = telling::outcomes(config, place, &control, &metrics)?.unzip();
    let outcomes_thread = outcomes_thread.flatten();
    let (butlers, repositories) = threads::repositories(config, place, &metrics)?;
    let (leg, hub) = hub::start(config, place, &control)?.unzip();
    let shared = Arc::new(Shared {
        sources: Mutex::new(sources.into_iter().map(Some).collect()),
        place,
        targets: config
            .repositories
            .keys()
            .map(|name| name.as_str().into())
            .collect(),
        butlers,
        outcomes,
        following,
        ledger: ledger_port,
        due: due.receiver.clone(),
        mapping,
        counted_to: counted_to.into_iter().collect(),
        batching: config.batching,
        remember_seconds: i64::try_from(config.identify.remember_seconds).unwrap_or(i64::MAX),
        max_in_flight: config.limits.max_in_flight_events.div_ceil(place.peers()),
        control: Arc::clone(&control),
        metrics: metrics.clone(),
        tally: report::Tallied::default(),
        live,
        catalogue: Mutex::new(catalogue),
        listings: Mutex::new(listings),
        statistics: lag.statistics(),
        waiting: Mutex::new(waiting),
        durations: Mutex::new(durations),
        patience: Duration::from_secs(config.shutdown.drain_seconds),
        kept,
        routes_any: !config.routes.is_empty(),
        hub: leg,
    });
    ledger.set_limit(WATCHED);
    let mut watch = watch::Watch::new(watch::Watched {
        control: Arc::clone(&control),
        health,
        metrics,
        members: members.clone(),
        ledger_health: ledger_thread.health.clone(),
        outcomes_health: outcomes_thread.as_ref().map(OutcomesThread::health),
        repositories: repositories
            .iter()
            .map(|r| (Arc::clone(&r.name), Arc::clone(&r.stats)))
            .collect(),
        hub: hub.as_ref().map(hub::Threads::watched),
        ledger,
        lag,
        catalogue: catalogue_status,
        checkpoints: keepers.as_ref().map(keeping::Keepers::status),
        shared: Arc::clone(&shared),
    });
    let workers = {
        let shared = Arc::clone(&shared);
        members.iter().for_each(|members| members.ready());
        cluster::execute(config.workers, members, move |worker| work::work(worker, &shared))?
    };
    watch.until_finished(options, config.shutdown.drain_seconds, signals.as_deref());
    match control.failure() {
        Some(failure) if workers.is_part() => {
            let taken_over = matches!(failure, Failure::TakenOver(_));
            if !workers.abandon(&failure.to_string(), taken_over) {
                return Err(failure.into());
            }
        }
        _ => {
            for error in workers.join() {
                control.fail(format!("a worker ended: {error}"));
            }
        }
    }
    let mut report = RunReport::new(&shared.tally, started.elapsed());
    // The ports hang on `shared`: without them the threads have nothing to wait for.
    let ledger = watch.into_ledger();
    drop(shared);
    if let Some(keepers) = keepers {
        let patience = if control.is_leaving() {
            0
        } else {
            config.shutdown.drain_seconds
        };
        keepers.join(Duration::from_secs(patience));
    }
    offsets_thread.join();
    asking.into_iter().for_each(asking::Asking::join);
    outcomes_thread.into_iter().for_each(OutcomesThread::join);
    repositories.into_iter().for_each(threads::Repository::join);
    if let Some(hub) = hub {
        hub.join();
    }
    ledger_thread.join();
    report.unreadable_parts = control.faults();
    if options.run_once {
        // Of a run that was asked to stop nobody wants to know; it need not wait for a ledger that is away.
        report.compare(ledger, &before)?;
    }
    match control.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(report),
    }
}
