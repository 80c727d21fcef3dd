//! How a cluster ends when one of its processes goes: all with it, soon, saying which it was; and nothing is lost.

use crate::{PARTITIONS, published, site};
use anyhow::{Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Kafka, Proxy, free_port};
use dbb_tests::{
    Recorded,
    books::Again,
    cluster::Cluster,
    recording::{Publisher, create_topics},
};
use std::{collections::BTreeSet, time::Duration};

/// After a loss, with the patience of these tests: far more than it takes, on a machine that does much else, and far less
/// than a connection that nobody watches stays open.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn whoever_is_killed_or_stopped_the_others_end_and_nothing_is_lost() -> Result<()> {
    let site = site("CLC", "--repositories main,prep --files 90 --repeats 10")?;
    published(&site)?;
    let mut rows = 0;
    for (victim, signal) in [(0, "KILL"), (1, "KILL"), (1, "STOP"), (2, "STOP")] {
        let mut cluster = Cluster::of(&site, &format!("{signal}{victim}"), 3)?;
        cluster.start(&["--set", "cluster.patience_seconds=4"])?;
        cluster.until_whole()?;
        // The last one before its first sign of life.
        if (victim, signal) != (2, "STOP") {
            let before = rows;
            cluster.until("something is done", || {
                rows = site.count(|_| true)?;
                Ok(rows > before || site.count(State::is_settled)? >= site.expected()?.totals.events)
            })?;
        }
        cluster.run(victim)?.signal(signal)?;
        let stopped = cluster.runs[victim].take();
        let (ended, took) = cluster.end_all()?;
        println!("{signal} of process {victim}: the others had ended after {took:.1?}");
        ensure!(took < SOON, "{signal} of {victim}: the others took {took:?}");
        let name = format!("process {victim} ({})", cluster.addresses[victim]);
        for ended in ended {
            let ended = ended.with(75)?;
            // The first to notice may have ended before the others did: then they name it.
            ensure!(ended.text.contains("start all processes again"), "{}", ended.text);
            ensure!(
                ended.text.contains(&name) || ended.text.contains("has gone"),
                "{}",
                ended.text
            );
        }
        if let Some(mut stopped) = stopped.filter(|_| signal == "STOP") {
            stopped.signal("CONT")?;
            stopped.end()?.with(75)?;
        }
    }
    let mut cluster = Cluster::of(&site, "last", 2)?;
    cluster.start(&[])?;
    let expected = site.expected()?.totals.events;
    cluster.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    cluster.terminate(0)?;
    site.prove(Again::Perhaps)
}

#[test]
fn a_cut_link_is_noticed_on_both_sides() -> Result<()> {
    let site = site("CLD", "--files 30 --faults none")?;
    published(&site)?;
    let mut cluster = Cluster::of(&site, "cut", 2)?;
    let proxy = Proxy::start(
        format!("127.0.0.1:{}", free_port()?),
        cluster.addresses[0].clone(),
    )?;
    cluster.find_first_at(proxy.address())?;
    let listen = format!("cluster.listen={}", cluster.addresses[0]);
    let patience = ["--set", "cluster.patience_seconds=4"];
    cluster.start_one(1, &patience)?;
    cluster.start_one(0, &[&patience[..], &["--set", &listen]].concat())?;
    cluster.until_whole()?;
    cluster.until("something is done", || Ok(site.count(|_| true)? > 0))?;
    proxy.cut();
    let (ended, took) = cluster.end_all()?;
    println!("link cut: both had ended after {took:.1?}");
    ensure!(took < SOON, "it took {took:?}");
    for (other, ended) in ended.into_iter().enumerate() {
        let silent = format!("nothing was heard of process {}", 1 - other);
        let ended = ended.with(75)?;
        ensure!(ended.text.contains(&silent), "{}", ended.text);
    }
    site.run_once(&[])?;
    site.prove(Again::Perhaps)
}

