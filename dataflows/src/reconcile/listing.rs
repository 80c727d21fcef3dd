//! A listing of replicas in a file: the forms that `dbb replay --listing` takes, plain or packed.

use anyhow::{Context, bail};
use dbb_events::{
    Did, Micros, ReplicaState, Rse,
    listing::{Listed, ListingRow, decode_listing},
};
use dbb_operators::mapping::{Mapping, Route};
use dbb_sinks::sheet::{Replica, Sheet};
use dbb_sources::{
    SourceError,
    replay::{End, Input, Kind, Queue, Reader},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// What was read of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// When it was made.
    pub at: Micros,
    /// Replicas; one that is named twice is one.
    pub replicas: u64,
    /// Replicas that no route leads to a repository.
    pub unrouted: u64,
    /// Rows that cannot be read.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Option<String>,
}

/// What answers of Rucio's REST interface have beside the states.
#[derive(Deserialize)]
struct Urls {
    #[serde(default)]
    rses: BTreeMap<String, Vec<String>>,
}

/// Reads all replicas in the file at `path`, those at `rse` if one is named, into `sheet`.
///
/// # Errors
///
/// The file cannot be read to its end, or has replicas before it says when it was made.
pub fn read(path: &Path, rse: Option<&str>, mapping: &Mapping, sheet: &mut Sheet) -> anyhow::Result<Rows> {
    let input = Input {
        path: path.to_owned(),
        kind: Kind::Listing { at: None },
    };
    let mut reader = Reader::new(Queue::open(&[input], 0, 1)?);
    let mut rows = Rows::default();
    let mut at = None;
    let mut buffer = Vec::new();
    loop {
        let block = match reader.next_block(&mut buffer) {
            Err(error @ SourceError::Odd { .. }) => {
                tracing::warn!(%error, "a listing is odd");
                continue;
            }
            block => block?,
        };
        let Some(block) = block else { break };
        if block.end == Some(End::Cut) {
            bail!("`{}` is damaged: not all of it could be read", path.display());
        }
        for line in block.lines(&buffer) {
            match decode_listing(line.bytes) {
                Ok(ListingRow::Snapshot(header)) => at = Some(header.at),
                Ok(ListingRow::ListedAt(listed)) => at = Some(listed),
                Ok(ListingRow::ContentsOf { .. }) => {
                    bail!(
                        "`{}` lists the contents of a Rucio dataset, not replicas",
                        path.display()
                    )
                }
                Ok(ListingRow::File(file)) => {
                    rows.at = at.with_context(|| {
                        format!("`{}` does not say when it was made: it must begin with a line {{\"listed_at\": ...}}", path.display())
                    })?;
                    let mut all: Vec<(&str, ReplicaState)> = Vec::new();
                    match &file.listed {
                        Listed::Replica(rse, state) => all.push((rse, *state)),
                        Listed::All(replicas) => {
                            all.extend(replicas.iter().map(|(rse, state)| (&**rse, *state)))
                        }
                        Listed::Member => {}
                    }
                    let urls = match file.listed {
                        Listed::All(_) => serde_json::from_slice::<Urls>(line.bytes).ok(),
                        _ => None,
                    };
                    for (at, state) in all {
                        if rse.is_some_and(|rse| rse != at) {
                            continue;
                        }
                        let replica = Replica {
                            did: Did::new(&*file.scope, &*file.name),
                            rse: Rse::new(at),
                            is_available: state == ReplicaState::Available,
                            bytes: file.bytes,
                            adler32: file.adler32.map(|adler32| format!("{adler32:08x}")),
                            url: None,
                        };
                        let urls = urls.as_ref().and_then(|urls| urls.rses.get(at));
                        let urls = urls.map_or(&[][..], Vec::as_slice);
                        add(replica, urls, mapping, sheet, &mut rows)?;
                    }
                }
                Err(error) => {
                    rows.bad += 1;
                    rows.first_bad.get_or_insert_with(|| {
                        format!("{}, line at byte {}: {error}", path.display(), line.offset)
                    });
                }
            }
        }
    }
    rows.at = at.unwrap_or_default();
    Ok(rows)
}

/// Puts a replica on the sheet, at the URIs that a Butler may know it by.
pub(super) fn add(
    mut replica: Replica,
    urls: &[String],
    mapping: &Mapping,
    sheet: &mut Sheet,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    let Some(route) = mapping.route(replica.rse.as_str(), &replica.did.scope) else {
        rows.replicas += 1;
        rows.unrouted += 1;
        return Ok(());
    };
    let mut places = mapped(route, urls);
    if places.is_empty() {
        places = route.places(&replica.did.scope, &replica.did.name);
    }
    replica.url = urls.iter().find(|url| route.rewrite(url).is_ok()).cloned();
    rows.replicas += u64::from(sheet.list(&replica, &places)?);
    Ok(())
}

fn mapped(route: &Route, urls: &[String]) -> Vec<String> {
    urls.iter().filter_map(|url| route.rewrite(url).ok()).collect()
}
