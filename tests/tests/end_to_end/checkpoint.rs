//! Checkpoints: whatever ends a run, the next one goes on from where the last checkpoint was, and nothing is lost or twice.

use crate::{
    kafka::{Watched, ensure_all_committed, get},
    site,
    views::{Viewing, is_ready},
};
use anyhow::{Context, Result, ensure};
use dbb::runtime::fault::POINTS;
use dbb_test_services::{Kafka, free_port};
use dbb_tests::{
    Dice, Recorded, Run, Site,
    books::Again,
    fold::{ALL, Answer, ask, connect, fold, offsets},
    recording::{Publisher, create_topics},
};
use postgres::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, sleep},
    time::{Duration, Instant},
};

const PARTITIONS: i32 = 3;

/// Checkpoints of this site in its own folder, one each second.
fn keep_checkpoints(site: &mut Site, folder: &str) {
    let url = site.path().join(folder);
    site.set(format!("checkpoint.url={}", url.display()));
    site.set("checkpoint.every_seconds=1");
}

/// The offsets that a run began with, by what it says of its checkpoint; `None` if it had none.
fn resumed_at(run: &Run) -> Option<BTreeMap<(String, i32), i64>> {
    let text = run.text();
    let line = text
        .lines()
        .find(|line| line.contains("resuming from a checkpoint"))?;
    let (_, offsets) = line.split_once("offsets=")?;
    let offsets = offsets.trim_start_matches('"').split('"').next()?;
    offsets
        .split_whitespace()
        .map(|word| {
            let (partition, next) = word.split_once("]=")?;
            let (topic, partition) = partition.split_once('[')?;
            Some(((topic.to_owned(), partition.parse().ok()?), next.parse().ok()?))
        })
        .collect()
}

/// Waits until `count` records are in the views, then asks for all of them.
fn all_of(run: &mut Run, client: &mut Client, count: usize) -> Result<Answer> {
    let mut answer = Answer::new();
    run.until("all is in the views", || {
        answer = ask(client, ALL)?;
        let offsets = offsets(&mut answer.clone())?;
        Ok(offsets.values().sum::<i64>() as usize == count)
    })?;
    Ok(answer)
}

/// Records read since this run began, from what and where.
fn read_since_the_start(client: &mut Client) -> Result<i64> {
    let rows = ask(client, "select records from stream_health where stream = '(all)'")?;
    let cell = rows.into_iter().flatten().next().context("no health")?;
    Ok(cell.parse()?)
}

fn ensure_same(answer: &Answer, wanted: &Answer, when: &str) -> Result<()> {
    ensure!(
        answer == wanted,
        "{when}: {} rows should not be there, such as {:?}; {} are missing, such as {:?}",
        answer.difference(wanted).count(),
        answer.difference(wanted).next(),
        wanted.difference(answer).count(),
        wanted.difference(answer).next(),
    );
    Ok(())
}

fn ensure_fold(answer: &Answer, publisher: &Publisher, when: &str) -> Result<()> {
    let mut answer = answer.clone();
    let bound = offsets(&mut answer)?;
    ensure_same(&answer, &fold(&publisher.places(), &bound), when)
}