/// Of a start that comes to nothing the ledger knows nothing: a cluster that works would go on.
#[test]
fn processes_that_do_not_fit_or_do_not_come_say_so() -> Result<()> {
    let site = site("CLE", "--files 20 --faults none")?;
    let short = ["--set", "cluster.connect_seconds=3"];
    let unheld = || Ok::<_, anyhow::Error>(site.ledger()?.holder()?.is_none());

    let mut half = Cluster::of(&site, "half", 3)?;
    half.start_one(0, &short)?;
    half.start_one(2, &short)?;
    for process in [0, 2] {
        let ended = half.end(process)?.with(75)?;
        let missing = format!("process 1 ({}) has not been met", half.addresses[1]);
        ensure!(ended.text.contains(&missing), "{}", ended.text);
    }

    let mut token = Cluster::of(&site, "token", 2)?;
    token.start_one(0, &["--set", "cluster.connect_seconds=15"])?;
    // It has read its own before it listens.
    dbb_test_services::wait_until("process 0 waits", SOON * 4, || {
        Ok(token.texts().contains("waiting for the cluster"))
    })?;
    token.set_token("another")?;
    token.start_one(1, &short)?;
    // It cannot be known from a stranger, who may go again.
    let ended = token.end(1)?.with(75)?;
    ensure!(ended.text.contains("does not prove the token"), "{}", ended.text);
    let ended = token.end(0)?.with(75)?;
    ensure!(ended.text.contains("its token is another"), "{}", ended.text);

    let mut other = Cluster::of(&site, "other", 2)?;
    other.start_one(0, &["--set", "identify.remember_seconds=7"])?;
    other.start_one(1, &[])?;
    for process in [0, 1] {
        let ended = other.end(process)?.with(78)?;
        ensure!(
            ended.text.contains("differs from this one in `identify`"),
            "{}",
            ended.text
        );
    }
    let mut workers = Cluster::of(&site, "workers", 2)?;
    workers.start_one(0, &["--workers", "2"])?;
    workers.start_one(1, &[])?;
    for process in [0, 1] {
        let ended = workers.end(process)?.with(78)?;
        ensure!(ended.text.contains("in `workers`"), "{}", ended.text);
    }
    ensure!(unheld()?, "a cluster that was never whole has taken the ledger");
    Ok(())
}

#[test]
fn strangers_who_connect_during_the_start_do_no_harm() -> Result<()> {
    use std::{io::Write, net::TcpStream};
    let site = site("CLF", "--files 20 --faults none")?;
    published(&site)?;
    let mut cluster = Cluster::of(&site, "strangers", 2)?;
    cluster.start_one(0, &[])?;
    let mut silent = Vec::new();
    let address = cluster.addresses[0].clone();
    cluster.until("it listens", || match TcpStream::connect(&address) {
        Ok(stream) => {
            silent.push(stream);
            Ok(true)
        }
        Err(_) => Ok(false),
    })?;
    for said in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"dbb-cluster\0\0\0\0\x01",
    ] {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(said)?;
        silent.push(stream);
    }
    for _ in 0..40 {
        silent.push(TcpStream::connect(&address)?);
    }
    cluster.start_one(1, &[])?;
    cluster.until_whole()?;
    let expected = site.expected()?.totals.events;
    cluster.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    let ended = cluster.terminate(0)?;
    ensure!(
        ended[0]
            .text
            .contains("it does not speak as a dbb of this version"),
        "{}",
        ended[0].text
    );
    site.prove(Again::Never)
}

#[test]
fn of_two_clusters_on_one_ledger_the_older_leaves() -> Result<()> {
    let site = site("CLG", "--files 60 --faults none --repeats 0")?;
    let kafka = Kafka::shared()?;
    let records = Recorded::of(&site)?;
    create_topics(kafka, &records, PARTITIONS, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(kafka, PARTITIONS)?;
    let (first, second) = records.split_at(records.len() / 2);
    publisher.send(first)?;
    publisher.flush()?;
    let mut older = Cluster::of(&site, "older", 2)?;
    older.start(&[])?;
    older.until("something is done", || Ok(site.count(|_| true)? > 10))?;
    let generation = site.ledger()?.holder()?.map(|held| held.generation);
    let mut newer = Cluster::of(&site, "newer", 2)?;
    newer.start(&["--take-over"])?;
    newer.until("it holds the ledger", || {
        Ok(site.ledger()?.holder()?.map(|held| held.generation) != generation)
    })?;
    publisher.send(second)?;
    publisher.flush()?;
    for ended in older.end_all()?.0 {
        let ended = ended.with(78)?;
        ensure!(ended.text.contains("another dbb"), "{}", ended.text);
    }
    let expected = site.expected()?.totals.events;
    newer.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    newer.terminate(1)?;
    site.prove(Again::Perhaps)
}
