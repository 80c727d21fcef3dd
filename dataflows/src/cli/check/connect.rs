//! Trying the services that a configuration names.

use super::{Ticks, labels::labels, published::published};
use crate::{
    checkpoint::{self, Store},
    config::{Config, Prefix},
    site,
};
use dbb_events::{Did, Mark};
use dbb_sinks::{
    butler,
    ledger::{Kept, Ledger},
    lookup::LookUps,
};
use dbb_sources::{
    OutboxSettings, catalogue,
    kafka::{self, KafkaReport, KafkaSettings, Memory, Start},
    outbox::{self, OutboxReport},
    stomp,
};
use std::{collections::BTreeSet, path::Path};

/// Tries each of them, one after the other.
pub(super) fn connect(config: &Config, did: Option<&Did>, ticks: &mut Ticks) {
    source(config, ticks);
    ledger(config, ticks);
    folders(config, ticks);
    published(config, ticks);
    labels(config, did, ticks);
    checkpoints(config, ticks);
    for (name, settings) in &config.repositories {
        repository(name, settings, ticks);
    }
}

fn source(config: &Config, ticks: &mut Ticks) {
    if let Some(settings) = config.kafka_source() {
        match kafka::check_with(&settings, &memory(config)) {
            Ok(report) => topics(&settings, &report, ticks),
            Err(error) => ticks.error("source", error.into()),
        }
    }
    if let Some(settings) = &config.source.stomp {
        match stomp::check(settings) {
            Ok(brokers) => brokers_of(&brokers, ticks),
            Err(error) => ticks.error("source", error.into()),
        }
    }
    if let Some(settings) = &config.source.outbox {
        match outbox::check(settings) {
            Ok(report) => outbox_rows(config, settings, &report, ticks),
            Err(error) => ticks.error("source", error.into()),
        }
    }
    if let Some(settings) = &config.source.catalogue {
        match catalogue::check(settings) {
            Ok(kept) => {
                ticks.good("the catalogue's database lets us in");
                session(kept, ticks);
            }
            Err(error) => ticks.error("source", error.into()),
        }
    }
    if let Some(log) = &config.source.log {
        for path in &log.paths {
            match std::fs::metadata(path) {
                Ok(_) => ticks.good(format!("{} is there", path.display())),
                Err(error) => ticks.bad(format!("{}: {error}", path.display())),
            }
        }
    }
}

/// What is seen of the outbox, and what is doubtful about it.
fn outbox_rows(config: &Config, settings: &OutboxSettings, report: &OutboxReport, ticks: &mut Ticks) {
    let service = &settings.service;
    ticks.good(format!(
        "the outbox has {} rows for service {service}",
        report.rows
    ));
    session(report.kept, ticks);
    let others: Vec<&str> = report.services.iter().map(String::as_str).collect();
    if !others.is_empty() {
        ticks.note(format!("services with rows there now: {}", others.join(", ")));
    }
    let lookup = config.hub.as_ref().and_then(|hub| hub.lookup.clone());
    let version = lookup
        .and_then(|lookup| LookUps::open(&lookup).ok()?.rucio)
        .and_then(|rucio| rucio.ping().ok());
    let stream = settings.stream();
    let mut handled = memory(config).handled.into_keys();
    let seen = report.rows > 0 || handled.any(|partition| *partition.stream == *stream);
    if let Some(doubt) = outbox::doubt(service, version.as_deref(), seen) {
        ticks.doubt(doubt);
    }
}

/// How a database is reached.
fn session(kept: Kept, ticks: &mut Ticks) {
    ticks.note(match kept {
        Kept::Direct => "its server is reached directly",
        Kept::Pooled => "it is reached through a pooler, which keeps sessions",
    });
}

/// What the ledger remembers; where there is none, that there is none.
fn memory(config: &Config) -> Memory {
    let none = Memory {
        mark: Some(Mark { ledger: 0, at: 0 }),
        ..Memory::default()
    };
    if config.ledger.sqlite_path().is_some_and(|path| !path.exists()) {
        return none;
    }
    let asked =
        Ledger::open(&config.ledger).and_then(|mut ledger| Ok((ledger.mark()?, ledger.handled_to()?)));
    match asked {
        Ok((mark, handled)) => Memory {
            mark: Some(mark),
            handled: site::handled(&handled),
            ..Memory::default()
        },
        // What is wrong with it is told where it is tried.
        Err(_) => Memory::default(),
    }
}

fn brokers_of(brokers: &[stomp::Answer], ticks: &mut Ticks) {
    for (name, answer) in brokers {
        match answer {
            Ok(server) => {
                let server = server.as_deref().unwrap_or("it tells no version");
                ticks.good(format!("broker {name} lets us in: {server}"));
            }
            Err(error) if error.is_transient() => ticks.unreachable(error.to_string()),
            Err(error) => ticks.bad(error.to_string()),
        }
    }
    ticks.note("what a durable subscription keeps begins with the first run");
}