/// A night in three runs on other numbers of workers. Each begins where the one before was drained, at the offset, and
/// has the views that one run would have.
#[test]
fn a_night_split_between_runs_gives_the_views_of_one_run() -> Result<()> {
    let kafka = Kafka::shared()?;
    let topic = "split-night";
    kafka.create_topic(topic, PARTITIONS)?;
    let mut viewing = Viewing::new(kafka, topic)?;
    keep_checkpoints(&mut viewing.site, "checkpoints");
    let records = Recorded::of_nights(topic, &["a", "b"])?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    let mut dice = Dice::new("split night");
    let mut cuts = [0; 3].map(|_| 1 + dice.below(records.len() as u64 - 1) as usize);
    cuts.sort_unstable();
    let mut sent = 0;
    let mut drained: Option<Answer> = None;
    for (to, workers) in cuts.into_iter().chain([records.len()]).zip(["1", "2", "4", "1"]) {
        publisher.send(&records[sent..to])?;
        publisher.flush()?;
        let mut run = viewing.start(&["--workers", workers])?;
        let mut client = connect(&viewing.sql)?;
        let answer = all_of(&mut run, &mut client, to)?;
        ensure_fold(&answer, &publisher, &format!("{to} records, {workers} workers"))?;
        let resumed = resumed_at(&run);
        ensure!(resumed.is_some() == drained.is_some(), "{}", run.text());
        if let (Some(resumed), Some(drained)) = (resumed, &mut drained) {
            ensure!(resumed == offsets(drained)?, "resumed at {resumed:?}");
            let read = read_since_the_start(&mut client)? as usize;
            ensure!(
                read == to - sent,
                "{read} records were read of {} new ones",
                to - sent
            );
        }
        drop(client);
        let ended = run.terminate()?.with(0)?;
        ensure!(
            ended.text.contains("the last checkpoint is written"),
            "{}",
            ended.text
        );
        (drained, sent) = (Some(answer), to);
    }
    Ok(())
}

/// Killed again and again while it reads; at the end the views are those of a run that was left alone.
#[test]
fn killed_at_any_moment_the_next_run_has_the_same_views() -> Result<()> {
    let kafka = Kafka::shared()?;
    let topic = "killed-night";
    kafka.create_topic(topic, PARTITIONS)?;
    let mut viewing = Viewing::new(kafka, topic)?;
    keep_checkpoints(&mut viewing.site, "checkpoints");
    let records = Recorded::of_nights(topic, &["a", "b", "c"])?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    let mut dice = Dice::new("killed night");
    let (mut sent, mut resumed) = (0, 0);
    for round in 0..6 {
        let workers = (1 + dice.below(3)).to_string();
        let run = viewing.site.start(&["--workers", &workers])?;
        let until = Instant::now() + Duration::from_millis(1500 + dice.below(4000));
        while Instant::now() < until {
            let to = (sent + 1 + dice.below(60) as usize).min(records.len());
            publisher.send(&records[sent..to])?;
            sent = to;
            sleep(Duration::from_millis(dice.below(100)));
        }
        run.ensure_running()?;
        resumed += usize::from(resumed_at(&run).is_some());
        println!("round {round}: {workers} workers, {sent} records, {resumed} resumed");
        run.kill()?;
    }
    ensure!(resumed > 0, "no run had a checkpoint");
    publisher.send(&records[sent..])?;
    publisher.flush()?;
    let mut run = viewing.start(&["--workers", "2"])?;
    let mut client = connect(&viewing.sql)?;
    let answer = all_of(&mut run, &mut client, records.len())?;
    ensure_fold(&answer, &publisher, "after all kills")?;
    let begun = resumed_at(&run).context("the last run had no checkpoint")?;
    let read = read_since_the_start(&mut client)?;
    ensure!(
        read == records.len() as i64 - begun.values().sum::<i64>(),
        "{read} records were read, from {begun:?}"
    );
    drop(client);
    run.terminate()?.with(0)?;
    Ok(())
}

