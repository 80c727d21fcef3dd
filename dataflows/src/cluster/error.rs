//! Why a cluster does not come about, or does not go on.

use std::{io, path::PathBuf};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The hosts file cannot be read.
    #[error("could not read the hosts file `{path}`")]
    HostsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of it makes no sense.
    #[error("{path}:{line}: `{text}` {fault}")]
    HostsLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is there.
        text: String,
        /// What is wrong with it.
        fault: String,
    },
    /// There are fewer hosts.
    #[error("{path} names {hosts} processes, and there is no process {process}: they are counted from 0")]
    NoSuchProcess {
        /// The hosts file.
        path: PathBuf,
        /// The hosts in it.
        hosts: usize,
        /// The process that was asked for.
        process: usize,
    },
    /// What the configuration says cannot be done by several processes.
    #[error("{message}")]
    Unsuitable {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Other processes cannot be listened to.
    #[error("process {process} could not listen on `{address}` for the others")]
    Listen {
        /// This process.
        process: usize,
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not all have the same settings.
    #[error("process {process} ({address}) differs from this one in {what}")]
    Differs {
        /// The other.
        process: usize,
        /// Where it listens.
        address: String,
        /// What differs: the sections of the configuration, and what else must agree.
        what: String,
    },
    /// Not all are the same program.
    #[error("process {process} ({address}) runs dbb {theirs}, this one {ours}")]
    Version {
        /// The other.
        process: usize,
        /// Where it listens.
        address: String,
        /// Its version.
        theirs: String,
        /// That of this process.
        ours: String,
    },
    /// Not all have come.
    #[error("the cluster is not whole after {seconds} s: {missing}")]
    NotWhole {
        /// How long it was waited for.
        seconds: u64,
        /// Which processes have not been met, and where they should be.
        missing: String,
    },
    /// The system gives no thread or socket.
    #[error("could not {what}")]
    System {
        /// What could not be done.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ClusterError {
    /// True if the same may work when all processes are started again, with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Version { .. } | Self::NotWhole { .. } | Self::System { .. } => true,
            // An earlier process on this port may not have ended yet; an address of another machine stays one.
            Self::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            _ => false,
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::HostsFile { .. } | Self::HostsLine { .. } | Self::NoSuchProcess { .. } => {
                "write one `host:port` a line, in the order of the processes".into()
            }
            Self::Unsuitable { hint, .. } => hint.clone(),
            Self::Listen { .. } => {
                "the line of the hosts file with this number must be an address of this machine with a free \
                 port; or set cluster.listen"
                    .into()
            }
            Self::Differs { .. } => {
                "give all processes the same configuration, hosts file and --workers, and start them again"
                    .into()
            }
            Self::Version { .. } => "install the same dbb everywhere, and start all processes again".into(),
            Self::NotWhole { .. } => {
                "start all processes; those that run must reach each other at the addresses of the hosts file, and \
                 `cluster.token` must lead to the same text for all"
                    .into()
            }
            Self::System { .. } => "look at the limits of this process (`ulimit -a`)".into(),
        }
    }
}