fn topics(settings: &KafkaSettings, report: &KafkaReport, ticks: &mut Ticks) {
    ticks.good(format!("Kafka answers, brokers {}", report.brokers.join(", ")));
    for (broker, version) in &report.versions {
        ticks.note(format!("broker {broker} is Kafka {version}"));
    }
    for topic in &report.topics {
        let lag: u64 = topic.partitions.iter().map(|p| p.lag).sum();
        let lost: u64 = topic.partitions.iter().map(|p| p.lost).sum();
        let begin = match topic.partitions.iter().filter(|p| p.committed.is_some()).count() {
            0 => format!("nothing committed, begins at the {}", word(settings.start)),
            n if n == topic.partitions.len() => "goes on where the group stopped".into(),
            n => format!("{n} partitions go on where the group stopped"),
        };
        let partitions = topic.partitions.len();
        ticks.good(format!(
            "topic {}: {partitions} partitions, {lag} records to read; {begin}",
            topic.name
        ));
        let mut findings: Vec<&str> = topic
            .partitions
            .iter()
            .filter_map(|p| p.finding.as_deref())
            .collect();
        findings.dedup();
        for finding in findings {
            ticks.bad(format!("topic {}: {finding}", topic.name));
        }
        if lost > 0 {
            ticks.bad(format!(
                "topic {}: {lost} records were removed by the brokers before the group read them",
                topic.name
            ));
        }
    }
    for name in &report.missing {
        ticks.doubt(format!(
            "no topic is called or matches {name}; it is read once there is one"
        ));
    }
    if !report.members.is_empty() {
        ticks.bad(format!(
            "group {} is being read by {}: a run would refuse to start; stop that program first",
            settings.group_id,
            report.members.join(", ")
        ));
    }
}

fn word(start: Start) -> &'static str {
    match start {
        Start::Earliest => "oldest record",
        Start::Latest => "end",
    }
}

/// A SQLite ledger that is not there yet is not made: `run` makes it, as the user that runs it.
fn ledger(config: &Config, ticks: &mut Ticks) {
    let url = config.ledger.shown_url();
    if let Some(path) = config.ledger.sqlite_path()
        && !path.exists()
    {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if folder.is_dir() {
            ticks.good(format!("ledger {url} is to be made at the first run"));
        } else {
            ticks.bad(format!("ledger {url}: there is no folder {}", folder.display()));
        }
        return;
    }
    let opened = Ledger::open(&config.ledger).and_then(|mut ledger| {
        let holder = ledger.holder()?;
        Ok((
            ledger.size_bytes()?,
            ledger.dead_letter_count()?,
            holder,
            ledger.kept(),
        ))
    });
    match opened {
        Ok((bytes, dead_letters, holder, kept)) => {
            let megabytes = bytes as f64 / 1e6;
            ticks.good(format!(
                "ledger {url} opens: {megabytes:.1} MB, {dead_letters} dead letters"
            ));
            if let Some(kept) = kept {
                session(kept, ticks);
            }
            if let Some(holder) = holder {
                let (who, generation) = (&holder.who, holder.generation.0);
                let how = if holder.has_ended { "last held" } else { "held" };
                ticks.note(format!(
                    "{how} by dbb {} on {}, process {}, since {} (generation {generation})",
                    who.version, who.host, who.process.pid, who.started_at
                ));
            }
        }
        Err(error) => ticks.error(&format!("ledger {url}"), error.into()),
    }
}

/// The local folders that URLs are mapped to.
fn folders(config: &Config, ticks: &mut Ticks) {
    let of_rses = config.rses.values().flat_map(|rse| &rse.prefixes);
    let of_routes = config.routes.iter().flat_map(|route| &route.prefixes);
    let local = |prefix: &Prefix| {
        let to = prefix.to.strip_prefix("file://").unwrap_or(&prefix.to);
        to.starts_with('/').then(|| to.to_owned())
    };
    let folders: BTreeSet<_> = of_rses.chain(of_routes).filter_map(local).collect();
    for folder in folders {
        match std::fs::metadata(&folder) {
            Ok(about) if about.is_dir() => ticks.good(format!("folder {folder} is there")),
            Ok(_) => ticks.bad(format!("{folder} is no folder")),
            Err(error) => ticks.bad(format!("folder {folder}: {error}")),
        }
    }
}

/// What a start would go on from.
fn checkpoints(config: &Config, ticks: &mut Ticks) {
    let listed = match Store::existing(&config.checkpoint) {
        Ok(None) => return,
        Ok(Some(store)) => checkpoint::list(&store),
        Err(error) => Err(error),
    };
    match listed {
        Ok(listed) if listed.is_empty() => {
            ticks.note("no checkpoint is there yet: views are made from the oldest record")
        }
        Ok(listed) => ticks.good(format!("{} checkpoints are there", listed.len())),
        Err(error) => ticks.error("checkpoints", error.into()),
    }
}

fn repository(name: &str, settings: &butler::ButlerSettings, ticks: &mut Ticks) {
    let report = match butler::check(settings) {
        Ok(report) => report,
        Err(error) => return ticks.error(&format!("repository {name}"), error.into()),
    };
    ticks.good(format!(
        "repository {name} opens: Butler {}, universe {}, {} collections, instruments {}",
        report.butler_version,
        report.universe,
        report.collections,
        if report.instruments.is_empty() {
            "none".into()
        } else {
            report.instruments.join(", ")
        },
    ));
    for (root, there) in &report.roots {
        if !there {
            ticks.bad(format!(
                "repository {name}: its datastore's root {root} is not there"
            ));
        }
    }
    if !report.writeable {
        ticks.bad(format!("repository {name} was opened for reading only"));
    }
    if !report.skip_existing {
        ticks.doubt(format!(
            "repository {name}: this Butler is older than v30.0.1, known datasets are looked up before each call"
        ));
    }
    if !report.has_raw_ingest_task {
        ticks.note(format!(
            "repository {name}: no RawIngestTask in its environment, raws are ingested from their sidecars alone"
        ));
    }
}
