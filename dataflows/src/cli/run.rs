//! `dbb run CONFIG`: the dataflow of a site.

use super::{ConfigFile, Exit, exit::Told, logging, output};
use crate::{
    cluster::Hosts,
    site::{self, RunOptions, RunReport},
};
use clap::Args;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    path::PathBuf,
};

/// Arguments of `dbb run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Stop when everything that is there now has an outcome; exits 1 if there were dead letters
    #[arg(long)]
    run_once: bool,
    /// Timely workers (threads), in place of `workers`
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Run as one of several processes: a file with a line `host:port` for each, where it listens for the others
    #[arg(long, value_name = "FILE", requires = "process")]
    hosts: Option<PathBuf>,
    /// Take the ledger from a dbb that holds it and lives; that one ends. For an operator, never for a service
    #[arg(long)]
    take_over: bool,
    /// The number of this process among the hosts, from 0
    #[arg(long, value_name = "K", requires = "hosts")]
    process: Option<usize>,
}

/// Runs until told to stop, or once.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let mut sets = args.file.set.clone();
    sets.extend(args.workers.map(|n| format!("workers={n}")));
    let loaded = crate::config::load(&args.file.config, &sets)?;
    logging::start(&loaded.config.log);
    logging::warn_of(&loaded.warnings);
    let hosts = match (&args.hosts, args.process) {
        (Some(path), Some(process)) => Some(Hosts::read(path, process)?),
        _ => None,
    };
    let config = &loaded.config;
    let other = config.views.are_kept() || config.outcomes.is_some() || config.hub.is_some();
    if config.routes.is_empty() && !other {
        let hint = "write `routes: [{rse: ..., repositories: [...]}]`, or record it: `dbb record`";
        let message = "no route leads anywhere: every file would be a dead letter";
        return Err(Told::new(Exit::Configuration, message, hint).into());
    }
    let options = RunOptions {
        run_once: args.run_once,
        progress: args.run_once && io::stderr().is_terminal(),
        signals: true,
        hosts,
        take_over: args.take_over,
    };
    crate::runtime::panic::ends_the_process();
    let report = site::run(&loaded.config, &options)?;
    if !args.run_once {
        return Ok(Exit::Ok);
    }
    output::print(&summary(&report))?;
    Ok(if report.dead_letters_added > 0 || report.unreadable_parts > 0 {
        Exit::Problems
    } else {
        Exit::Ok
    })
}

/// What the run read, and how all events of the ledger stand after it.
pub fn summary(report: &RunReport) -> String {
    let mut text = format!("{} records read", report.records);
    let mut part = |count: u64, what: &str| {
        if count > 0 {
            // A string cannot fail to take more.
            let _ = write!(text, ", {count} {what}");
        }
    };
    part(report.repeats, "repeats");
    part(report.not_for_us.values().sum(), "not for us");
    part(report.dead_letters_added, "new dead letters");
    part(report.unreadable_parts, "unreadable parts of the source");
    let _ = writeln!(text, ", in {:.1} s\n", report.elapsed.as_secs_f64());
    text.push_str(&super::ledger::outcomes(&report.tallies));
    if !report.not_for_us.is_empty() {
        text.push('\n');
        let rows = report
            .not_for_us
            .iter()
            .map(|(reason, count)| vec![(*reason).into(), count.to_string()]);
        text.push_str(&output::table(&["not for us", "records"], rows, &[1]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbb_sinks::ledger::{State, Tally};
    use std::{collections::BTreeMap, time::Duration};

    #[test]
    fn the_summary_adds_up_and_names_what_was_nobodys() {
        let tally = |rse: &str, target: &str, outcome, count| Tally {
            rse: rse.into(),
            target: target.into(),
            outcome,
            count,
        };
        let report = RunReport {
            records: 1220,
            repeats: 11,
            not_for_us: BTreeMap::from([("other_event_type", 7)]),
            ingested: 1200,
            dead_letters_added: 2,
            tallies: vec![
                tally("", "", State::Refused, 2),
                tally("A_DISK", "main", State::Ingested, 1200),
            ],
            elapsed: Duration::from_millis(2540),
            unreadable_parts: 0,
        };
        assert_eq!(
            summary(&report),
            "\
1220 records read, 11 repeats, 7 not for us, 2 new dead letters, in 2.5 s

rse           repository    ingested  already there  elsewhere  superseded  waiting  refused
(unreadable)  (not routed)         0              0          0           0        0        2
A_DISK        main              1200              0          0           0        0        0
all                             1200              0          0           0        0        2

not for us        records
other_event_type        7
"
        );
    }
}
