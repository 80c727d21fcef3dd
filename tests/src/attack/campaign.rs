//! A campaign: a site at work, one case after the other, and what is left at the end.

use super::{
    Findings, Options, brokers, http,
    ingest::{self, Ingest},
    memory::Most,
    pg, ports, statements,
    target::Target,
    watch::{Asked, Now, Watch},
};
use crate::{
    Dice, Recorded, Run, Site,
    books::Again,
    recording::{Publisher, create_topics},
};
use anyhow::{Context, Result};
use dbb_test_services::{Kafka, free_port, python, wait_until};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Files that the attacked process may open: fewer than its strangers have connections.
const FILES: usize = 1024;
/// Memory of all statements together, in MiB, and connections to SQL.
const SQL_MIB: u64 = 256;
const SQL_CONNECTIONS: u64 = 50;
/// Longest frame that is taken of a client, in bytes, and what else may grow, in MiB.
const FRAME: u64 = 2 << 20;
const SLACK_MIB: u64 = 64;
/// Longest that `select 1` may take.
const SELECT_1: Duration = Duration::from_secs(1);
/// How many times slower outcomes may come while statements eat the processor, and in all other cases.
const SLOWER: (u64, u64) = (4, 2);
/// So many outcomes make a p99 that can be judged.
const ENOUGH: usize = 100;
/// The case of the second program.
const LOCKED: &str = "frames: before login";
/// Longest that the site may take to be ready, or to have read all.
const LIMIT: Duration = Duration::from_secs(180);

/// What a case does; what it finds wrong.
type Case = Box<dyn Fn(&Target, &mut Dice) -> Vec<String>>;

/// Does it all.
///
/// # Errors
///
/// The tests' own services or site do not work.
pub fn run(options: &Options) -> Result<Findings> {
    let mut dice = Dice::of(options.seed);
    let mut findings = Findings {
        seed: options.seed,
        grown: (0, SQL_MIB + ((SQL_CONNECTIONS * FRAME) >> 20) + SLACK_MIB),
        ..Findings::default()
    };
    let (hold, quiet, rate) = match options.short {
        true => (Duration::from_secs(2), Duration::from_secs(8), 10),
        false => (Duration::from_secs(15), Duration::from_secs(60), 20),
    };
    // More than the statements take, in whatever build.
    let files = (quiet.as_secs() + 120 + 25 * hold.as_secs()) * u64::from(rate);
    let kafka = Kafka::start()?;
    let folder = dbb_test_services::scratch("attack")?;
    let (site, sql, http) = site(options, &kafka, files, folder.path())?;
    let records = Recorded::of(&site)?;
    create_topics(&kafka, &records, 1, &mut BTreeSet::new())?;
    let publisher = Publisher::once(&kafka, 1)?;

    let run = start(&site, http)?;
    let process = run.id();
    let mut attacked = Attacked {
        site: &site,
        run,
        target: Target {
            sql,
            http,
            process,
            hold,
        },
        findings: &mut findings,
    };
    let now = Now::default();
    now.set("quiet");
    let watch = Watch::start(sql, &now);
    let ingest = Ingest::start(publisher, records, rate, &now);
    let memory = Most::of(attacked.run.id());
    // The first batch waits for the worker to start, and what follows for the first batch.
    wait_until("the first files are registered", LIMIT, || {
        Ok(site.count(|_| true)? > 0)
    })?;
    thread::sleep(quiet / 2);
    now.set("quiet: measured");
    thread::sleep(quiet);
    let before = memory.take();
    println!("quiet: {before} MiB");

    for (name, case) in cases(options, &mut dice)?
        .into_iter()
        .filter(|(name, _)| options.wants(name))
    {
        now.set(name);
        attacked.one(name, &case, &memory, before, &mut dice)?;
    }
    now.set("");
    if options.wants("floods") {
        floods(options, hold, attacked.findings)?;
    }
    if options.wants(LOCKED) {
        locked(options, &kafka, hold, &mut dice, attacked.findings)?;
    }
    if options.wants(ports::NAME) {
        ports::strangers(options, &kafka, hold, attacked.findings)?;
    }

    let asked = watch.stop()?;
    let published = ingest.finish()?;
    let Attacked { run, .. } = attacked;
    outcomes(&site, run, &mut findings)?;
    answers(&asked, &mut findings);
    latencies(&ingest::latencies(&site, &published)?, &mut findings);
    if options.short {
        // An unoptimised build beside others on the same processors proves nothing of time.
        for what in findings.slow.drain(..) {
            println!("not judged: {what}");
        }
    }
    Ok(findings)
}

