//! A campaign: services and a site, rounds of faults while records flow, and what is left at the end.

use super::{
    Findings, Options, answers,
    cluster::Cluster,
    fault::{Disk, Fault, Victims},
};
use crate::{
    Dice, Recorded, Site,
    books::{self, Again},
    recording::{Appended, Publisher, create_topics},
};
use anyhow::{Context, Result, bail, ensure};
use dbb::demo::Outcomes;
use dbb_test_services::{Kafka, KafkaOptions, Postgres, free_port, python, wait_until};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

const PARTITIONS: i32 = 3;
/// Longest that a cluster may take to answer after a fault has ended.
const BACK: Duration = Duration::from_secs(90);
/// Longest that a round waits for files to be registered.
const DONE: Duration = Duration::from_secs(20);
/// Longest that it may take to read what was published.
const CAUGHT_UP: Duration = Duration::from_secs(240);

/// Does it all.
///
/// # Errors
///
/// The tests' own services or site do not work.
pub fn run(options: &Options) -> Result<Findings> {
    let mut dice = Dice::of(options.seed);
    let mut findings = Findings {
        seed: options.seed,
        ..Findings::default()
    };
    let mut postgres = Postgres::start()?;
    let registry = postgres.create_database("butler")?;
    let ledger = postgres.create_database("ledger")?;
    let mut kafka = Kafka::with(KafkaOptions {
        brokers: 3,
        ..KafkaOptions::default()
    })?;
    let site = site(options, &kafka, &registry, &ledger)?;
    let records = Recorded::of(&site)?;
    let mut topics = BTreeSet::new();
    create_topics(&kafka, &records, PARTITIONS, &mut topics)?;
    let mut publisher = Publisher::once(&kafka, PARTITIONS)?;
    let mut appended = Appended::new(&kafka, &topics, PARTITIONS)?;
    let disk = Disk::mount(&site.path().join("checkpoints"))?;
    if disk.is_none() {
        println!("no disk can be mounted here: none is filled");
    }

    let mut cluster = Cluster::new(&site, options.processes)?;
    let mut struck: BTreeMap<Fault, usize> = BTreeMap::new();
    for round in 0..options.rounds {
        let begun = Instant::now();
        let told = (findings.wrong.len(), findings.hung.len());
        let upto = |round: usize| records.len() * round / options.rounds;
        publisher.send(&records[upto(round)..upto(round + 1)])?;
        let before = back(&mut cluster, &mut appended, &mut findings)?;
        if dice.below(3) == 0 {
            until_something_is_done(&site)?;
        } else {
            thread::sleep(Duration::from_millis(dice.below(800)));
        }
        let fault = Fault::of_round(round, &mut dice);
        *struck.entry(fault).or_default() += 1;
        let mut victims = Victims {
            kafka: &mut kafka,
            postgres: &mut postgres,
            disk: disk.as_ref(),
        };
        match fault.strike(&mut victims, &mut cluster, &mut dice) {
            Ok(wrong) => findings.wrong.extend(
                wrong
                    .into_iter()
                    .map(|what| format!("round {round}, {fault:?}: {what}")),
            ),
            Err(error) => {
                findings.hung.push(format!("round {round}, {fault:?}: {error:#}"));
                cluster.kill()?;
            }
        }
        findings.rounds += 1;
        for what in &findings.wrong[told.0..] {
            println!("wrong: {what}");
        }
        for what in &findings.hung[told.1..] {
            println!("hung: {what}");
        }
        println!(
            "round {round}: {before} records in the views, then {fault:?}; {:.1} s, start {}",
            begun.elapsed().as_secs_f64(),
            cluster.starts
        );
    }
    println!("struck: {struck:?}");
    publisher.flush()?;
    back(&mut cluster, &mut appended, &mut findings)?;
    if caught_up(&mut cluster, records.len(), &mut findings)? {
        compare(&cluster, &site, &kafka, &topics, records.len(), &mut findings)?;
    }
    match cluster.drain() {
        Ok(wrong) => findings.wrong.extend(wrong),
        Err(error) => findings.hung.push(format!("at the end: {error:#}")),
    }
    settle(&site, &mut findings)?;
    Ok(findings)
}

fn site(options: &Options, kafka: &Kafka, registry: &str, ledger: &str) -> Result<Site> {
    let files = (options.rounds * options.files).max(60);
    let words = format!(
        "--repositories main,prep --files {files} --repeats {} --faults none --max-datasets 20 --site CHA \
         --kafka {} --group-id chaos --registry {registry} --ledger {ledger}",
        files / 10,
        kafka.bootstrap(),
    );
    let python = python()?.display().to_string();
    let mut all = vec!["--python", &python];
    all.extend(words.split_whitespace());
    let mut site = Site::make(&options.program, &all)?;
    for name in ["main", "prep"] {
        site.set(format!("repositories.{name}.patience.retry_s=1"));
    }
    site.set("views.keep=[all]");
    site.set("views.forget_after_seconds=1000000000");
    site.set(format!(
        "checkpoint.url={}",
        site.path().join("checkpoints/kept").display()
    ));
    site.set("checkpoint.every_seconds=1");
    Ok(site)
}

