//! SIGKILL at random moments, over the program, its Python workers, Kafka and PostgreSQL, while events flow.

use crate::{kafka::ensure_all_committed, site};
use anyhow::{Context, Result, bail, ensure};
use dbb_test_services::{Kafka, Postgres};
use dbb_tests::{
    Dice, Recorded, Run, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use std::{collections::BTreeSet, env, process::Command, thread, time::Duration};

/// Of ten kills.
const VICTIMS: [Victim; 10] = {
    use Victim::{Broker, Database, Program, Worker};
    [
        Program, Worker, Program, Database, Program, Worker, Program, Broker, Program, Worker,
    ]
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Program,
    Worker,
    Broker,
    Database,
}

#[test]
fn after_fifty_kills_every_event_has_one_outcome_and_the_butler_is_exactly_right() -> Result<()> {
    let rounds: usize = env::var("ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(50);
    let mut dice = Dice::new("kills");
    // Their own: nobody else's may be killed.
    let mut postgres = Postgres::start()?;
    let registry = postgres.create_database("butler")?;
    let ledger = postgres.create_database("ledger")?;
    let mut kafka = Kafka::start()?;
    let brokers = kafka.bootstrap();
    let files = (rounds * 10).max(100).to_string();
    let mut site = site(&format!(
        "--repositories main,prep --files {files} --repeats 30 --max-datasets 20 --site CHA --kafka {brokers} \
         --group-id chaos --registry {registry} --ledger {ledger}"
    ))?;
    for name in ["main", "prep"] {
        site.set(format!("repositories.{name}.patience.retry_s=1"));
    }
    let records = Recorded::of(&site)?;
    create_topics(&kafka, &records, 3, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(&kafka, 3)?;

    let mut run = Some(site.start(&[])?);
    let mut killed = Vec::new();
    for round in 0..rounds {
        let upto = |round: usize| records.len() * round / rounds;
        let chunk = &records[upto(round)..upto(round + 1)];
        publisher.send(chunk)?;
        thread::sleep(Duration::from_millis(200 + dice.below(4500)));
        let victim = if round < 4 {
            VICTIMS[[0, 1, 3, 7][round]]
        } else {
            *dice.one_of(&VICTIMS).context("nobody")?
        };
        match victim {
            Victim::Program | Victim::Worker => {
                let workers = alive(&site, &mut run)?.workers();
                let worker = dice.one_of(&workers).filter(|_| victim == Victim::Worker);
                // A worker that has just ended by itself cannot be killed: then it is the program's turn.
                let killed = worker.is_some_and(|worker| kill(*worker));
                if let Some(run) = run.take_if(|_| !killed) {
                    run.kill()?;
                }
            }
            Victim::Broker => kafka.restart(0)?,
            Victim::Database => {
                postgres.kill()?;
                postgres.start_again()?;
            }
        }
        killed.push(victim);
        alive(&site, &mut run)?;
    }
    println!("killed: {killed:?}");
    publisher.flush()?;
    if let Some(run) = run.take() {
        run.kill()?;
    }
    drain(&site)?;
    ensure_all_committed(&kafka, "chaos", &publisher)?;
    site.prove(Again::Perhaps)
}

/// Sends SIGKILL; true if there was such a process.
fn kill(process: u32) -> bool {
    let done = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .output();
    done.is_ok_and(|output| output.status.success())
}

/// The program, started again if it has gone, as a service manager would: it may only have gone for want of a service.
fn alive<'a>(site: &Site, run: &'a mut Option<Run>) -> Result<&'a mut Run> {
    if let Some(ended) = run.take_if(|run| !run.is_running()) {
        let ended = ended.end()?;
        ensure!(
            ended.status == 69,
            "it ended by itself with {}:\n{}",
            ended.status,
            ended.text
        );
    }
    if run.is_none() {
        *run = Some(site.start(&[])?);
    }
    run.as_mut().context("it was just started")
}

/// Runs until everything is done: what waits for a passing fault comes back within seconds.
fn drain(site: &Site) -> Result<()> {
    let mut why = None;
    for _ in 0..6 {
        let ended = site.run_once(&[])?;
        ensure!(
            ended.status <= 1,
            "it ended with {}:\n{}",
            ended.status,
            ended.text
        );
        match site.prove_ledger(Again::Perhaps) {
            Ok(()) => return Ok(()),
            Err(error) => why = Some(error),
        }
        thread::sleep(Duration::from_secs(2));
    }
    match why {
        Some(error) => Err(error),
        None => bail!("it never ran"),
    }
}