/// All that is done to the site, in order; a name begins with what it is about.
fn cases(options: &Options, dice: &mut Dice) -> Result<Vec<(&'static str, Case)>> {
    fn quiet(case: impl Fn(&Target, &mut Dice) + 'static) -> Case {
        Box::new(move |target, dice| {
            case(target, dice);
            Vec::new()
        })
    }
    let mut all = statements::made();
    // In short every third: they are many, and the tests of the SQL server ask their share, too.
    let (of, every) = match options.short {
        true => (dice.below(3) as usize, 3),
        false => (0, 1),
    };
    all.extend(statements::kept().into_iter().skip(of).step_by(every));
    let (waited, burning) = (all.clone(), all.clone());
    Ok(vec![
        ("frames: greetings and frames after login", quiet(pg::after_login)),
        (
            "frames: parameters that are too short",
            quiet(pg::short_parameters),
        ),
        ("frames: conversations with changed bytes", quiet(pg::mutated)),
        ("frames: cancels of nothing", quiet(pg::cancels)),
        ("doors: silent clients of SQL", quiet(pg::silent)),
        ("doors: half requests", Box::new(http::half_requests)),
        ("doors: slow and long requests", quiet(http::slow_and_long)),
        ("doors: names of other hosts", Box::new(http::other_hosts)),
        ("memory: declared gigabytes", quiet(pg::declared_gigabyte)),
        ("memory: prepared without end", quiet(pg::prepared_without_end)),
        (
            "memory: a column a thousand times",
            Box::new(http::repeated_columns),
        ),
        ("memory: answers that nobody reads", Box::new(http::unread)),
        (
            "statements: waited for",
            quiet(move |target, _| statements::waited_for(target, &waited)),
        ),
        (
            "statements: abandoned",
            quiet(move |target, dice| statements::abandoned(target, &all, dice)),
        ),
        (
            "statements: many that burn",
            quiet(move |target, _| statements::burning(target, &burning)),
        ),
    ])
}

/// A site with a Butler, views and doors; where it listens for SQL and HTTP.
fn site(
    options: &Options,
    kafka: &Kafka,
    files: u64,
    folder: &Path,
) -> Result<(Site, SocketAddr, SocketAddr)> {
    let words = format!(
        "--files {files} --late 0 --faults none --max-datasets 20 --kafka {} --group-id attack",
        kafka.bootstrap()
    );
    let python = python()?.display().to_string();
    let mut all = vec!["--python", &python];
    all.extend(words.split_whitespace());
    // The limit of files is that of the process, not of those who attack it.
    let few = folder.join("few-files");
    let script = format!(
        "#!/bin/sh\nunset RUST_BACKTRACE\nulimit -n {FILES}\nexec {} \"$@\"\n",
        options.program
    );
    fs::write(&few, script)?;
    fs::set_permissions(&few, fs::Permissions::from_mode(0o755))?;
    let mut site = Site::make(&few.display().to_string(), &all)?;
    let address = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    let (sql, http) = (address()?, address()?);
    for set in [
        "views.keep=[all]".to_owned(),
        format!("sql.listen={sql}"),
        format!("sql.memory_mib={SQL_MIB}"),
        format!("sql.max_connections={SQL_CONNECTIONS}"),
        format!(
            "sql.statement_timeout_ms={}",
            if options.short { 2000 } else { 5000 }
        ),
        format!("http.listen={http}"),
        "http.idle_timeout_ms=3000".to_owned(),
    ] {
        site.set(set);
    }
    Ok((site, sql, http))
}

