//! Known: what a Butler has of a listed replica although no dataset is at a URI of it.
//!
//! ```text
//!   replica --> its datasets, by the ledger --\
//!          \--> by the index of the zip -------> are all of them in one file, elsewhere? --> it is there
//! ```
//!
//! A repository that copies files has them under names of its own, and only UUIDs tell whose they are. A dataset whose
//! file is below the RSE's own prefixes is no copy: the Butler believes in a place that nobody lists.

use anyhow::Context;
use dbb_events::Did;
use dbb_operators::mapping::{Mapping, Route};
use dbb_sinks::{
    butler::{Applied, ButlerSettings, TransferMode, Zips},
    sheet::{Replica, Sheet},
};
use std::collections::HashMap;
use uuid::Uuid;

/// Where the Butler has a replica, and as which datasets.
pub(super) struct Known {
    /// The URI of the file that holds them.
    pub(super) uri: String,
    /// The datasets.
    pub(super) uuids: Vec<Uuid>,
}

/// Finds replicas of one repository.
pub(super) struct Finder<'a> {
    mapping: &'a Mapping,
    settings: &'a ButlerSettings,
    zips: Zips<'a>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(mapping: &'a Mapping, settings: &'a ButlerSettings) -> Self {
        Self {
            mapping,
            settings,
            zips: Zips::of(settings),
        }
    }

    /// True where the repository may have a file under a name that nothing but its UUIDs tells.
    pub(super) fn copies(&self) -> bool {
        let transfer = &self.settings.transfer;
        [transfer.data_product, transfer.raw_file]
            .iter()
            .any(|mode| *mode != TransferMode::Direct)
    }

    /// What the Butler has of each of these; `applied` is what the ledger knows of their files. What is found is
    /// accounted for on the sheet.
    pub(super) fn find(
        &mut self,
        replicas: &[Replica],
        applied: &HashMap<Did, Applied>,
        sheet: &mut Sheet,
    ) -> anyhow::Result<Vec<Option<Known>>> {
        let mut found = Vec::with_capacity(replicas.len());
        for replica in replicas {
            let uuids = applied
                .get(&replica.did)
                .filter(|applied| applied.state.is_registered())
                .map(|applied| applied.uuids.to_vec());
            found.push(self.at(replica, uuids.unwrap_or_default(), sheet)?);
        }
        let (mut zips, mut uris) = (Vec::new(), Vec::new());
        if self.settings.transfer.zip_file != TransferMode::Direct {
            for (position, replica) in replicas.iter().enumerate() {
                if found[position].is_none()
                    && replica.did.name.ends_with(".zip")
                    && let Some(uri) = self.uri(replica)
                {
                    zips.push(position);
                    uris.push(uri);
                }
            }
        }
        if !uris.is_empty() {
            let members = self.zips.members(&uris).context("the indexes of zips")?;
            for (position, uuids) in zips.into_iter().zip(members) {
                found[position] = self.at(&replicas[position], uuids, sheet)?;
            }
        }
        Ok(found)
    }

    /// The file that has all of `uuids`, if it may be a copy of this replica's.
    pub(super) fn at(
        &self,
        replica: &Replica,
        uuids: Vec<Uuid>,
        sheet: &mut Sheet,
    ) -> anyhow::Result<Option<Known>> {
        let Some(uri) = sheet.file_of(&uuids)? else {
            return Ok(None);
        };
        if self.route(replica).is_some_and(|route| route.leads_to(&uri)) {
            return Ok(None);
        }
        sheet.account(&uuids)?;
        Ok(Some(Known { uri, uuids }))
    }

    fn route(&self, replica: &Replica) -> Option<&'a Route> {
        self.mapping.route(replica.rse.as_str(), &replica.did.scope)
    }

    /// Where the file itself is, as far as it is told.
    fn uri(&self, replica: &Replica) -> Option<String> {
        let route = self.route(replica)?;
        let mapped = replica.url.as_deref().and_then(|url| route.rewrite(url).ok());
        mapped.or_else(|| {
            route
                .places(&replica.did.scope, &replica.did.name)
                .into_iter()
                .next()
        })
    }
}
