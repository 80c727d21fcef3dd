//! A captured night: its events in received order, its journal, and the table at its end.

use anyhow::{Context, Result};
use dbb_events::Micros;
use dbb_test_services::root;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::{collections::BTreeMap, fs::File, io::Read};

/// All nights there are.
pub(crate) const NIGHTS: [&str; 3] = ["a", "b", "c"];

/// Scope, name and RSE.
pub(crate) type Key = (String, String, String);

/// A captured night.
pub(crate) struct Night {
    pub(crate) events: Vec<String>,
    pub(crate) journal: Vec<String>,
    /// The lines of the snapshot, its header first.
    pub(crate) snapshot: Vec<String>,
}

impl Night {
    pub(crate) fn read(name: &str) -> Result<Self> {
        Ok(Self {
            events: lines(&format!("night-{name}-events"))?,
            journal: lines(&format!("night-{name}-replica-journal"))?,
            snapshot: lines(&format!("night-{name}-snapshot-end"))?,
        })
    }

    /// The journal's inserts of AVAILABLE replicas: what is registered directly, and no event tells.
    pub(crate) fn registrations(&self) -> Vec<String> {
        let registers = |line: &&String| {
            let row: Value = serde_json::from_str(line).unwrap_or_default();
            row["op"] == "I" && row["new_state"] == "A"
        };
        self.journal.iter().filter(registers).cloned().collect()
    }

    /// The truth: each replica's row in the table at the end.
    pub(crate) fn truth(&self) -> Result<BTreeMap<Key, Value>> {
        self.snapshot
            .iter()
            .skip(1)
            .map(|line| {
                let row: Value = serde_json::from_str(line)?;
                Ok((key(&row), row))
            })
            .collect()
    }

    /// When the journal begins and ends.
    pub(crate) fn span(&self) -> Result<(Micros, Micros)> {
        let at = |line: Option<&String>| {
            let row: Value = serde_json::from_str(line?).ok()?;
            Micros::parse(row["at"].as_str()?)
        };
        let ends = at(self.journal.first()).zip(at(self.journal.last()));
        ends.context("the journal has no times")
    }
}

/// Which replica a row is of.
pub(crate) fn key(row: &Value) -> Key {
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    (text("scope"), text("name"), text("rse"))
}

fn lines(name: &str) -> Result<Vec<String>> {
    let path = root().join(format!("tests/data/rucio-events/{name}.ndjson.gz"));
    let file = File::open(&path).with_context(|| format!("could not open {}", path.display()))?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text)?;
    Ok(text.lines().map(str::to_owned).collect())
}
