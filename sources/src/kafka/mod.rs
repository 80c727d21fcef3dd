//! Kafka: assigned partitions of topics, one client a process, offsets committed when told to.
//!
//! ```text
//!   brokers <--> client --> queue of each partition --> its worker
//!                  ^                                       |
//!                  +-- keeper, commits <-- lost offsets, acks
//! ```
//!
//! In:    topics by name or pattern; new ones are picked up while running.
//! Out:   records of committed transactions, in the order of their partition; partition p of a topic
//!        goes to worker (hash of the topic + p) mod workers.
//! State: what is read ahead, `read_ahead_bytes` in all; two offsets a partition.
//!
//! The group stores offsets and has no members: brokers let others read with it, so a live member
//! found at the start is an error. Read from elsewhere than where the group is, what it has stored tells which
//! records are known; it never goes back. Where retention was faster than reading, the gap is reported and
//! reading goes on with the oldest record.

mod check;
mod commits;
mod headers;
mod keeper;
mod monitor;
mod settings;
mod start;
mod worker;

pub use check::{KafkaReport, PartitionReport, TopicReport, check};
pub use dbb_kafka::{Mechanism, Protocol, Security};
pub use monitor::{KafkaSnapshot, KafkaStatistics, PartitionStatistics};
pub use settings::{KafkaSettings, Start};

use crate::{Extent, Partition, Source, SourceError};
use keeper::{Desk, Keeper, worker_of};
use monitor::Monitor;
use rdkafka::error::KafkaError;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};
use worker::{KafkaSource, Session};

/// One source for each of `workers`, which are some of `peers` workers in all, and their statistics.
///
/// # Errors
///
/// [`SourceError::Configuration`] for settings that cannot work, a login that is refused, or a group
/// that has a live member; [`SourceError::Unreachable`] if no broker answers within 20 s.
pub fn open(
    settings: &KafkaSettings,
    workers: Range<usize>,
    peers: usize,
    extent: Extent,
) -> Result<(Vec<Box<dyn Source>>, KafkaStatistics), SourceError> {
    let (wanted, peers) = (settings.wanted()?, peers.max(1));
    let unreachable = |error: KafkaError| SourceError::Unreachable {
        what: settings.service(),
        detail: error.to_string(),
    };

    // A client for the questions: the one that reads must know how many partitions share its memory.
    let asking = start::connect(settings, 1, &Arc::default())?;
    let mine = |partition: &Partition| workers.contains(&worker_of(partition, peers));
    let (standings, trouble) = start::survey(&asking, &wanted, mine).map_err(unreachable)?;
    // When running on, the keeper looks again later; when not, this would be left out.
    if let Some(detail) = trouble.filter(|_| extent.once) {
        let what = settings.service();
        return Err(SourceError::Unreachable { what, detail });
    }
    let handled: BTreeMap<Partition, u64> = standings
        .iter()
        .map(|standing| {
            (
                standing.partition.clone(),
                standing.begin(settings.start, &extent.begin).known_to,
            )
        })
        .collect();
    start::claim(&asking, &settings.group_id, &handled)?;
    drop(asking);

    let monitor = Arc::new(Monitor::default());
    let consumer = Arc::new(start::connect(settings, standings.len(), &monitor)?);
    let (orders, ordered) = crossbeam_channel::unbounded();
    let stop = Arc::new(AtomicBool::new(false));
    let session = Arc::new(Session {
        service: settings.service(),
        monitor: monitor.clone(),
        stop: stop.clone(),
    });
    let (mut desks, mut sources) = (Vec::new(), Vec::new());
    for _ in workers.clone() {
        let (given, receiver) = crossbeam_channel::unbounded();
        let bell = Arc::new(keeper::Bell::default());
        desks.push(Desk {
            given,
            bell: bell.clone(),
        });
        let source = KafkaSource::new(session.clone(), receiver, orders.clone(), bell, extent.once);
        sources.push(Box::new(source) as Box<dyn Source>);
    }
    let mut keeper = Keeper {
        consumer,
        monitor: monitor.clone(),
        wanted,
        start: settings.start,
        workers,
        peers,
        desks,
        orders: ordered,
        begin: extent.begin,
        discover_every: (!extent.once).then(|| Duration::from_secs(settings.discover_seconds.max(1))),
        read: Default::default(),
        missing: Default::default(),
        restarts: Default::default(),
        known: Default::default(),
    };
    keeper.give(standings).map_err(unreachable)?;
    let (client, commits) = (keeper.consumer.clone(), (monitor.clone(), stop.clone()));
    spawn("kafka-commits", move || {
        commits::run(&client, &commits.0, &commits.1)
    })?;
    spawn("kafka-keeper", move || keeper.run(&stop))?;
    Ok((sources, KafkaStatistics(monitor)))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SourceError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned
        .map(drop)
        .map_err(|error| SourceError::Configuration(format!("could not start a thread: {error}")))
}
