//! Embargo: files that must not be at a partner's RSE yet.
//!
//! ```text
//!   a file that landed, its labels --> one of these files? at a partner? before its time? --> held, with a sentence
//! ```
//!
//! The file is there already, and somebody has to know; what is held is its metadata. The age is that at which it landed,
//! so that nothing is let go by time alone. Where an age cannot be known the file is held.

use crate::views::placement::Pattern;
use dbb_events::{Labels, Micros, Outgoing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The hour of the day at which a day of observation begins, UTC.
const BEGINS_AT_HOUR: i64 = 12;

/// Files that must not be at a partner's RSE before they have a certain age. When one lands there all the same its event
/// is held in the ledger, and published only after `dbb hub release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embargo {
    /// Its name in the log.
    pub name: String,
    /// The scopes of its files, as a pattern; all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub scope: Option<Pattern>,
    /// The names of its files, as a pattern; all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub files: Option<Pattern>,
    /// Only files with all these labels in Rucio, of these values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The RSEs where they must not be, as patterns.
    #[schemars(with = "Vec<String>")]
    pub partners: Vec<Pattern>,
    /// How long after the end of the day of observation (`day_obs`, which ends at 12:00 UTC), in hours. Without it: for ever.
    #[serde(default)]
    pub hours: Option<u32>,
}

impl Embargo {
    /// Why the event of this file is held; `None` where it is not.
    pub fn holds(&self, landed: &Outgoing, labels: &Labels) -> Option<String> {
        let fits = |pattern: &Option<Pattern>, word: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(word))
        };
        let is_one = self
            .partners
            .iter()
            .any(|partner| partner.matches(landed.rse.as_str()))
            && fits(&self.scope, &landed.did.scope)
            && fits(&self.files, &landed.did.name)
            && self.labels.iter().all(|(name, value)| {
                labels
                    .get(name.as_str())
                    .is_some_and(|found| text(found) == *value)
            });
        if !is_one {
            return None;
        }
        let held = |why: String| {
            Some(format!(
                "landed at `{}` under embargo `{}`: {why}; an operator has to release it",
                landed.rse, self.name
            ))
        };
        let Some(hours) = self.hours else {
            return held("it has no end".into());
        };
        let Some(day) = day_obs(labels) else {
            return held("it has no day_obs that could be read".into());
        };
        let Some(begin) = Micros::parse(&format!(
            "{}-{:02}-{:02} 00:00:00",
            day / 10_000,
            day / 100 % 100,
            day % 100
        )) else {
            return held(format!("its day_obs `{day}` is no day"));
        };
        let end = begin.plus_seconds((24 + BEGINS_AT_HOUR + i64::from(hours)) * 3600);
        let at = landed.landed_at.unwrap_or(landed.created_at);
        (at < end)
            .then(|| held(format!("it is of day_obs {day}, free from {end} on")))
            .flatten()
    }
}

/// The day of observation, `20260401`: the label of that name, or what the sidecar's data id has.
fn day_obs(labels: &Labels) -> Option<u32> {
    let day = |value: &Value| text(value).parse::<u32>().ok();
    if let Some(label) = labels.get("day_obs") {
        return day(label);
    }
    let sidecar: Value = serde_json::from_str(labels.get("rubin_sidecar")?.as_str()?).ok()?;
    let data_id = sidecar.get("dataId")?;
    let data_id = data_id.get("dataId").unwrap_or(data_id);
    day(data_id.get("day_obs")?)
}

/// A value as one would write it in a configuration.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
