//! Landings and removals of a few files in any order, batch by batch, with deaths in between: what is registered at the
//! end is what a fold of all events says.

use crate::{
    harness::*,
    removal::{gone, landed},
};
use anyhow::{Result, ensure};
use dbb_events::{Did, Entry, Micros, Request, Settled};
use dbb_sinks::{
    Sink,
    butler::{Applied, ButlerSink, History, Removal},
    ledger::{Ledger, LedgerSettings, Process, Who},
};
use dbb_test_services::scratch;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use std::collections::{BTreeMap, HashMap};

struct Remembered(Ledger);

impl History for Remembered {
    fn applied(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, Applied>, String> {
        self.0.applied(target, dids).map_err(|error| error.to_string())
    }
}

/// One event: of which file, when, and whether the file landed or is gone.
type Said = (usize, i64, bool);

/// What happens with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    /// The Butler has done it, and `dbb` died before it was written down.
    Lost,
}

/// The newest word of each file; of one moment, that it is gone.
fn fold(said: &[Said]) -> BTreeMap<usize, bool> {
    let mut last: BTreeMap<usize, (i64, bool)> = BTreeMap::new();
    for (file, at, is_gone) in said {
        let known = last.entry(*file).or_insert((*at, *is_gone));
        *known = (*at, *is_gone).max(*known);
    }
    last.into_iter()
        .map(|(file, (_, is_gone))| (file, !is_gone))
        .collect()
}

fn check(removal: Removal, said: &[Said], order: &[Index], cuts: &[(usize, Fate)]) -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let datasets = site.products(&new_run("stories"), 3)?;
    let landings = requests(&datasets);
    let events: Vec<Request> = said
        .iter()
        .map(|(file, at, is_gone)| {
            let tell = if *is_gone { gone } else { landed };
            tell(&landings[*file], *at)
        })
        .collect();
    // Some more than once, in any order, and all at least once.
    let mut stream: Vec<Request> = order.iter().map(|at| at.get(&events).clone()).collect();
    stream.extend(events);
    let folder = scratch("stories")?;
    let ledger = LedgerSettings {
        url: format!("sqlite:{}", folder.path().join("ledger.sqlite").display()),
        ..LedgerSettings::default()
    };
    let mut settings = settings(&site.root)?;
    settings.removal = removal;
    let start = || -> Result<ButlerSink> {
        let history = Box::new(Remembered(Ledger::open(&ledger)?));
        Ok(ButlerSink::new("site", settings.clone(), history)?)
    };
    let mut writer = Ledger::open(&ledger)?;
    let generation = writer.begin_generation(&Who {
        host: "here".into(),
        process: Process::default(),
        version: "test".into(),
        started_at: Micros(0),
        instance: String::new(),
    })?;
    let mut sink = start()?;
    let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
    let mut deaths = 0;
    while !rest.is_empty() {
        let (size, fate) = cuts.next().copied().unwrap_or((1, Fate::Written));
        let (batch, after) = rest.split_at(size.min(rest.len()));
        let settled: Vec<Settled> = sink.deliver(batch.to_vec());
        ensure!(settled.len() == batch.len());
        if fate == Fate::Lost && deaths < 2 {
            // The same is read again, by one who remembers nothing.
            deaths += 1;
            sink = start()?;
            continue;
        }
        let entries: Vec<Entry> = settled.into_iter().map(|s| Entry::Settled(Box::new(s))).collect();
        writer.write(generation, &entries)?;
        rest = after;
    }
    let uuids: Vec<_> = datasets.iter().map(|dataset| dataset.uuid).collect();
    let content = site.content(&uuids)?;
    let dids: Vec<Did> = landings.iter().map(|landing| landing.did.clone()).collect();
    let applied = writer.applied("site", &dids)?;
    for (file, is_registered) in fold(said) {
        let there = content[datasets[file].uuid.to_string()]["uri"].is_string();
        ensure!(
            there == is_registered,
            "file {file}: {there}, not {is_registered}: {content}"
        );
        ensure!(
            applied[&dids[file]].state.is_registered() == is_registered,
            "{applied:?}"
        );
        ensure!(std::path::Path::new(&datasets[file].uri).exists());
    }
    Ok(())
}

fn stories(removal: Removal) -> Result<()> {
    let said = prop::collection::vec((0..3usize, 1..6i64, any::<bool>()), 1..10);
    let order = prop::collection::vec(any::<Index>(), 0..10);
    let fate = prop_oneof![3 => Just(Fate::Written), 1 => Just(Fate::Lost)];
    let cuts = prop::collection::vec((1..6usize, fate), 1..6);
    let config = Config {
        cases: 8,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&(said, order, cuts), |(said, order, cuts)| {
            check(removal, &said, &order, &cuts).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|failed| anyhow::anyhow!("{failed}"))
}

#[test]
fn any_order_of_landings_and_removals_ends_as_their_times_say_where_files_are_unstored() -> Result<()> {
    stories(Removal::Unstore)
}

#[test]
fn any_order_of_landings_and_removals_ends_as_their_times_say_where_files_are_purged() -> Result<()> {
    stories(Removal::Purge)
}
