//! Files that are deleted, and come back, while everything is killed: the Butler has what is there, and no file is touched.

use crate::site;
use anyhow::{Context, Result, ensure};
use dbb_test_services::{Kafka, python};
use dbb_tests::{
    Dice, Recorded, Run, Site,
    recording::{Publisher, create_topics},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    thread,
    time::Duration,
};

#[test]
fn what_is_deleted_leaves_the_butler_and_what_comes_back_returns_whatever_the_order_and_kills() -> Result<()>
{
    let mut dice = Dice::new("removals");
    let kafka = Kafka::start()?;
    let brokers = kafka.bootstrap();
    let mut site = site(&format!(
        "--files 60 --faults none --max-datasets 10 --site REM --kafka {brokers} --group-id rem"
    ))?;
    site.set("repositories.main.removal=unstore");
    site.set("repositories.main.patience.retry_s=1");
    let landings = Recorded::of(&site)?;
    // Of each file a story: it lands; half are deleted later; of those half come back later still.
    let (mut records, mut is_there) = (landings.clone(), BTreeMap::new());
    for (at, landing) in landings
        .iter()
        .filter(|landing| landing.is_for_a_butler())
        .enumerate()
    {
        let event: Value = serde_json::from_slice(&landing.value)?;
        let payload = &event["payload"];
        if payload["rubin_butler"] == "dim_file" {
            continue;
        }
        let did = landing.did().context("a landing without a file")?;
        // The recording repeats some.
        if is_there.contains_key(&did) {
            continue;
        }
        is_there.insert(did, (payload["dst-url"].clone(), at % 4 != 1));
        if at % 2 == 0 {
            continue;
        }
        let (rse, scope) = (&payload["dst-rse"], &payload["scope"]);
        let topic = format!(
            "{}-{}-deletions",
            rse.as_str().unwrap_or(""),
            scope.as_str().unwrap_or("")
        );
        // Some name no URL, or another door.
        let url = [
            payload["dst-url"].clone(),
            Value::Null,
            json!("srm://other.door/x"),
        ][at % 3]
            .clone();
        let gone = json!({
            "event_type": if at % 5 == 0 { "deletion-not-found" } else { "deletion-done" },
            "created_at": "2027-03-01 00:00:00.000001",
            "payload": {"scope": scope, "name": payload["name"], "rse": rse, "url": url, "bytes": payload["bytes"],
                        "duration": 0.1, "protocol": "davs", "reason": ""},
        });
        records.push(Recorded {
            topic,
            value: gone.to_string().into_bytes(),
        });
        if at % 4 == 3 {
            let mut again = event.clone();
            again["created_at"] = "2027-03-02 00:00:00.000001".into();
            again["payload"]["request-id"] = format!("{at:032x}").into();
            records.push(Recorded {
                topic: landing.topic.clone(),
                value: again.to_string().into_bytes(),
            });
        }
    }
    let deletions = records
        .iter()
        .filter(|record| record.topic.ends_with("-deletions"))
        .count();
    ensure!(deletions > 15, "only {deletions} deletions");
    for at in (1..records.len()).rev() {
        records.swap(at, dice.below(at as u64 + 1) as usize);
    }
    create_topics(&kafka, &records, 2, &mut BTreeSet::new())?;
    let mut publisher = Publisher::new(&kafka, 2)?;

    let rounds = 6;
    for round in 0..rounds {
        let upto = |round: usize| records.len() * round / rounds;
        publisher.send(&records[upto(round)..upto(round + 1)])?;
        let run = site.start(&[])?;
        thread::sleep(Duration::from_millis(2000 + dice.below(6000)));
        match dice.one_of(&run.workers()) {
            Some(worker) if round % 2 == 1 => {
                Command::new("kill")
                    .args(["-KILL", &worker.to_string()])
                    .output()?;
                thread::sleep(Duration::from_millis(500));
                Run::kill(run)?;
            }
            _ => Run::kill(run)?,
        }
    }
    publisher.flush()?;
    for _ in 0..3 {
        site.run_once(&[])?;
    }
    let waiting = site.count(|state| matches!(state.as_str(), "waiting"))?;
    ensure!(waiting == 0, "{waiting} events wait");
    ensure!(
        site.count(|state| state.as_str() == "refused")? == 0,
        "dead letters"
    );
    let removals = ["removed", "not_there", "superseded"];
    ensure!(site.count(|state| removals.contains(&state.as_str()))? >= deletions as u64);
    let stored = stored(&site)?;
    for (did, (url, is_there)) in is_there {
        let name = url
            .as_str()
            .and_then(|url| url.rsplit('/').next())
            .context("no URL")?;
        let found = stored.iter().any(|uri| uri.contains(name));
        ensure!(
            found == is_there,
            "{did} is {}stored",
            if found { "" } else { "not " }
        );
    }
    Ok(())
}

/// The URIs of all datasets that the Butler can find.
pub(crate) fn stored(site: &Site) -> Result<Vec<String>> {
    let script = "
import json, sys
from lsst.daf.butler import Butler
b = Butler.from_config(sys.argv[1])
refs = [r for t in b.registry.queryDatasetTypes('*') for r in b.registry.queryDatasets(t, collections=...)]
uris = b.get_many_uris(refs, allow_missing=True)
assert all(u.primaryURI.exists() for u in uris.values())
print(json.dumps([str(u.primaryURI) for u in uris.values()]))
";
    let config = std::fs::read_to_string(site.config())?;
    let butler = config
        .split("\"butler\": \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let output = Command::new(python()?)
        .args(["-c", script, butler.context("no repository")?])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
