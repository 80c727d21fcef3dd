//! Views of a running site: at every moment exactly the fold of the records they are bound to; complete again after a
//! restart; beside the registering of files, which they do not disturb.

use crate::{
    DBB,
    kafka::{ensure_all_committed, get},
    site,
};
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Kafka, free_port};
use dbb_tests::{
    Dice, Recorded, Run, Site,
    books::Again,
    fold::{ALL, Answer, ask, connect, fold, offsets},
    recording::{Publisher, create_topics},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

const PARTITIONS: i32 = 3;

/// A site without repositories, which only keeps views.
pub(crate) struct Viewing {
    pub(crate) site: Site,
    pub(crate) sql: String,
    pub(crate) http: String,
}

impl Viewing {
    pub(crate) fn new(kafka: &Kafka, topic: &str) -> Result<Self> {
        let mut site = Site::unmade(DBB, &[])?;
        site.unset_all();
        let (sql, http) = (
            format!("127.0.0.1:{}", free_port()?),
            format!("127.0.0.1:{}", free_port()?),
        );
        let config = format!(
            "source: {{kafka: {{brokers: [\"{}\"], group_id: {topic}, topics: [{topic}]}}}}\n\
             ledger: {{url: \"{}\"}}\n\
             views: {{keep: [all], forget_after_seconds: 1000000000}}\n\
             sql: {{listen: \"{sql}\"}}\n\
             http: {{listen: \"{http}\"}}\n",
            kafka.bootstrap(),
            site.ledger_url(),
        );
        fs::write(site.config(), config)?;
        Ok(Self { site, sql, http })
    }

    /// Starts it and waits until it has what is there.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Run> {
        let mut run = self.site.start(arguments)?;
        run.until("views have caught up", || is_ready(&self.http))?;
        Ok(run)
    }
}

pub(crate) fn is_ready(http: &str) -> Result<bool> {
    Ok(get(http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
}

/// The headline: events in chunks of random sizes, clients that ask all the while; each answer is compared with the
/// fold of exactly the records below the offsets it names. And after a kill the views come back as they were.
#[test]
fn at_each_published_epoch_views_equal_a_fold_of_the_offsets_bound_to_it() -> Result<()> {
    let kafka = Kafka::shared()?;
    let topic = "exact-views";
    kafka.create_topic(topic, PARTITIONS)?;
    let viewing = Viewing::new(kafka, topic)?;
    let records = Recorded::of_nights(topic, &["a", "b", "c"])?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    let mut dice = Dice::new("exact views");
    let mut run = viewing.start(&["--workers", "2"])?;

    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answers = thread::scope(|scope| -> Result<Vec<Answer>> {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Result<Vec<Answer>> {
                    let mut client = connect(&viewing.sql)?;
                    let mut answers = Vec::new();
                    while !stop.load(Relaxed) {
                        answers.push(ask(&mut client, ALL)?);
                        answered.fetch_add(1, Relaxed);
                    }
                    Ok(answers)
                })
            })
            .collect();
        let mut rest = records.as_slice();
        let (mut sent, mut chunks) = (Ok(()), 0);
        while !rest.is_empty() && sent.is_ok() {
            // However busy the machine is, there are answers of many moments.
            while answered.load(Relaxed) < chunks / 4 && !clients.iter().any(ScopedJoinHandle::is_finished) {
                thread::sleep(Duration::from_millis(10));
            }
            chunks += 1;
            let (chunk, later) = rest.split_at((1 + dice.below(150) as usize).min(rest.len()));
            rest = later;
            sent = publisher.send(chunk);
            thread::sleep(Duration::from_millis(dice.below(150)));
        }
        let ended = sent.and_then(|()| publisher.flush());
        let caught_up = ended.and_then(|()| {
            let mut client = connect(&viewing.sql)?;
            run.until("all is in the views", || {
                let offsets = offsets(&mut ask(&mut client, ALL)?)?;
                Ok(offsets.values().sum::<i64>() as usize == records.len())
            })
        });
        stop.store(true, Relaxed);
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(
                client
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??,
            );
        }
        caught_up?;
        Ok(answers)
    })?;

    let places = publisher.places();
    let mut epochs = BTreeSet::new();
    let count = answers.len();
    for mut answer in answers {
        let bound = offsets(&mut answer)?;
        let fold = fold(&places, &bound);
        ensure!(
            answer == fold,
            "at {bound:?}: {} rows are not in the fold, such as {:?}; {} are missing, such as {:?}",
            answer.difference(&fold).count(),
            answer.difference(&fold).next(),
            fold.difference(&answer).count(),
            fold.difference(&answer).next(),
        );
        epochs.insert(bound.into_values().collect::<Vec<_>>());
    }
    println!("{count} answers, of {} different offsets", epochs.len());
    ensure!(
        epochs.len() >= 10,
        "too few moments were looked at: {}",
        epochs.len()
    );

    // A kill at any moment: what was committed is known, and the views are made again from the beginning.
    let mut client = connect(&viewing.sql)?;
    let mut end = ask(&mut client, ALL)?;
    run.kill()?;
    let run = viewing.start(&["--workers", "1"])?;
    let mut again = ask(&mut connect(&viewing.sql)?, ALL)?;
    ensure!(
        offsets(&mut end)? == offsets(&mut again)?,
        "ready before all was read"
    );
    ensure!(end == again, "after a restart the views are others");

    // What a person sees.
    let statement =
        "select rse, state, sum(files) as files from rse_usage group by rse, state order by rse, state";
    let (status, table, error) = viewing.site.dbb(&["sql"], &[statement])?;
    ensure!(
        status == 0 && table.starts_with("rse "),
        "{status}\n{table}\n{error}"
    );
    let (_, json, _) = viewing.site.dbb(&["sql"], &[statement, "--format", "json"])?;
    let json: Vec<Value> = serde_json::from_str(&json)?;
    let files: i64 = json.iter().filter_map(|row| row["files"].as_i64()).sum();
    ensure!(
        files == again.iter().filter(|row| row[0] == "replica").count() as i64,
        "{json:?}"
    );
    let (_, csv, _) = viewing.site.dbb(&["sql"], &[statement, "--format", "csv"])?;
    ensure!(csv.starts_with("rse,state,files\n"), "{csv}");
    let (status, _, error) = viewing.site.dbb(&["sql"], &["drop table replicas"])?;
    ensure!(status == 1 && error.contains("hint: "), "{status} {error}");
    let replica = again
        .iter()
        .find(|row| row[0] == "replica")
        .context("no replica")?;
    let did = format!("{}:{}", replica[1], replica[2]);
    let (status, text, error) = viewing.site.dbb(&["explain"], &[&did])?;
    ensure!(
        status == 0 && text.contains(&replica[3]) && text.contains("event"),
        "{status} {text} {error}"
    );
    run.terminate()?.with(0)?;
    let (status, _, error) = viewing.site.dbb(&["sql"], &[statement])?;
    ensure!(
        status == 69 && error.contains("hint: is it running"),
        "{status} {error}"
    );
    Ok(())
}