/// Waits, not for long, until files are registered again: a worker takes seconds to start, and a fault comes sooner.
fn until_something_is_done(site: &Site) -> Result<()> {
    let (before, since) = (site.count(|_| true)?, Instant::now());
    while since.elapsed() < DONE && site.count(|_| true)? == before {
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Waits until every process answers, and judges each answer. How many records are in the views of the last.
fn back(cluster: &mut Cluster<'_>, appended: &mut Appended, findings: &mut Findings) -> Result<i64> {
    let deadline = Instant::now() + BACK;
    let mut next = 0;
    let mut records = 0;
    while next < cluster.processes() {
        match cluster.mend() {
            Ok(wrong) => findings.wrong.extend(wrong),
            Err(error) => findings.hung.push(format!("{error:#}")),
        }
        match answers::look(&cluster.sql[next], appended) {
            Ok((bound, wrong)) => {
                findings.wrong.extend(wrong);
                records = bound.values().sum();
                next += 1;
            }
            Err(error) if Instant::now() > deadline => {
                findings
                    .hung
                    .push(format!("process {next} does not answer: {error:#}"));
                cluster.kill()?;
                return Ok(records);
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    Ok(records)
}

/// True when all that was published is in the views of all.
fn caught_up(cluster: &mut Cluster<'_>, records: usize, findings: &mut Findings) -> Result<bool> {
    let deadline = Instant::now() + CAUGHT_UP;
    for process in 0..cluster.processes() {
        while !answers::records(&cluster.sql[process]).is_ok_and(|there| there as usize == records) {
            match cluster.mend() {
                Ok(wrong) => findings.wrong.extend(wrong),
                Err(error) => findings.hung.push(format!("{error:#}")),
            }
            if Instant::now() > deadline {
                let there = answers::records(&cluster.sql[process]);
                findings
                    .hung
                    .push(format!("of {records} records process {process} has {there:?}"));
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(true)
}

/// Every view of every process against a run that nobody disturbed.
fn compare(
    cluster: &Cluster<'_>,
    disturbed: &Site,
    kafka: &Kafka,
    topics: &BTreeSet<String>,
    records: usize,
    findings: &mut Findings,
) -> Result<()> {
    let mut site = Site::unmade(&disturbed.program_path().display().to_string(), &[])?;
    site.unset_all();
    let sql = format!("127.0.0.1:{}", free_port()?);
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let config = format!(
        "source: {{kafka: {{brokers: [\"{}\"], group_id: undisturbed, topics: [\"{}\"]}}}}\n\
         ledger: {{url: \"{}\"}}\n\
         views: {{keep: [all], forget_after_seconds: 1000000000}}\n\
         sql: {{listen: \"{sql}\"}}\n",
        kafka.bootstrap().replace(',', "\", \""),
        names.join("\", \""),
        site.ledger_url(),
    );
    fs::write(site.config(), config)?;
    let mut run = site.start(&[])?;
    wait_until("the undisturbed run has all", CAUGHT_UP, || {
        run.ensure_running()?;
        Ok(answers::records(&sql).is_ok_and(|there| there as usize == records))
    })?;
    let undisturbed = answers::all(&sql)?;
    run.signal("TERM")?;
    answers::ensure_any(&undisturbed)?;
    for (process, sql) in cluster.sql.iter().enumerate() {
        let here = answers::all(sql).with_context(|| format!("of process {process}"))?;
        let differences = answers::same(&undisturbed, &here);
        findings.wrong.extend(
            differences
                .into_iter()
                .map(|what| format!("process {process}: {what}")),
        );
    }
    Ok(())
}

/// Lets what waits come to its end, and compares ledger and Butler with the oracle.
fn settle(site: &Site, findings: &mut Findings) -> Result<()> {
    let expected = site.expected()?;
    let mut left = Vec::new();
    for _ in 0..6 {
        let ended = site.run_once(&[])?;
        ensure!(
            ended.status <= 1,
            "it ended with {}:\n{}",
            ended.status,
            ended.text
        );
        let outcomes = Outcomes::read(site.ledger_url(), &expected)?;
        left = books::differences(&expected, &outcomes.happened, Again::Perhaps);
        if outcomes.rows != outcomes.happened.len() as u64 {
            left.push(format!("{} rows in all", outcomes.rows));
        }
        if left.is_empty() {
            break;
        }
        thread::sleep(Duration::from_secs(2));
    }
    for what in left {
        if what.contains("not in the ledger") {
            findings.lost.push(what);
        } else if what.contains("rows") {
            findings.twice.push(what);
        } else {
            findings.wrong.push(what);
        }
    }
    if let Err(error) = site.prove_butler() {
        findings.lost.push(format!("{error:#}"));
    }
    if findings.rounds == 0 {
        bail!("there was no round");
    }
    Ok(())
}
