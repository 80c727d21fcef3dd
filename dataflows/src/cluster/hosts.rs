//! The hosts file: where each process of a cluster listens.
//!
//! In:  one `host:port` a line, in the order of the processes; what follows a `#` and blank lines are left out.
//! Out: the addresses, and which of them is this process.

use super::ClusterError;
use std::path::Path;

/// The processes of a cluster, and which of them this one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Where each process listens, `host:port`, in the order of their numbers.
    pub addresses: Vec<String>,
    /// The number of this one, from 0.
    pub process: usize,
}

impl Hosts {
    /// Reads the file at `path`, for process `process`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, a line is no address or there twice, or there is no such process.
    pub fn read(path: &Path, process: usize) -> Result<Self, ClusterError> {
        let text = std::fs::read_to_string(path).map_err(|source| ClusterError::HostsFile {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(dbb_events::without_mark(&text), path, process)
    }

    fn parse(text: &str, path: &Path, process: usize) -> Result<Self, ClusterError> {
        let mut addresses: Vec<String> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let address = line.split('#').next().unwrap_or_default().trim();
            if address.is_empty() {
                continue;
            }
            let wrong = |fault: &str| ClusterError::HostsLine {
                path: path.to_owned(),
                line: at + 1,
                text: address.to_owned(),
                fault: fault.to_owned(),
            };
            let port = address
                .rsplit_once(':')
                .and_then(|(host, port)| (!host.is_empty()).then_some(port));
            if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
                return Err(wrong("is no `host:port`"));
            }
            if addresses.iter().any(|known| known == address) {
                return Err(wrong("is there twice"));
            }
            addresses.push(address.to_owned());
        }
        if process >= addresses.len() {
            return Err(ClusterError::NoSuchProcess {
                path: path.to_owned(),
                hosts: addresses.len(),
                process,
            });
        }
        Ok(Self { addresses, process })
    }

    /// Where this process can listen for something else, on a port that is free, and what the others call this host;
    /// `listen` is where it listens for them, if that is another address.
    pub fn beside(&self, listen: Option<&str>) -> (String, String) {
        let host = |address: &str| {
            address
                .rsplit_once(':')
                .map_or(address, |(host, _)| host)
                .to_owned()
        };
        let called = self
            .addresses
            .get(self.process)
            .map(|address| host(address))
            .unwrap_or_default();
        let listens = listen.map_or_else(|| called.clone(), host);
        (format!("{listens}:0"), called)
    }

    /// The number of processes.
    pub fn processes(&self) -> usize {
        self.addresses.len()
    }
}

/// Which workers of all are those of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of this process, from 0.
    pub process: usize,
    /// The number of processes.
    pub processes: usize,
    /// Workers of each process.
    pub workers: usize,
}

impl Place {
    /// A process on its own.
    pub fn alone(workers: usize) -> Self {
        Self {
            process: 0,
            processes: 1,
            workers,
        }
    }

    /// Workers of all processes.
    pub fn peers(&self) -> usize {
        self.processes * self.workers
    }

    /// The workers of this process, by their numbers among all.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.process * self.workers..(self.process + 1) * self.workers
    }

    /// True for the process that has the ledger: the one with the first worker of all.
    pub fn is_first(&self) -> bool {
        self.process == 0
    }

    /// True if what is exchanged by `key` comes to a worker of this process.
    pub fn has(&self, key: usize) -> bool {
        self.range().contains(&(key % self.peers().max(1)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str, process: usize) -> Result<Hosts, String> {
        Hosts::parse(text, Path::new("hosts"), process).map_err(|error| error.to_string())
    }

    #[test]
    fn comments_and_blank_lines_are_no_hosts() {
        let hosts = parse("# the cluster\n\n a.org:2101 # first\n[::1]:2102\n", 1).unwrap();
        assert_eq!(hosts.addresses, ["a.org:2101", "[::1]:2102"]);
    }

    #[test]
    fn what_is_no_address_is_named_with_its_line() {
        assert_eq!(
            parse("a:1\nb\n", 0).unwrap_err(),
            "hosts:2: `b` is no `host:port`"
        );
        assert_eq!(parse("a:1\na:1", 0).unwrap_err(), "hosts:2: `a:1` is there twice");
        assert!(parse("a:70000", 0).is_err() && parse(":1", 0).is_err());
        assert_eq!(
            parse("a:1\nb:1", 2).unwrap_err(),
            "hosts names 2 processes, and there is no process 2: they are counted from 0"
        );
    }

    #[test]
    fn every_key_is_of_one_process() {
        let place = |process| Place {
            process,
            processes: 3,
            workers: 2,
        };
        assert_eq!(place(1).range(), 2..4);
        for key in 0..20 {
            assert_eq!((0..3).filter(|process| place(*process).has(key)).count(), 1);
        }
    }
}