/// Retention takes records between two runs: the views are without them, say so, and say so in the run after that.
#[test]
fn what_retention_took_is_missing_from_the_views_which_say_so() -> Result<()> {
    let kafka = Kafka::shared()?;
    let topic = "gap-night";
    kafka.create_topic(topic, 1)?;
    let mut viewing = Viewing::new(kafka, topic)?;
    keep_checkpoints(&mut viewing.site, "checkpoints");
    let records = Recorded::of_nights(topic, &["a"])?;
    let (first, rest) = records.split_at(records.len() / 3);
    let mut publisher = Publisher::new(kafka, 1)?;
    publisher.send(first)?;
    publisher.flush()?;
    let mut run = viewing.start(&[])?;
    all_of(&mut run, &mut connect(&viewing.sql)?, first.len())?;
    run.terminate()?.with(0)?;

    publisher.send(rest)?;
    publisher.flush()?;
    let kept = first.len() as i64 + 25;
    kafka.delete_records(topic, 0, kept)?;
    let mut there = publisher.places();
    there.retain(|(_, _, offset), _| *offset < first.len() as i64 || *offset >= kept);
    for gaps in ["25", "0"] {
        let mut run = viewing.start(&["--workers", "2"])?;
        let mut client = connect(&viewing.sql)?;
        let mut answer = all_of(&mut run, &mut client, records.len())?;
        let bound = offsets(&mut answer)?;
        ensure_same(&answer, &fold(&there, &bound), "without what is missing")?;
        let missing = ask(
            &mut client,
            "select stream, missing, missing_since is not null from as_of()",
        )?;
        ensure!(
            missing == Answer::from([vec![topic.into(), "25".into(), "t".into()]]),
            "{missing:?}"
        );
        // Since the start of this run.
        let found = ask(
            &mut client,
            "select gaps from stream_health where stream = '(all)'",
        )?;
        ensure!(found == Answer::from([vec![gaps.into()]]), "{found:?}");
        let headers = get(&viewing.http, "/api/v1/views/rse_usage")?;
        ensure!(
            headers.contains(&format!("dbb-missing: {topic}:0=25;since=")),
            "{headers}"
        );
        drop(client);
        run.terminate()?.with(0)?;
    }
    Ok(())
}

/// A site with repositories and views, which keeps checkpoints.
struct Whole {
    site: Site,
    sql: String,
    http: String,
    publisher: Publisher,
    watched: Watched,
    records: Vec<Recorded>,
}

impl Whole {
    fn new(kafka: &Kafka, name: &str, files: usize) -> Result<Self> {
        let (sql, http) = (
            format!("127.0.0.1:{}", free_port()?),
            format!("127.0.0.1:{}", free_port()?),
        );
        let group = name.to_lowercase();
        let mut site = site(&format!(
            "--files {files} --repeats 5 --site {name} --kafka {} --group-id {group} --http {http}",
            kafka.bootstrap()
        ))?;
        site.set("views.keep=[all]");
        site.set(format!("sql.listen={sql}"));
        keep_checkpoints(&mut site, "checkpoints");
        let records = Recorded::of(&site)?;
        create_topics(kafka, &records, PARTITIONS, &mut BTreeSet::new())?;
        Ok(Self {
            watched: Watched::of_group(&site, &group)?,
            publisher: Publisher::new(kafka, PARTITIONS)?,
            site,
            sql,
            http,
            records,
        })
    }

    /// The views when all records are in them.
    fn views(&self, workers: &str) -> Result<Answer> {
        let mut run = self.site.start(&["--workers", workers])?;
        run.until("views have caught up", || is_ready(&self.http))?;
        let answer = all_of(&mut run, &mut connect(&self.sql)?, self.records.len())?;
        run.terminate()?.with(0)?;
        Ok(answer)
    }
}

/// The rule, at each step: killed between any two, no offset is committed whose outcomes are not durable, nothing is
/// lost, nothing is twice, and the views are those of a run that was left alone.
#[test]
fn killed_between_any_two_steps_nothing_is_lost_or_twice_and_views_are_the_same() -> Result<()> {
    let kafka = Kafka::shared()?;
    let mut whole = Whole::new(kafka, "FLT", 60)?;
    let mut dice = Dice::new("fault points");
    let chunk = whole.records.len().div_ceil(POINTS.len());
    let chunks: Vec<Vec<Recorded>> = whole.records.chunks(chunk).map(<[_]>::to_vec).collect();
    for (at, point) in POINTS.iter().enumerate() {
        // Those that come once or rarely are met the first time.
        let often = ["polled", "ledger_write", "ledger_written", "offsets_commit"];
        let times = if often.contains(point) {
            1 + dice.below(2)
        } else {
            1
        };
        if *point == "merged" {
            // Where there is no base yet, the second delta leads to one.
            keep_checkpoints(&mut whole.site, "merged");
        }
        let program = whole.site.program(&["--workers", "2"]);
        let mut run = whole
            .site
            .start_program(program.env("DBB_FAULT", format!("{point}:{times}")))?;
        let (since, mut asked) = (Instant::now(), false);
        let mut records = chunks.get(at).into_iter().flatten();
        while run.is_running() && since.elapsed() < Duration::from_secs(90) {
            // One by one, once they are looked for: so that each step is gone through more than once.
            if run.text().contains("views have caught up") {
                whole.publisher.send(records.next())?;
                sleep(Duration::from_millis(200));
            }
            // A step that nothing but the end of a run leads to.
            if !asked && *point == "drained" && since.elapsed() > Duration::from_secs(6) {
                asked = true;
                run.signal("TERM")?;
            }
            sleep(Duration::from_millis(100));
        }
        whole.publisher.send(records)?;
        whole.publisher.flush()?;
        ensure!(!run.is_running(), "{point} was not met:\n{}", run.text());
        let ended = run.end()?;
        println!("{point}:{times} ended with {}", ended.status);
        ensure!(ended.status == 128 + 6, "{point} was not met:\n{}", ended.text);
        whole.watched.check(kafka, &whole.publisher, &whole.site)?;
    }
    whole.site.run_once(&[])?;
    whole.watched.check(kafka, &whole.publisher, &whole.site)?;
    ensure_all_committed(kafka, "flt", &whole.publisher)?;
    whole.site.prove(Again::Perhaps)?;
    let resumed = whole.views("2")?;
    // One run over everything, from the beginning.
    keep_checkpoints(&mut whole.site, "others");
    let alone = whole.views("1")?;
    ensure_same(&resumed, &alone, "after all faults")
}