fn start(site: &Site, http: SocketAddr) -> Result<Run> {
    let mut run = site.start(&[])?;
    run.until("the site is ready", || {
        Ok(http::status(http, "/readyz") == Some(200))
    })?;
    Ok(run)
}

/// The site under attack.
struct Attacked<'a> {
    site: &'a Site,
    run: Run,
    target: Target,
    findings: &'a mut Findings,
}

impl Attacked<'_> {
    fn one(&mut self, name: &str, case: &Case, memory: &Most, before: u64, dice: &mut Dice) -> Result<()> {
        let begun = Instant::now();
        memory.take();
        let wrong = case(&self.target, dice);
        let grown = memory.take().saturating_sub(before);
        self.findings.cases += 1;
        self.findings.grown.0 = self.findings.grown.0.max(grown);
        println!(
            "{name}: {:.1} s, grown by {grown} MiB",
            begun.elapsed().as_secs_f64()
        );
        for what in wrong {
            println!("  wrong: {what}");
            self.findings.wrong.push(format!("{name}: {what}"));
        }
        if grown > self.findings.grown.1 {
            let most = self.findings.grown.1;
            self.findings
                .memory
                .push(format!("{name}: it grew by {grown} MiB of {most}"));
        }
        // A process that dies of it may take a moment.
        thread::sleep(Duration::from_millis(300));
        if !self.run.is_running() {
            let text = self.run.text();
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            println!("  death: {}", last.join(" | "));
            self.findings.deaths.push(name.to_owned());
            self.run = start(self.site, self.target.http)?;
            self.target.process = self.run.id();
            memory.follow(self.target.process);
        }
        Ok(())
    }
}

/// Brokers that mean harm, each with a reader of its own.
fn floods(options: &Options, hold: Duration, findings: &mut Findings) -> Result<()> {
    for harm in brokers::HARMS {
        println!("floods: {harm:?}");
        let wrong = brokers::flood(&options.program, harm, hold)?;
        findings.cases += 1;
        for what in wrong {
            println!("  wrong: {what}");
            let found = match what.contains("has ended") {
                true => &mut findings.deaths,
                false => &mut findings.memory,
            };
            found.push(format!("floods: {harm:?}: {what}"));
        }
    }
    Ok(())
}

/// A second `dbb`, which asks for passwords: what is said before them.
fn locked(
    options: &Options,
    kafka: &Kafka,
    hold: Duration,
    dice: &mut Dice,
    findings: &mut Findings,
) -> Result<()> {
    let name = LOCKED;
    let mut site = Site::unmade(&options.program, &[])?;
    site.unset_all();
    let address = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    let (sql, http) = (address()?, address()?);
    fs::write(site.path().join("password"), "open sesame\n")?;
    kafka.create_topic("locked", 1)?;
    fs::write(
        site.config(),
        format!(
            "source: {{kafka: {{brokers: [\"{}\"], group_id: locked, topics: [locked]}}}}\n\
             ledger: {{url: \"{}\"}}\n\
             views: {{keep: [all]}}\n\
             sql: {{listen: \"{sql}\", users: {{ali: {{file: \"{}\"}}}}}}\n\
             http: {{listen: \"{http}\"}}\n",
            kafka.bootstrap(),
            site.ledger_url(),
            site.path().join("password").display(),
        ),
    )?;
    let run = start(&site, http)?;
    let begun = Instant::now();
    let process = run.id();
    pg::before_login(
        &Target {
            sql,
            http,
            process,
            hold,
        },
        dice,
    );
    thread::sleep(Duration::from_millis(300));
    findings.cases += 1;
    println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
    if !run.is_running() {
        let text = run.text();
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        println!("  death: {}", last.join(" | "));
        findings.deaths.push(name.into());
        return Ok(());
    }
    run.terminate()?.with(0)?;
    Ok(())
}

