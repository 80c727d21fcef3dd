//! What several processes do together is what one does alone.

use crate::{published, site};
use anyhow::{Result, ensure};
use dbb_sinks::ledger::State;
use dbb_tests::{books::Again, cluster::Cluster};

/// SIGTERM to any of them drains all.
#[test]
fn two_processes_register_a_night_and_drain_together() -> Result<()> {
    let site = site("CLA", "--repositories main,prep --files 120 --repeats 20")?;
    published(&site)?;
    let mut cluster = Cluster::of(&site, "two", 2)?;
    cluster.start(&[])?;
    let expected = site.expected()?.totals.events;
    cluster.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    cluster.terminate(1)?;
    site.prove(Again::Perhaps)
}

/// Three processes of two workers each, once; and once more, when there is nothing left to do.
#[test]
fn three_processes_end_when_nothing_is_left_to_do() -> Result<()> {
    let site = site("CLB", "--repositories main,prep --files 120 --faults none")?;
    published(&site)?;
    for _ in 0..2 {
        let mut cluster = Cluster::of(&site, "three", 3)?;
        cluster.start(&["--run-once", "--workers", "2"])?;
        let (ended, _) = cluster.end_all()?;
        for ended in ended {
            ended.with(0)?;
        }
        site.prove(Again::Perhaps)?;
    }
    ensure!(
        site.count(|state| state == State::Refused)? == 0,
        "something was refused"
    );
    Ok(())
}
