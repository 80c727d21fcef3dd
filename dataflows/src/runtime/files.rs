//! Files: how many the process may have open, and how many of them those who connect may take.
//!
//! ```text
//!   limit of the system --> raised as far as it goes --> what sources, ledger, workers and checkpoints need
//!                                                  \--> the rest: doors (HTTP, SQL, other processes), each within its key
//! ```
//!
//! A connection is a file. If those who connect could take all of them, no broker, ledger or checkpoint could be reached any
//! more: so what the dataflow needs is kept, and where the limit is too low for both, the doors have less.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::borrow::Cow;

/// No limit is raised above this: some programs that are started look at each file that they might have open.
const MOST: u64 = 1 << 20;
/// What a run needs beside its connections: libraries, log, brokers, ledger, checkpoints.
const BASE: u64 = 192;
/// What each repository, worker and other process needs: pipes, folders, links, files of checkpoints.
const EACH: u64 = 16;
/// What strangers may have at the ports for other processes.
const PORTS: u64 = 384;
/// A door has this many at least.
const LEAST: u64 = 4;

/// Raises the limit of this process as far as it may; how many files that is.
pub(crate) fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let current = now.current.unwrap_or(u64::MAX);
    let wanted = now.maximum.unwrap_or(u64::MAX).min(MOST);
    if current >= wanted {
        return current;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: now.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}

/// The configuration with as many connections as `files` open files allow, and a sentence where those are fewer than it says.
pub(crate) fn fit(config: &Config, processes: usize, files: u64) -> (Cow<'_, Config>, Option<String>) {
    let (kept, doors) = (kept(config, processes), doors(config));
    let wanted = doors.iter().map(|(_, connections)| connections).sum::<u64>();
    if kept + wanted <= files {
        return (Cow::Borrowed(config), None);
    }
    let left = files.saturating_sub(kept);
    let share = |connections: u64| {
        let share = (u128::from(connections) * u128::from(left) / u128::from(wanted.max(1))) as u64;
        u32::try_from(share.clamp(LEAST, connections.max(LEAST))).unwrap_or(u32::MAX)
    };
    let mut fitted = config.clone();
    fitted.http.max_connections = share(config.http.max_connections.into());
    fitted.sql.max_connections = share(config.sql.max_connections.into());
    let names: Vec<String> = doors
        .iter()
        .map(|(name, connections)| format!("{name} {} instead of {connections}", share(*connections)))
        .collect();
    let warning = format!(
        "this process may open {files} files, and {} are needed: connections are fewer than configured, {}; raise the limit \
         (`LimitNOFILE=` of systemd, `ulimit -n`)",
        kept + wanted,
        names.join(", ")
    );
    (Cow::Owned(fitted), Some(warning))
}

/// What no door may take.
fn kept(config: &Config, processes: usize) -> u64 {
    let many = config.repositories.len() + config.workers + processes;
    let ports = if processes > 1 { PORTS } else { 0 };
    BASE + EACH * many as u64 + ports
}

/// Who is let in, and how many at once.
fn doors(config: &Config) -> Vec<(&'static str, u64)> {
    let http = config.http.listen.as_ref().map(|_| {
        let connections = u64::from(config.http.max_connections);
        ("http.max_connections", connections)
    });
    let sql = config.sql.listen.as_ref().map(|_| {
        let connections = u64::from(config.sql.max_connections);
        ("sql.max_connections", connections)
    });
    http.into_iter().chain(sql).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_have_what_they_ask_for_where_there_is_enough() {
        let config = Config::default();
        let (fitted, warning) = fit(&config, 1, 1024);
        assert_eq!(warning, None);
        assert_eq!(fitted.http.max_connections, 256);
    }

    #[test]
    fn where_files_are_few_the_doors_have_less_and_the_dataflow_what_it_needs() {
        let mut config = Config::default();
        config.sql.listen = Some("127.0.0.1:0".into());
        config.sql.max_connections = 744;
        let (fitted, warning) = fit(&config, 1, 512);
        let warning = warning.unwrap_or_default();
        for part in [
            "512 files",
            "http.max_connections",
            "instead of 744",
            "LimitNOFILE",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        let doors = u64::from(fitted.http.max_connections + fitted.sql.max_connections);
        assert!(doors + kept(&config, 1) <= 512, "{doors}");
        assert!(fitted.sql.max_connections > fitted.http.max_connections);
        // Never none: someone must be able to look.
        let (fitted, _) = fit(&config, 3, 64);
        assert_eq!(u64::from(fitted.http.max_connections), LEAST);
    }

    #[test]
    fn the_limit_is_raised_once_and_stays() {
        let raised = raise();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), raised);
        assert_eq!(raise(), raised);
    }
}
