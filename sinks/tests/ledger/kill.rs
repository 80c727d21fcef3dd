//! A process that writes is killed at any moment: what it was told is durable is there, once.

use crate::support::{entry, sqlite_url, who};
use dbb_events::{EventId, Outcome};
use dbb_sinks::ledger::{Ledger, LedgerSettings, State};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

const URL: &str = "DBB_TEST_LEDGER_URL";
const FIRST: &str = "DBB_TEST_LEDGER_FIRST";
/// Events in one batch.
const BATCH: u128 = 200;

/// Run by the test below in a process of its own: writes batch after batch and prints each that is acknowledged.
#[test]
#[ignore = "the other half of the test below"]
fn a_process_that_writes_until_it_is_killed() {
    let (Ok(url), Ok(first)) = (std::env::var(URL), std::env::var(FIRST)) else {
        return;
    };
    let settings = LedgerSettings {
        url,
        ..LedgerSettings::default()
    };
    let mut ledger = Ledger::open(&settings).unwrap();
    let generation = ledger.begin_generation(&who()).unwrap();
    let first: u128 = first.parse().unwrap();
    // Straight to the pipe: the test harness keeps what is printed by macros.
    let mut acknowledged = std::io::stdout().lock();
    for batch in first.. {
        let events = batch * BATCH..(batch + 1) * BATCH;
        let entries: Vec<_> = events.map(|n| entry(n, Outcome::Ingested, 20)).collect();
        ledger.write(generation, &entries).unwrap();
        writeln!(acknowledged, "acknowledged {batch}").unwrap();
        acknowledged.flush().unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged_and_leaves_no_half_batch() {
    let folder = tempfile::tempdir().unwrap();
    let settings = LedgerSettings {
        url: sqlite_url(folder.path()),
        ..LedgerSettings::default()
    };
    let mut first = 0u128;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("kill::a_process_that_writes_until_it_is_killed")
            .env(URL, &settings.url)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = None;
        for line in lines {
            let line = line.unwrap();
            // The harness prints its own words before the first.
            if let Some((_, batch)) = line.split_once("acknowledged ") {
                acknowledged = Some(batch.parse::<u128>().unwrap());
                if batch.parse::<u128>().unwrap() >= first + 2 {
                    std::thread::sleep(Duration::from_millis(3 * round));
                    let _ = child.kill();
                }
            }
        }
        child.wait().unwrap();
        let acknowledged = acknowledged.expect("the process acknowledged nothing");
        let mut ledger = Ledger::open(&settings).unwrap();
        let mut batches = 0;
        for batch in 0..acknowledged + 3 {
            let events: Vec<EventId> = (batch * BATCH..(batch + 1) * BATCH).map(EventId).collect();
            let found = ledger.states("main", &events).unwrap();
            assert!(found.values().all(|state| *state == State::Ingested));
            assert!(
                found.len() == BATCH as usize || (found.is_empty() && batch > acknowledged),
                "batch {batch} has {} rows, {acknowledged} was acknowledged",
                found.len()
            );
            batches += u64::from(!found.is_empty());
        }
        let rows: u64 = ledger.summary().unwrap().iter().map(|t| t.count).sum();
        assert_eq!(rows, batches * BATCH as u64);
        // The last batch is sent again, as after a restart.
        first = acknowledged;
    }
}
