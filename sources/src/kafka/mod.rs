//! Kafka: assigned partitions of topics, one client a process, offsets committed when told to.
//!
//! ```text
//!   brokers <--> client --> queue of each partition --> its worker
//!                  ^                                       |
//!                  +-- keeper, commits <-- lost offsets, acks
//!                         ^
//!                  watch -+   are the topics, and their logs, still those that are read?
//! ```
//!
//! In:    topics by name or pattern; new ones are picked up while running.
//! Out:   records of committed transactions, in the order of their partition; partition p of a topic
//!        goes to worker (hash of the topic + p) mod workers.
//! State: what is read ahead, `read_ahead_bytes` in all; two places a partition.
//!
//! All that is counted in a partition is of one incarnation of it: of the topic with its id, and of its log until that is
//! found to have gone back. Beside each offset that is stored stands of which, and in which ledger its outcomes are
//! (`words.rs`); at a start they are compared with what is there (`start.rs`), while running by the watch.
//!
//! The group stores offsets and has no members: brokers let others read with it, so a live member
//! found at the start is an error. Read from elsewhere than where the group is, what it has stored tells which
//! records are known; it never goes back. Where retention was faster than reading, the gap is reported and
//! reading goes on with the oldest record.

mod check;
mod commits;
mod finding;
mod headers;
mod keeper;
mod memory;
mod monitor;
mod settings;
mod start;
mod watch;
mod words;
mod worker;

pub use check::{KafkaReport, PartitionReport, TopicReport, check, check_with, newest};
pub use dbb_kafka::{Mechanism, Protocol, Security};
pub use finding::Finding;
pub use memory::{AskMark, Memory};
pub use monitor::{KafkaSnapshot, KafkaStatistics, PartitionStatistics};
pub use settings::{KafkaSettings, Start};

use crate::{Extent, Partition, Positions, Source, SourceError};
use dbb_events::Position;
use keeper::{Begun, Client, Desk, Keeper, Parts, worker_of};
use monitor::Monitor;
use rdkafka::error::KafkaError;
use std::{
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
    open_with(settings, workers, peers, extent, Memory::default())
}

/// The same, where a ledger remembers beside the group what is handled.
///
/// # Errors
///
/// As for [`open`].
pub fn open_with(
    settings: &KafkaSettings,
    workers: Range<usize>,
    peers: usize,
    extent: Extent,
    memory: Memory,
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
    let begun: Vec<Begun> = standings
        .into_iter()
        .map(|standing| Begun {
            beginning: standing.begin(settings.start, &extent.begin, &memory),
            standing,
            stored: true,
        })
        .collect();
    let handled: Positions = begun
        .iter()
        .map(|begun| {
            let at = Position::new(begun.beginning.incarnation, begun.beginning.known_to);
            (begun.standing.partition.clone(), at)
        })
        .collect();
    start::claim(&asking, &settings.group_id, &handled, &memory)?;
    drop(asking);

    let monitor = Arc::new(Monitor::default());
    let client = Client::new(start::connect(settings, begun.len(), &monitor)?);
    let (orders, ordered) = crossbeam_channel::unbounded();
    let (tell, seen) = crossbeam_channel::unbounded();
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
    let mut keeper = Keeper::new(Parts {
        client: client.clone(),
        settings: settings.clone(),
        monitor: monitor.clone(),
        wanted,
        workers,
        peers,
        desks,
        orders: ordered,
        seen,
        begin: extent.begin,
        memory: memory.clone(),
        once: extent.once,
    });
    keeper.give(begun).map_err(unreachable)?;
    let again = Duration::from_secs(settings.commit_again_seconds);
    let (committing, watching) = (
        (client, monitor.clone(), stop.clone()),
        (monitor.clone(), stop.clone()),
    );
    spawn("kafka-commits", move || {
        let (client, monitor, stop) = committing;
        commits::run(&client, &monitor, &memory, again, &stop)
    })?;
    let of = settings.clone();
    spawn("kafka-watch", move || {
        watch::run(&of, &watching.0, &tell, &watching.1)
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
