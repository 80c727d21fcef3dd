//! Views go on from run to run on other numbers of processes; whichever process is asked, they are one fold.

use anyhow::{Context, Result, ensure};
use dbb_test_services::{Kafka, Postgres, free_port};
use dbb_tests::{
    Ended, Recorded, Site,
    cluster::Cluster,
    fold::{ALL, Answer, ask, connect, fold, offsets},
    recording::Publisher,
};
use std::fs;

use crate::{DBB, PARTITIONS};

const TOPIC: &str = "cluster-night";
/// What retention takes before the last run, of the first partition.
const GONE: i64 = 10;

/// A site that keeps all views, in checkpoints too.
fn viewing(kafka: &Kafka) -> Result<Site> {
    let mut site = Site::unmade(DBB, &[])?;
    site.unset_all();
    let ledger = Postgres::shared()?.create_database("cln_ledger")?;
    let config = format!(
        "source: {{kafka: {{brokers: [\"{}\"], group_id: {TOPIC}, topics: [{TOPIC}]}}}}\n\
         ledger: {{url: \"{ledger}\"}}\n\
         views: {{keep: [all], forget_after_seconds: 1000000000}}\n\
         checkpoint: {{url: \"{}\", every_seconds: 1}}\n\
         http: {{listen: null}}\n",
        kafka.bootstrap(),
        site.path().join("checkpoints").display(),
    );
    fs::write(site.config(), config)?;
    Ok(site)
}

/// What each process of a run answers when `count` records are in its views, and how the processes ended.
fn run(site: &Site, processes: usize, workers: usize, count: i64) -> Result<(Vec<Answer>, Vec<Ended>)> {
    let name = format!("of{processes}");
    let mut cluster = Cluster::of(site, &name, processes)?;
    let mut addresses = Vec::new();
    for process in 0..processes {
        let sql = format!("127.0.0.1:{}", free_port()?);
        let (set, workers) = (format!("sql.listen={sql}"), workers.to_string());
        cluster.start_one(process, &["--workers", &workers, "--set", &set])?;
        addresses.push(sql);
    }
    let mut answers = Vec::new();
    for sql in addresses {
        let mut answer = Answer::new();
        cluster.until("all is in the views", || {
            // It is not there yet, or its peers are not.
            let Ok(rows) = connect(&sql).and_then(|mut client| ask(&mut client, ALL)) else {
                return Ok(false);
            };
            answer = rows;
            Ok(offsets(&mut answer.clone())?.values().sum::<i64>() == count)
        })?;
        let health = "select records from stream_health where stream = '(all)'";
        answers.push(answer);
        answers.push(ask(&mut connect(&sql)?, health)?);
        let missing = "select sum(missing), count(missing_since) from as_of()";
        answers.push(ask(&mut connect(&sql)?, missing)?);
    }
    let ended = cluster.terminate(processes - 1)?;
    Ok((answers, ended))
}

/// A night in four runs. Each begins where the one before was drained, and has the views that one run would have; what
/// retention took before the last one is told by every process.
#[test]
fn a_night_split_between_one_process_two_three_and_two_gives_the_views_of_one_run() -> Result<()> {
    let kafka = Kafka::shared()?;
    kafka.create_topic(TOPIC, PARTITIONS)?;
    let site = viewing(kafka)?;
    let records = Recorded::of_nights(TOPIC, &["b", "c"])?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    let mut sent = 0;
    for (number, (processes, workers)) in [(1, 2), (2, 1), (3, 2), (2, 2)].into_iter().enumerate() {
        let to = records.len() * (number + 1) / 4;
        publisher.send(&records[sent..to])?;
        publisher.flush()?;
        let mut there = publisher.places();
        let mut gone = 0;
        if number == 3 {
            // Of those that no run has read.
            let first = sent.div_ceil(PARTITIONS as usize) as i64;
            kafka.delete_records(TOPIC, 0, first + GONE)?;
            there.retain(|(_, partition, offset), _| {
                *partition != 0 || *offset < first || *offset >= first + GONE
            });
            gone = GONE;
        }
        let (answers, ended) = run(&site, processes, workers, to as i64)?;
        for answers in answers.chunks(3) {
            let [views, read, missing] = answers else {
                unreachable!("three were asked");
            };
            let mut views = views.clone();
            let bound = offsets(&mut views)?;
            let right = fold(&there, &bound);
            ensure!(
                views == right,
                "{processes} processes: {} rows are not in the fold, such as {:?}; {} are missing, such as {:?}",
                views.difference(&right).count(),
                views.difference(&right).next(),
                right.difference(&views).count(),
                right.difference(&views).next(),
            );
            let wanted = (to - sent) as i64 - gone;
            ensure!(
                *read == Answer::from([vec![wanted.to_string()]]),
                "{processes} processes read {read:?} of {wanted} new records"
            );
            let partitions = i64::from(gone > 0).to_string();
            ensure!(
                *missing == Answer::from([vec![gone.to_string(), partitions]]),
                "{missing:?} are missing of {gone}"
            );
        }
        let text = &ended.first().context("nothing ran")?.text;
        ensure!(text.contains("the last checkpoint is written"), "{text}");
        ensure!(
            text.contains("resuming from a checkpoint") == (number > 0),
            "{text}"
        );
        sent = to;
    }
    Ok(())
}
