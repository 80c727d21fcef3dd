//! The threads and processes of a replay.

use super::ReplayOptions;
use crate::cluster::{ClusterError, ClusterSettings, Joining, Members, join};
use std::{collections::BTreeMap, sync::Arc};

/// Meets the other processes, where there are any.
///
/// # Errors
///
/// [`ClusterError`]: they do not come, or are asked for something else.
pub(super) fn joined(options: &ReplayOptions) -> Result<Option<Arc<Members>>, ClusterError> {
    let Some(hosts) = options.hosts.as_ref().filter(|hosts| hosts.processes() > 1) else {
        return Ok(None);
    };
    let joining = Joining {
        hosts,
        workers: options.workers,
        settings: &ClusterSettings::default(),
        token: options.token.clone(),
        same: same(options),
    };
    let members = join(joining, |missing| {
        tracing::info!("waiting for the others: {missing}")
    })?;
    Ok(Some(members))
}

/// What must be asked of all; files may be elsewhere on each host.
fn same(options: &ReplayOptions) -> BTreeMap<String, String> {
    let archive = options.archive.as_ref();
    let archive = archive.map(|archive| (archive.rows, archive.format));
    [
        ("--view", format!("{:?}", options.views)),
        ("--policies", format!("{:?}", options.policies)),
        ("--archive", format!("{archive:?}")),
        ("--until", format!("{:?}", options.until)),
        ("--clock-skew-ms", options.clock_skew_ms.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