/// Lets all be read, and compares with the oracle.
fn outcomes(site: &Site, run: Run, findings: &mut Findings) -> Result<()> {
    let again = match findings.deaths.is_empty() {
        true => Again::Never,
        false => Again::Perhaps,
    };
    let ended = run.terminate()?;
    if ended.status != 0 {
        let last: Vec<&str> = ended.text.lines().rev().take(5).collect();
        let what = format!("it ended with {}: {}", ended.status, last.join(" | "));
        findings.wrong.push(what);
    }
    let left = |site: &Site| -> Result<()> {
        let status = site.run_once(&[])?.status;
        anyhow::ensure!(status <= 1, "a run to the end ended with {status}");
        site.prove(again)
    };
    let mut last = None;
    wait_until("all is proved", LIMIT, || {
        last = left(site).err();
        Ok(last.is_none())
    })
    .or_else(|_| {
        let what = last.take().context("it was proved at last")?;
        findings.wrong.push(format!("{what:#}"));
        Ok(())
    })
}

/// What the other client got.
fn answers(asked: &[Asked], findings: &mut Findings) {
    let mut of_case: BTreeMap<(&str, bool), (usize, Duration, Vec<&String>)> = BTreeMap::new();
    for one in asked.iter().filter(|one| !one.case.is_empty()) {
        let (count, longest, failed) = of_case.entry((one.case, one.anew)).or_default();
        *count += 1;
        *longest = (*longest).max(one.took);
        failed.extend(one.failed.as_ref());
    }
    for ((case, anew), (count, longest, failed)) in of_case {
        let how = if anew { "on new connections" } else { "on its own" };
        let died = findings.deaths.iter().any(|death| death == case);
        println!(
            "select 1 {how}, {case}: {count} times, {} ms at most, {} failed",
            longest.as_millis(),
            failed.len()
        );
        findings.longest_ms = findings.longest_ms.max(longest.as_millis() as u64);
        if longest > SELECT_1 {
            let took = longest.as_millis();
            findings.slow.push(format!("select 1 {how}, {case}: {took} ms"));
        }
        // Who asks a process that has died gets no answer, and that is told already.
        if let (Some(error), false) = (failed.first(), died) {
            findings.wrong.push(format!(
                "select 1 {how}, {case}: failed {} times: {error}",
                failed.len()
            ));
        }
    }
}

/// How long outcomes took.
fn latencies(of_case: &BTreeMap<&'static str, Vec<u64>>, findings: &mut Findings) {
    let mut of_kind: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (case, took) in of_case.iter().filter(|(case, _)| **case != "quiet") {
        let kind = case.split(':').next().unwrap_or_default();
        of_kind.entry(kind).or_default().extend(took);
    }
    of_kind.values_mut().for_each(|all| all.sort_unstable());
    let quiet = ingest::p99(of_kind.get("quiet").map_or(&[], Vec::as_slice));
    findings.p99_ms.0 = quiet;
    for (kind, took) in &of_kind {
        let p99 = ingest::p99(took);
        println!("outcomes, {kind}: {} of them, p99 {p99} ms", took.len());
        if kind.is_empty() || *kind == "quiet" {
            continue;
        }
        findings.p99_ms.1 = findings.p99_ms.1.max(p99);
        let times = if *kind == "statements" { SLOWER.0 } else { SLOWER.1 };
        if took.len() >= ENOUGH && p99 > quiet * times {
            findings.slow.push(format!(
                "outcomes, {kind}: p99 {p99} ms, more than {times} times {quiet} ms"
            ));
        }
    }
}
