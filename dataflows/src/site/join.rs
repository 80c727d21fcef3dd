//! Joining: what the processes of one site must have in common, and what of it each has alone.

use crate::{
    cluster::{ClusterError, Hosts, Joining, Members, join},
    config::Config,
};
use anyhow::Context;
use dbb_serving::Health;
use std::{collections::BTreeMap, sync::Arc};

/// Sections in which processes may differ: what is theirs alone, and how long they wait.
const OWN: [&str; 7] = ["cluster", "http", "instance", "log", "shutdown", "sql", "workers"];

/// The condition of a process that waits for others.
const CLUSTER: &str = "cluster";

/// Refuses what several processes cannot share.
///
/// # Errors
///
/// [`ClusterError::Unsuitable`].
pub(super) fn suits(config: &Config) -> Result<(), ClusterError> {
    let unsuitable = |message: &str, hint: &str| {
        Err(ClusterError::Unsuitable {
            message: message.into(),
            hint: hint.into(),
        })
    };
    if config.ledger.sqlite_path().is_some() {
        return unsuitable(
            "several processes cannot share a ledger in SQLite",
            "write `ledger: {url: \"postgresql://USER@HOST/DATABASE\"}`",
        );
    }
    if config.cluster.token.is_none() {
        return unsuitable(
            "`cluster.token` is missing: processes could not tell whether they belong together",
            "write `cluster: {token: {file: /etc/dbb/cluster-token}}`, the same text for all processes",
        );
    }
    Ok(())
}

/// Meets the other processes; meanwhile this one is not ready.
///
/// # Errors
///
/// The token cannot be read; [`ClusterError`].
pub(super) fn joined(config: &Config, hosts: &Hosts, health: &Health) -> anyhow::Result<Arc<Members>> {
    let joining = Joining {
        hosts,
        workers: config.workers,
        settings: &config.cluster,
        token: token(config)?,
        same: same(config)?,
    };
    let members = join(joining, |missing| {
        tracing::info!("waiting for the cluster: {missing}");
        health.fail(CLUSTER, missing);
    })?;
    health.clear(CLUSTER);
    Ok(members)
}

/// What proves that a process belongs to the cluster.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn token(config: &Config) -> anyhow::Result<Vec<u8>> {
    let token = config.cluster.token.as_ref();
    let token = token.map(|place| place.read("the cluster's token")).transpose()?;
    Ok(token.map(|token| token.expose().into()).unwrap_or_default())
}

/// The sections of the configuration that must be the same for all, as text.
fn same(config: &Config) -> anyhow::Result<BTreeMap<String, String>> {
    let sections = serde_json::to_value(config).context("in the configuration")?;
    let sections = sections.as_object().into_iter().flatten();
    Ok(sections
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .map(|(name, section)| (name.clone(), section.to_string()))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_must_be_the_same_is_all_but_what_is_a_processs_own() {
        let one = Config::default();
        let mut other = one.clone();
        other.http.listen = Some("0.0.0.0:1".into());
        other.cluster.listen = Some("0.0.0.0:2".into());
        assert_eq!(same(&one).unwrap(), same(&other).unwrap());
        other.identify.remember_seconds += 1;
        let (one, other) = (same(&one).unwrap(), same(&other).unwrap());
        let differ: Vec<_> = one.keys().filter(|name| one[*name] != other[*name]).collect();
        assert_eq!(differ, ["identify"]);
    }

    #[test]
    fn a_ledger_in_a_file_is_refused_and_so_is_a_cluster_without_a_token() {
        let mut config = Config::default();
        assert!(suits(&config).unwrap_err().to_string().contains("SQLite"));
        config.ledger.url = "postgresql://dbb@db/dbb".into();
        assert!(suits(&config).unwrap_err().to_string().contains("cluster.token"));
    }
}
