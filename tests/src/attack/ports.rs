//! Ports for other processes: strangers at them before a cluster is whole, and after.
//!
//! ```text
//!   a stranger where process 0 will listen --> process 1 waits --> strangers at all ports --> the cluster becomes whole
//!   --> strangers at all ports, those of the views too --> both processes answer for the replicas of both
//! ```

use super::{
    Findings, Options,
    target::{hold, listen, say},
};
use crate::{Cluster, Recorded, Site, recording::Publisher};
use anyhow::{Context, Result};
use dbb_test_services::{Kafka, Postgres, free_port, wait_until};
use postgres::{Client, NoTls};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// How a process of a cluster begins.
const GREETING: &[u8; 16] = b"dbb-cluster\0\0\0\0\x01";
/// Connections at each port that begin and then say nothing.
const SILENT: usize = 270;
/// The case.
pub(super) const NAME: &str = "ports: strangers at a cluster";

/// Starts a cluster among strangers, and asks it among strangers.
pub(super) fn strangers(
    options: &Options,
    kafka: &Kafka,
    held: Duration,
    findings: &mut Findings,
) -> Result<()> {
    findings.cases += 1;
    let postgres = Postgres::shared()?;
    let ledger = postgres.create_database("attacked_ledger")?;
    let mut site = Site::unmade(&options.program, &["--ledger", &ledger])?;
    site.unset_all();
    kafka.create_topic("ports", 2)?;
    let mut publisher = Publisher::once(kafka, 2)?;
    publisher.send(&Recorded::of_nights("ports", &["c"])?)?;
    publisher.flush()?;
    fs::write(
        site.config(),
        format!(
            "source: {{kafka: {{brokers: [\"{}\"], group_id: ports, topics: [ports]}}}}\n\
             ledger: {{url: \"{ledger}\"}}\nviews: {{keep: [all]}}\n",
            kafka.bootstrap()
        ),
    )?;
    let mut cluster = Cluster::of(&site, "attacked", 2)?;
    let mut sql = Vec::new();
    let mut own = Vec::new();
    for _ in 0..2 {
        let address = format!("127.0.0.1:{}", free_port()?);
        own.push([format!("sql.listen={address}"), "http.listen=null".to_owned()]);
        sql.push(address);
    }
    let start = |cluster: &mut Cluster<'_>, process: usize| {
        let [sql, http] = &own[process];
        cluster.start_one(process, &["--set", sql, "--set", http])
    };

    // Somebody answers where process 0 will be, and is not it.
    let impostor = TcpListener::bind(&cluster.addresses[0])?;
    impostor.set_nonblocking(true)?;
    start(&mut cluster, 1)?;
    let (since, mut met) = (Instant::now(), 0);
    while met < 4 && since.elapsed() < Duration::from_secs(30) && cluster.run(1)?.is_running() {
        if let Ok((mut stream, _)) = impostor.accept() {
            stream.set_nonblocking(false)?;
            // By turns something else altogether, and what a process says to one that has another token.
            let words: [&[u8]; 2] = match met % 2 {
                0 => [
                    b"SSH-2.0-OpenSSH_9.2 and what else fills as many bytes as a greeting has\r\n",
                    b"",
                ],
                _ => [&[&GREETING[..], &[9; 32]].concat(), &[0, 0, 0, 1, 1]],
            };
            let _ = stream.write_all(words[0]);
            listen(&mut stream, Duration::from_millis(300));
            let _ = stream.write_all(words[1]);
            met += 1;
        }
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_millis(500));
    drop(impostor);
    if !cluster.run(1)?.is_running() {
        findings
            .deaths
            .push(format!("{NAME}: one answers in the place of process 0"));
        return Ok(());
    }

    let addresses: Vec<SocketAddr> = cluster
        .addresses
        .iter()
        .map(|address| address.parse())
        .collect::<Result<_, _>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = addresses.iter().map(|address| crowd(*address, &stop)).collect();
    start(&mut cluster, 0)?;
    let whole = cluster.until_whole();
    stop.store(true, Relaxed);
    crowd.into_iter().for_each(|crowd| drop(crowd.join()));
    if let Err(error) = whole {
        let text = format!("{error:#}");
        let first: String = text.chars().take(300).collect();
        findings
            .wrong
            .push(format!("{NAME}: it does not become whole: {first}"));
        return Ok(());
    }

    let mut there = 0;
    wait_until(
        "both processes have the same replicas",
        Duration::from_secs(90),
        || {
            let counts = (replicas(&sql[0])?, replicas(&sql[1])?);
            there = counts.0;
            Ok(there > 0 && counts.0 == counts.1)
        },
    )?;
    let mut silent = Vec::new();
    for process in 0..2 {
        let ports = listening(cluster.run(process)?.id())?;
        println!("  process {process} listens at {ports:?}");
        for address in ports {
            // SQL is another case's.
            if !sql.contains(&address.to_string()) {
                silent.push(hold(address, SILENT / 2, b""));
                silent.push(hold(address, SILENT / 2, &[&GREETING[..], &[0; 32]].concat()));
                lies(address);
            }
        }
    }
    thread::sleep(held);
    for (process, sql) in sql.iter().enumerate() {
        if let Err(error) = replicas(sql) {
            findings.wrong.push(format!(
                "{NAME}: process {process} does not answer for replicas: {error:#}"
            ));
        }
    }
    drop(silent);
    for process in 0..2 {
        if !cluster.run(process)?.is_running() {
            findings.deaths.push(format!("{NAME}: process {process}"));
        }
    }
    if findings.deaths.iter().all(|death| !death.starts_with(NAME)) {
        cluster.terminate(0)?;
    }
    println!("{NAME}: done");
    Ok(())
}