/// A new version takes over in mid-flow, while events go on arriving: nothing is lost or delivered twice.
#[test]
fn drained_and_replaced_under_load_nothing_is_lost_or_twice() -> Result<()> {
    let kafka = Kafka::shared()?;
    let mut whole = Whole::new(kafka, "UPG", 150)?;
    // Far more than it takes: who is cut short delivers again.
    whole.site.set("shutdown.drain_seconds=140");
    let (site, watched, publisher) = (&whole.site, &whole.watched, &mut whole.publisher);
    let run = site.start(&["--workers", "2"])?;
    let (records, http) = (&whole.records, &whole.http);
    let replaced = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        let load = scope.spawn(|| {
            for (at, record) in records.iter().enumerate() {
                // Some are for the next one alone, however long it takes to start.
                while at > records.len() * 2 / 3 && !replaced.load(Relaxed) {
                    sleep(Duration::from_millis(20));
                }
                publisher.send([record])?;
                sleep(Duration::from_millis(50));
            }
            publisher.flush()
        });
        let next = replace(run, site, http, &replaced);
        replaced.store(true, Relaxed);
        load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        next
    })?;
    watched.check(kafka, &whole.publisher, site)?;
    run.terminate()?.with(0)?;
    whole.site.run_once(&[])?;
    ensure_all_committed(kafka, "upg", &whole.publisher)?;
    whole.site.prove(Again::Never)?;
    let resumed = whole.views("1")?;
    keep_checkpoints(&mut whole.site, "others");
    ensure_same(&resumed, &whole.views("2")?, "after the upgrade")
}

/// Drains a run that has begun to work, and starts the next; `replaced` as soon as that is ready.
fn replace(mut run: Run, site: &Site, http: &str, replaced: &AtomicBool) -> Result<Run> {
    run.until("some is done", || Ok(site.count(|_| true)? > 20))?;
    let asked = Instant::now();
    let ended = run.terminate()?.with(0)?;
    let drained = asked.elapsed();
    ensure!(
        ended.text.contains("the last checkpoint is written"),
        "{}",
        ended.text
    );
    let before = site.count(|_| true)?;
    let mut next = site.start(&["--workers", "2"])?;
    next.until("views have caught up", || is_ready(http))?;
    let ready = asked.elapsed();
    replaced.store(true, Relaxed);
    next.until("the next has done something", || {
        Ok(site.count(|_| true)? > before)
    })?;
    println!(
        "asked to stop, it left after {:.1} s; the views of the next were there after {:.1} s, its first outcome after \
         {:.1} s",
        drained.as_secs_f64(),
        ready.as_secs_f64(),
        asked.elapsed().as_secs_f64()
    );
    ensure!(resumed_at(&next).is_some(), "{}", next.text());
    Ok(next)
}
