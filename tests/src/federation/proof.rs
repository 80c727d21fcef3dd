//! What is awaited, and what is proved.

use super::{Federation, File, RSES, files::dids};
use crate::Run;
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::wait_until;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

impl Federation {
    /// Waits until the site has settled so many events in all.
    pub fn until_settled(&self, site: &mut Run, events: usize) -> Result<()> {
        let mut last = 0;
        let settled = || self.site.count(State::is_settled);
        site.until(&format!("{events} events are settled"), || {
            self.mirror.ensure_running()?;
            last = settled()?;
            Ok(last == events as u64)
        })
        .with_context(|| format!("{last} of {events} events are settled"))
    }

    /// How many files were registered so far.
    pub fn registered(&self) -> usize {
        self.registered
    }

    /// How many files that landed the hub has published so far.
    pub fn published(&self) -> Result<usize> {
        let ends = self
            .lanes()?
            .into_iter()
            .map(|(topic, partition)| self.usdf.end_offset(&topic, partition));
        Ok(ends.sum::<Result<i64>>()? as usize)
    }

    /// Lets the topics of landed files at USDF forget all their records, as they do when their retention is over.
    pub fn let_topics_forget(&self, limit: Duration) -> Result<()> {
        let lanes = self.lanes()?;
        for (topic, _) in &lanes {
            self.usdf
                .set_topic(topic, &[("retention.ms", "500"), ("segment.ms", "500")])?;
        }
        wait_until("the records are gone", limit, || {
            for (topic, partition) in &lanes {
                if self.usdf.first_offset(topic, *partition)? < self.usdf.end_offset(topic, *partition)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        // What is sent again is to stay.
        lanes
            .iter()
            .try_for_each(|(topic, _)| self.usdf.set_topic(topic, &[]))
    }

    /// An error unless the Butler has exactly the files that, as Rucio says, are at the site.
    pub fn ensure_same(&mut self) -> Result<usize> {
        let mut wanted = BTreeSet::new();
        for (rse, _) in RSES {
            let files: Vec<&File> = self.files[..self.registered]
                .iter()
                .filter(|file| file.rse == rse)
                .collect();
            let arguments = json!({"dids": dids(&files), "rse_expression": rse});
            let answer = self.rucio.client("list_replicas", arguments)?;
            let there: BTreeSet<(&str, &str)> = answer
                .as_array()
                .context("no list")?
                .iter()
                .filter(|replica| replica["states"][rse] == "AVAILABLE")
                .filter_map(|replica| Some((replica["scope"].as_str()?, replica["name"].as_str()?)))
                .collect();
            let files = files
                .iter()
                .filter(|file| there.contains(&(&file.scope, &file.name)));
            wanted.extend(files.flat_map(|file| file.uuids.clone()));
        }
        let answer: Value = serde_json::from_str(&self.site.script("ask", &["--sample", "0"])?)?;
        let mut held = BTreeSet::new();
        for dataset in answer["main"].as_array().context("the Butler says nothing")? {
            // What was unstored has its row, and no URI.
            if !dataset["uri"].is_null() {
                ensure!(dataset["exists"] == true, "its file is not there: {dataset}");
                held.insert(dataset["uuid"].as_str().context("no UUID")?.to_owned());
            }
        }
        let missing: Vec<_> = wanted.difference(&held).collect();
        let left: Vec<_> = held.difference(&wanted).collect();
        ensure!(
            missing.is_empty() && left.is_empty(),
            "the Butler lacks {missing:?} and still has {left:?}"
        );
        Ok(held.len())
    }

    /// The partitions of the topics of landed files.
    fn lanes(&self) -> Result<Vec<(String, i32)>> {
        let names = self
            .files
            .iter()
            .map(|file| format!("{}-{}", file.rse, file.scope));
        let mut lanes = Vec::new();
        for name in names.collect::<BTreeSet<_>>() {
            lanes.extend((0..self.usdf.partitions(&name)?).map(|partition| (name.clone(), partition)));
        }
        Ok(lanes)
    }
}
