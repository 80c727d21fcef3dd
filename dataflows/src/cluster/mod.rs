//! Several processes, one dataflow: how they meet, work as one, and end together.
//!
//! ```text
//!   hosts file --> meet: handshakes --> members: beats, words --> workers of all processes
//!                                          |
//!                                          +-- one goes, is stopped or is cut off: all end, with 75
//! ```
//!
//! In:    the hosts file, the number of this process, and what must be the same for all.
//! Out:   [`Members`], through which processes tell each other what to do, and workers that exchange data.
//! State: two connections with each other process: one for data, one for words.
//!
//! Nothing is repaired in place. A cluster that has lost a process ends, within [`ClusterSettings::patience_seconds`], and its
//! supervisor starts all processes again; what has a durable outcome is not done twice. The connections are for a
//! network of its own: who joins is proven with a token, what is exchanged then is neither signed nor encrypted.

mod error;
mod frame;
mod greeting;
mod handshake;
mod hosts;
mod link;
mod lobby;
mod meet;
mod members;
mod settings;
mod socket;
mod words;
mod workers;

pub use error::ClusterError;
pub use hosts::{Hosts, Place};
pub use members::{Lost, Members};
pub use settings::ClusterSettings;
pub use workers::{Workers, execute};

use handshake::{Hello, Kind};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The exit status of a process that has lost another, `EX_TEMPFAIL`: start all again.
pub const STATUS: u8 = 75;
/// That of one whose cluster was fenced: starting again would take the ledger back, and so on for ever.
const TAKEN_OVER: u8 = 78;

/// What a process brings to the cluster it joins.
pub struct Joining<'j> {
    /// The processes, and which of them this is.
    pub hosts: &'j Hosts,
    /// Workers of each process.
    pub workers: usize,
    /// How long is waited, and for what.
    pub settings: &'j ClusterSettings,
    /// What proves that a process belongs to the cluster; may be empty where nothing is at stake.
    pub token: Vec<u8>,
    /// What must be the same for all, by a name that tells an operator where to look.
    pub same: BTreeMap<String, String>,
}

/// Meets the other processes. `waiting` is told which have not come yet.
///
/// # Errors
///
/// See [`ClusterError`].
pub fn join(joining: Joining<'_>, waiting: impl Fn(&str)) -> Result<Arc<Members>, ClusterError> {
    join_with(joining, waiting, Box::new(end_the_process))
}

fn join_with(
    joining: Joining<'_>,
    waiting: impl Fn(&str),
    on_lost: Box<dyn Fn(&Lost) + Send + Sync>,
) -> Result<Arc<Members>, ClusterError> {
    let Joining { hosts, settings, .. } = joining;
    let patience = Duration::from_secs(settings.patience_seconds.max(1));
    let connect = Duration::from_secs(settings.connect_seconds.max(1));
    let mut same: BTreeMap<String, String> = joining
        .same
        .into_iter()
        .map(|(name, value)| (name, handshake::hash(&joining.token, value.as_bytes())))
        .collect();
    let addresses = hosts.addresses.join("\n");
    let addresses = handshake::hash(&joining.token, addresses.as_bytes());
    same.insert("the hosts file".into(), addresses);
    same.insert("workers".into(), joining.workers.to_string());
    let met = meet::meet(
        meet::Meeting {
            hosts,
            listen: settings.listen.as_deref(),
            hello: Hello {
                kind: Kind::Words,
                process: hosts.process,
                version: env!("CARGO_PKG_VERSION").into(),
                settings: same,
            },
            token: joining.token,
            connect,
            patience,
        },
        waiting,
    )?;
    let place = Place {
        process: hosts.process,
        processes: hosts.processes(),
        workers: joining.workers,
    };
    tracing::info!(
        process = place.process,
        processes = place.processes,
        workers = place.peers(),
        "the cluster is whole"
    );
    Members::new(place, (patience, connect), &hosts.addresses, met, on_lost)
}

/// What is done when another process has gone: nothing can be finished without it, and nothing durable is lost.
fn end_the_process(lost: &Lost) {
    let status = if lost.taken_over {
        tracing::error!("{}: this process ends too", lost.message);
        TAKEN_OVER
    } else {
        tracing::error!(
            "{}: this process ends too, and nothing is lost; start all processes again",
            lost.message
        );
        STATUS
    };
    std::process::exit(status.into());
}