/// Files are registered as without views; at the second start everything is read again, and no file is asked for again.
#[test]
fn with_views_files_are_registered_as_without_and_never_twice() -> Result<()> {
    let kafka = Kafka::shared()?;
    let brokers = kafka.bootstrap();
    let (sql, http) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    let mut site = site(&format!(
        "--files 60 --repeats 5 --site VWS --kafka {brokers} --group-id vws --http {http}"
    ))?;
    site.set("views.keep=[all]");
    site.set(format!("sql.listen={sql}"));
    let records = Recorded::of(&site)?;
    create_topics(kafka, &records, PARTITIONS, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    publisher.send(&records)?;
    publisher.flush()?;
    site.run_once(&[])?;
    ensure_all_committed(kafka, "vws", &publisher)?;
    site.prove(Again::Never)?;
    let rows = site.count(|_| true)?;

    let ended = site.run_once(&["--workers", "2"])?.with(0)?;
    ensure!(ended.text.contains("0 records read"), "{}", ended.text);
    ensure!(site.count(|_| true)? == rows, "the second run added rows");
    ensure_all_committed(kafka, "vws", &publisher)?;

    let mut run = site.start(&[])?;
    run.until("views have caught up", || is_ready(&http))?;
    let mut client = connect(&sql)?;
    let available = "select sum(files) from rse_usage where state = 'AVAILABLE'";
    let available = ask(&mut client, available)?;
    let files: BTreeSet<String> = records.iter().filter_map(Recorded::did).collect();
    let counted: i64 = available
        .iter()
        .flatten()
        .filter_map(|cell| cell.parse::<i64>().ok())
        .sum();
    ensure!(
        counted > 0 && counted as usize <= files.len() * 2,
        "{counted} replicas of {} files",
        files.len()
    );
    // What waits since an earlier run is still open.
    let backlog = ask(&mut client, "select sum(files), sum(waiting) from ingest_backlog")?;
    let open = site.count(|state| state == State::Waiting)?.to_string();
    ensure!(
        open != "0" && backlog == Answer::from([vec![open.clone(), open.clone()]]),
        "{open} wait in the ledger, the backlog is {backlog:?}"
    );
    // How long attempts took is told of those of earlier runs.
    let tried = "select count, p50_s > 0 and p50_s <= p95_s and p95_s <= p99_s from attempts where outcome = 'ingested'";
    let tried = ask(&mut client, tried)?;
    let ingested = site.count(|state| state == State::Ingested)?.to_string();
    ensure!(
        ingested != "0" && tried == Answer::from([vec![ingested.clone(), "t".into()]]),
        "{ingested} are ingested in the ledger, the attempts are {tried:?}"
    );
    let calls = get(&http, "/metrics")?;
    let asked = calls
        .lines()
        .any(|line| line.starts_with("dbb_butler_call") && line.contains("_count") && !line.ends_with(" 0"));
    ensure!(!asked, "the Butler was asked again:\n{calls}");
    run.terminate()?.with(0)?;
    site.prove(Again::Never)
}