/// How many replicas a process knows of; some of them the other one has.
fn replicas(sql: &str) -> Result<i64> {
    let address: SocketAddr = sql.parse()?;
    let mut client = Client::connect(
        &format!(
            "host={} port={} user=watch dbname=dbb",
            address.ip(),
            address.port()
        ),
        NoTls,
    )?;
    Ok(client.query_one("select count(*) from replicas", &[])?.get(0))
}

/// Strangers who begin a greeting and say no more, again and again, until told to stop.
fn crowd(address: SocketAddr, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        while !stop.load(Relaxed) {
            let silent = hold(address, 70, &[&GREETING[..], &[7; 32]].concat());
            lies(address);
            thread::sleep(Duration::from_millis(500));
            drop(silent);
        }
    })
}

/// Greetings that are none, and frames that are not as long as they say.
fn lies(address: SocketAddr) {
    let greeted = [&GREETING[..], &[1; 32]].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 1000],
        vec![0xff; 1000],
        [&greeted[..], &0xffff_ffffu32.to_be_bytes()].concat(),
        [&greeted[..], &0x7fff_ffffu32.to_be_bytes(), &[0; 100]].concat(),
        [&greeted[..], &100u32.to_be_bytes(), &[0xff; 200]].concat(),
        [&greeted[..], &0u32.to_be_bytes()].concat(),
    ] {
        if let Some(mut stream) = say(address, &bytes) {
            listen(&mut stream, Duration::from_millis(20));
        }
    }
}

/// Where a process listens: the sockets it has open, as the system lists them.
fn listening(process: u32) -> Result<BTreeSet<SocketAddr>> {
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{process}/fd"))?
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp"))?;
    let mut found = BTreeSet::new();
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // State 0A is LISTEN; the tenth word is the inode.
        if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = words[..]
            && sockets.contains(inode)
        {
            let (_, port) = local.split_once(':').context("no port")?;
            let port = u16::from_str_radix(port, 16)?;
            found.insert(SocketAddr::from(([127, 0, 0, 1], port)));
        }
    }
    Ok(found)
}
