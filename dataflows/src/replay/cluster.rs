//! The threads and processes of a replay.

use super::ReplayOptions;

/// What timely is told of them.
pub(super) fn config(options: &ReplayOptions) -> timely::Config {
    let communication = match &options.hosts {
        None => return timely::Config::process(options.workers),
        Some(hosts) => timely::CommunicationConfig::Cluster {
            threads: options.workers,
            process: hosts.process,
            addresses: hosts.addresses.clone(),
            report: false,
            zerocopy: false,
        },
    };
    timely::Config {
        communication,
        worker: timely::WorkerConfig::default(),
    }
}
