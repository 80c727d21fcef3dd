//! Import: the ledger learns of files that were registered before it was kept.

use super::{
    compare::{read_lines, write_line},
    known::Finder,
    listing::{self, Rows},
};
use crate::config::Config;
use anyhow::Context;
use dbb_events::{Did, Micros};
use dbb_operators::mapping::Mapping;
use dbb_sinks::{
    butler,
    ledger::{Ledger, Seed},
    sheet::{Replica, Sheet},
};
use std::path::Path;

/// Files in one transaction of the ledger.
const AT_ONCE: usize = 1000;
/// A listing trails the events by up to a minute: what is younger is left to them.
const LAG_S: i64 = 60;

/// What came of an import into one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The repository.
    pub repository: String,
    /// Files in Rucio and in the Butler.
    pub matched: u64,
    /// Of these, those that are new to the ledger.
    pub new: u64,
    /// Files that can be read at an RSE and are not in the Butler.
    pub in_rucio_only: u64,
    /// Files in the Butler that are not listed.
    pub in_butler_only: u64,
    /// Datasets in the Butler.
    pub datasets: u64,
}

/// Joins the listing at `path` with each repository of `config`, or with `only` this one, and makes what is in both known
/// to `ledger`.
///
/// # Errors
///
/// The listing cannot be read, a Butler or the ledger does not answer. What was written until then is right, and the
/// same import can be made again.
pub fn import(
    config: &Config,
    mapping: &Mapping,
    ledger: &mut Ledger,
    path: &Path,
    only: Option<&str>,
    now: Micros,
) -> anyhow::Result<(Rows, Vec<Imported>)> {
    let mut sheet = Sheet::new()?;
    let rows = listing::read(path, None, mapping, &mut sheet)?;
    let version = rows.at.plus_seconds(-LAG_S);
    let mut all = Vec::new();
    for (name, settings) in &config.repositories {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        sheet.forget_stored()?;
        let mut done = Imported {
            repository: name.clone(),
            ..Imported::default()
        };
        done.datasets = butler::scan::<anyhow::Error>(settings, &mut |uri, uuid| Ok(sheet.store(uri, uuid)?))
            .with_context(|| format!("repository `{name}`"))?;
        let is_meant = |rse: &str, scope: &str| {
            mapping
                .route(rse, scope)
                .is_some_and(|route| route.targets().iter().any(|target| **target == **name))
        };
        let mut batch: Vec<Seed> = Vec::with_capacity(AT_ONCE);
        let (mut matched, mut new) = (0, 0);
        sheet.matched::<anyhow::Error>(&mut |replica, uri, uuids| {
            if !is_meant(replica.rse.as_str(), &replica.did.scope) {
                return Ok(());
            }
            matched += 1;
            batch.push(Seed {
                did: replica.did,
                rse: replica.rse,
                version,
                uri,
                uuids,
            });
            if batch.len() >= AT_ONCE {
                new += ledger.seed(name, &batch, now)?;
                batch.clear();
            }
            Ok(())
        })?;
        new += ledger.seed(name, &batch, now)?;
        // Put aside, because the sheet cannot be asked and written at once.
        let mut missing = tempfile::spooled_tempfile(8 << 20);
        sheet.missing::<anyhow::Error>(&mut |replica| match is_meant(
            replica.rse.as_str(),
            &replica.did.scope,
        ) {
            true => write_line(&mut missing, &replica),
            false => Ok(()),
        })?;
        let mut finder = Finder::new(mapping, settings);
        let mut lines = read_lines::<Replica>(missing)?;
        loop {
            let replicas: Vec<Replica> = lines.by_ref().take(AT_ONCE).collect::<Result<_, _>>()?;
            if replicas.is_empty() {
                break;
            }
            let dids: Vec<Did> = replicas.iter().map(|replica| replica.did.clone()).collect();
            let applied = ledger.applied(name, &dids)?;
            let found = finder.find(&replicas, &applied, &mut sheet)?;
            let mut batch = Vec::new();
            for (replica, found) in replicas.into_iter().zip(found) {
                let Some(known) = found else {
                    done.in_rucio_only += 1;
                    continue;
                };
                matched += 1;
                batch.push(Seed {
                    did: replica.did,
                    rse: replica.rse,
                    version,
                    uri: known.uri,
                    uuids: known.uuids,
                });
            }
            new += ledger.seed(name, &batch, now)?;
        }
        (done.matched, done.new) = (matched, new);
        sheet.unexpected::<anyhow::Error>(&mut |_, _| {
            done.in_butler_only += 1;
            Ok(())
        })?;
        all.push(done);
    }
    Ok((rows, all))
}
