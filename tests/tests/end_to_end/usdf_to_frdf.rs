//! What Rucio brings from USDF to FrDF is in the Butler there, what it deletes is gone, and what the link loses comes.

use crate::DBB;
use anyhow::{Context, Result, ensure};
use dbb_events::Did;
use dbb_sinks::ledger::Selector;
use dbb_test_services::Stomp;
use dbb_tests::{
    Federation,
    federation::{EVENTS, Rule},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

const LIMIT: Duration = Duration::from_secs(120);

/// Files of the first batch, of each of the small ones, and while the link is cut.
const FIRST: usize = 60;
const SMALL: usize = 4;
const ROUNDS: usize = 10;
const REST: usize = 40;

#[test]
fn what_rucio_has_at_frdf_the_butler_there_has_whatever_becomes_of_the_link() -> Result<()> {
    let mut federation = Federation::start(DBB, 160)?;
    say("Rucio, ActiveMQ, two Kafkas and MirrorMaker run");
    let mut hub = federation.start_hub()?;
    let mut site = federation.start_site()?;
    let centre = federation.start_centre()?;
    let mut settled = 0;

    let rules = federation.register(FIRST)?;
    federation.list(&rules)?;
    federation.transfer()?;
    settled += files(&rules);
    federation.until_settled(&mut site, settled)?;
    let datasets = federation.ensure_same()?;
    say(&format!(
        "{settled} files copied by Rucio: the Butler at FrDF has their {datasets} datasets"
    ));

    for rule in &rules {
        let (status, text) = federation.complete(rule, &["--wait", "--timeout", "60"])?;
        ensure!(status == 0, "{text}");
        say(text.trim_end());
    }

    let mut monitoring = Monitoring::start(&federation)?;
    // None of them is a dimension file, which a Butler that is filled anew needs.
    let mut unwanted = Vec::new();
    for _ in 0..ROUNDS {
        let rules = federation.register(SMALL)?;
        federation.transfer()?;
        settled += files(&rules);
        federation.until_settled(&mut site, settled)?;
        monitoring.listen()?;
        unwanted.extend(rules);
    }
    say(&monitoring.latency(&federation)?);

    federation.remove(&unwanted)?;
    settled += files(&unwanted);
    federation.until_settled(&mut site, settled)?;
    let datasets = federation.ensure_same()?;
    say(&format!(
        "{} files deleted by Rucio: the Butler has {datasets} datasets",
        files(&unwanted)
    ));

    federation.mirror.cut()?;
    let rules = federation.register(REST)?;
    federation.transfer()?;
    let published = federation.registered();
    hub.until("the hub has published all", || {
        Ok(federation.published()? >= published)
    })?;
    federation.list(&rules)?;
    hub.until("the centre sees that the site has not all of it", || {
        Ok(federation.complete(&rules[0], &[])?.0 == 1)
    })?;
    federation.let_topics_forget(LIMIT)?;
    federation.mirror.connect()?;
    settled += files(&rules);
    federation.until_settled(&mut site, settled)?;
    let datasets = federation.ensure_same()?;
    let named = site.text().matches("records of a hub have not arrived").count();
    ensure!(named > 0, "nobody said what was missing");
    say(&format!(
        "{} files while the link was cut, gone from the topics when it was back: {named} gaps named and filled, the Butler has \
         {datasets} datasets",
        files(&rules)
    ));

    let (status, text) = federation.complete(&rules[0], &["--wait", "--timeout", "60"])?;
    ensure!(status == 0, "{text}");

    for rse in Federation::rses() {
        let (status, sums) = federation.reconcile(rse, &["--dry-run"])?;
        ensure!(status == 0, "{rse}: {sums}");
    }
    say("Rucio's replicas at FrDF, its ledger and its Butler agree");
    site.terminate()?.with(0)?;
    federation.lose_site()?;
    let mut missing = 0;
    for rse in Federation::rses() {
        let (status, sums) = federation.reconcile(rse, &[])?;
        ensure!(status == 1 && sums["sent"] == sums["missing"], "{rse}: {sums}");
        missing += sums["missing"].as_u64().context("no sum")? as usize;
    }
    let mut site = federation.start_site()?;
    federation.until_settled(&mut site, missing)?;
    let rebuilt = federation.ensure_same()?;
    ensure!(rebuilt == datasets, "{rebuilt} of {datasets}");
    for rse in Federation::rses() {
        let (status, sums) = federation.reconcile(rse, &[])?;
        ensure!(status == 0, "{rse}: {sums}");
    }
    say(&format!(
        "an empty Butler and an empty ledger: {missing} files sent again by what Rucio lists, {rebuilt} datasets"
    ));

    centre.terminate()?.with(0)?;
    hub.terminate()?.with(0)?;
    site.terminate()?.with(0)?;
    Ok(())
}

/// What `make federation` shows.
fn say(what: &str) {
    println!("{what}");
}

fn files(rules: &[Rule]) -> usize {
    rules.iter().map(|rule| rule.files).sum()
}

/// Another reader of Hermes's topic, as a monitoring system is one: it has its own copy, and knows when each event came.
struct Monitoring {
    broker: Stomp,
    /// When the broker was given each `transfer-done`, in milliseconds.
    sent: BTreeMap<Did, i64>,
}

impl Monitoring {
    fn start(federation: &Federation) -> Result<Self> {
        let mut broker = Stomp::connect(federation.broker.port(), &[])?;
        broker.subscribe(EVENTS, &[])?;
        Ok(Self {
            broker,
            sent: BTreeMap::new(),
        })
    }

    /// Takes what has come.
    fn listen(&mut self) -> Result<()> {
        while let Some(message) = self.broker.receive(Duration::from_millis(200))? {
            let event: Value = serde_json::from_slice(&message.body)?;
            if event["event_type"] == "transfer-done" {
                let text = |name: &str| event["payload"][name].as_str().unwrap_or_default().to_owned();
                let at = message
                    .header("timestamp")
                    .context("a message without its time")?;
                self.sent
                    .insert(Did::new(text("scope"), text("name")), at.parse()?);
            }
        }
        Ok(())
    }

    /// From a `transfer-done` at the hub's broker to its outcome in the ledger of the other site.
    fn latency(&self, federation: &Federation) -> Result<String> {
        let (mut ledger, mut taken) = (federation.site.ledger()?, Vec::new());
        for (did, sent) in &self.sent {
            let stories = ledger.explain(&Selector::Did(did.clone()))?;
            let (row, _) = stories
                .first()
                .and_then(|story| story.events.first())
                .context("no outcome")?;
            taken.push(row.updated_at.0 / 1000 - sent);
        }
        taken.sort_unstable();
        let at = |part: usize| taken[(taken.len() * part / 100).min(taken.len() - 1)];
        Ok(format!(
            "{} files, {SMALL} at a time: from the hub's broker to the Butler of the other site p50 {} ms, p99 {} ms",
            taken.len(),
            at(50),
            at(99)
        ))
    }
}
