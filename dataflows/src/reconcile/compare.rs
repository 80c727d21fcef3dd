//! Compare: what is missing in a site's Butlers, what is there and should not be, and what cannot be told.

use super::{
    known::Finder,
    listing::{self, Rows},
    resend,
};
use crate::config::Config;
use anyhow::{Context, bail};
use dbb_events::{Ask, Did, Entry, Found, Micros, ReplicaState, Rse};
use dbb_operators::mapping::{Mapping, Selector};
use dbb_sinks::{
    butler,
    ledger::{Ledger, State},
    lookup::{
        LookUps,
        rucio::{DidType, ListedReplicas, Rucio},
    },
    sheet::{Replica, Sheet},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// Files looked up together, and rows in one transaction of the ledger.
const AT_ONCE: usize = 500;

/// What is to be compared, and with what.
pub struct Task<'a> {
    /// The configuration of the site.
    pub config: &'a Config,
    /// Its routes.
    pub mapping: &'a Mapping,
    /// The RSE.
    pub rse: &'a str,
    /// One Rucio dataset alone, or a container.
    pub dataset: Option<Did>,
    /// A listing of replicas, instead of Rucio.
    pub listing: Option<&'a Path>,
    /// Who tells of replicas and labels.
    pub lookups: Option<LookUps>,
    /// Whether anything is sent again.
    pub dry_run: bool,
    /// The time now.
    pub now: Micros,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The repository.
    pub repository: Arc<str>,
    /// `missing`, `waiting`, `refused`, `no_metadata`, `unknown_metadata`, `same_uuid` or `unexpected`.
    pub what: &'static str,
    /// The file, `SCOPE:NAME`, or its URI in the Butler.
    pub file: String,
    /// One sentence, where there is more to say.
    pub detail: Option<String>,
}

/// The sums of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Datasets in the Butler.
    pub datasets: u64,
    /// Replicas that are in the Butler.
    pub there: u64,
    /// Files that can be read at the RSE and are not in the Butler, and that nothing is being done about.
    pub missing: u64,
    /// Of these, those that were sent again.
    pub sent: u64,
    /// Files that wait in the ledger.
    pub waiting: u64,
    /// Dead letters.
    pub refused: u64,
    /// Files that Rucio has no Butler metadata of.
    pub no_metadata: u64,
    /// Files whose metadata could not be told: missing, too.
    pub unknown_metadata: u64,
    /// Files whose dataset is in another file.
    pub same_uuid: u64,
    /// Files in the Butler, below the prefixes of the RSE, that are not listed; not told for one Rucio dataset.
    pub unexpected: u64,
}

impl Counts {
    /// True when a file that should be there is not.
    pub fn is_lacking(&self) -> bool {
        self.missing + self.waiting + self.refused + self.unknown_metadata + self.same_uuid > 0
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The listing.
    pub rows: Rows,
    /// By repository.
    pub repositories: Vec<(Arc<str>, Counts)>,
    /// Requests that Rucio was asked.
    pub requests: u64,
}

/// Does it; `each` is told of each finding. `ledger` gets what is sent again.
///
/// # Errors
///
/// Rucio, a Butler or the ledger does not answer, or the listing cannot be read. Nothing has been sent then, or the first
/// of what was to be sent: the same can be done again.
pub fn compare(
    mut task: Task<'_>,
    ledger: &mut Ledger,
    each: &mut dyn FnMut(Finding) -> anyhow::Result<()>,
) -> anyhow::Result<Comparison> {
    let mut sheet = Sheet::new()?;
    let mut done = Comparison::default();
    let rucio = task.lookups.as_ref().and_then(|lookups| lookups.rucio.clone());
    done.rows = match (task.listing, &rucio) {
        (Some(path), _) => listing::read(path, Some(task.rse), task.mapping, &mut sheet)?,
        (None, Some(rucio)) => ask(&task, rucio, &mut sheet)?,
        (None, None) => bail!("neither a listing nor Rucio tells which replicas there are"),
    };
    let targets: BTreeSet<Arc<str>> = task
        .mapping
        .routes()
        .iter()
        .filter(|route| leads_from(route.selector(), task.rse))
        .flat_map(|route| route.targets().iter().cloned())
        .collect();
    let mut number = 0;
    for target in targets {
        let counts = repository(
            &mut task,
            &target,
            &mut sheet,
            ledger,
            done.rows.at,
            &mut number,
            each,
        )
        .with_context(|| format!("repository `{target}`"))?;
        done.repositories.push((target, counts));
    }
    done.requests = task
        .lookups
        .as_ref()
        .map_or(0, |lookups| lookups.stats.snapshot().requests);
    Ok(done)
}

fn leads_from(selector: &Selector, rse: &str) -> bool {
    match selector {
        Selector::Replica { rse: of, .. } => **of == *rse,
        Selector::RseScope(word) => word
            .strip_prefix(rse)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
    }
}

/// Replicas at the RSE as Rucio has them now.
fn ask(task: &Task<'_>, rucio: &Rucio, sheet: &mut Sheet) -> anyhow::Result<Rows> {
    let mut rows = Rows {
        at: task.now,
        ..Rows::default()
    };
    let mut dids = Vec::new();
    let mut scopes = BTreeSet::new();
    match &task.dataset {
        Some(dataset) => dids.push(dataset.clone()),
        None => {
            for route in task.mapping.routes() {
                match route.selector() {
                    Selector::Replica { rse, scope } if **rse == *task.rse => match scope {
                        Some(scope) => drop(scopes.insert(Arc::clone(scope))),
                        // Rucio lists by scope alone.
                        None => scopes.extend(rucio.scopes()?.into_iter().map(Arc::from)),
                    },
                    Selector::RseScope(word) => scopes.extend(
                        word.strip_prefix(task.rse)
                            .and_then(|rest| rest.strip_prefix('-'))
                            .map(Arc::from),
                    ),
                    Selector::Replica { .. } => {}
                }
            }
        }
    }
    let mut problem = None;
    let mut add = |listed: ListedReplicas, sheet: &mut Sheet| {
        for (rse, replica) in listed.at {
            if rse.as_str() != task.rse || problem.is_some() {
                continue;
            }
            let row = Replica {
                did: listed.did.clone(),
                rse: Rse::new(task.rse),
                is_available: replica.state == ReplicaState::Available,
                bytes: listed.bytes,
                adler32: listed.adler32.clone(),
                url: None,
            };
            problem = listing::add(row, &replica.urls, task.mapping, sheet, &mut rows).err();
        }
    };
    let mut bad = (0, None);
    let mut note = |listing: dbb_sinks::lookup::rucio::Listing| {
        bad.0 += listing.bad;
        bad.1 = bad.1.take().or(listing.first_bad);
    };
    if !dids.is_empty() {
        note(rucio.replicas(&dids, Some(task.rse), &mut |listed| add(listed, sheet))?);
    }
    for scope in scopes {
        // Names are put aside on disk first: a list that waits for its reader would break off.
        let mut names = tempfile::spooled_tempfile(8 << 20);
        let mut written = Ok(());
        note(rucio.dids(&scope, DidType::File, "*", &mut |did| {
            if written.is_ok() {
                written = write_line(&mut names, &did);
            }
        })?);
        written?;
        let mut names = read_lines::<Did>(names)?;
        loop {
            let some: Vec<Did> = names.by_ref().take(1000).collect::<Result<_, _>>()?;
            if some.is_empty() {
                break;
            }
            note(rucio.replicas(&some, Some(task.rse), &mut |listed| add(listed, sheet))?);
        }
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    (rows.bad, rows.first_bad) = bad;
    Ok(rows)
}

fn repository(
    task: &mut Task<'_>,
    target: &Arc<str>,
    sheet: &mut Sheet,
    ledger: &mut Ledger,
    at: Micros,
    number: &mut u64,
    each: &mut dyn FnMut(Finding) -> anyhow::Result<()>,
) -> anyhow::Result<Counts> {
    let mapping = task.mapping;
    let mut counts = Counts::default();
    let settings = task
        .config
        .repositories
        .get(&**target)
        .context("is not in the configuration")?;
    sheet.forget_stored()?;
    let places: Vec<_> = mapping
        .routes()
        .iter()
        .filter(|route| leads_from(route.selector(), task.rse) && route.targets().contains(target))
        .collect();
    counts.datasets = butler::scan::<anyhow::Error>(settings, &mut |uri, uuid| Ok(sheet.store(uri, uuid)?))?;
    let is_meant = |did: &Did| {
        mapping
            .route(task.rse, &did.scope)
            .is_some_and(|route| route.targets().contains(target))
    };
    sheet.matched::<anyhow::Error>(&mut |replica, _, _| {
        counts.there += u64::from(is_meant(&replica.did));
        Ok(())
    })?;
    // Put aside, because the sheet cannot be asked and written at once.
    let mut batch: Vec<Replica> = Vec::new();
    let mut missing = tempfile::spooled_tempfile(8 << 20);
    sheet.missing::<anyhow::Error>(&mut |replica| {
        if is_meant(&replica.did) {
            write_line(&mut missing, &replica)?;
        }
        Ok(())
    })?;
    let finding = |what, file: String, detail| Finding {
        repository: Arc::clone(target),
        what,
        file,
        detail,
    };
    let mut finder = Finder::new(mapping, settings);
    let mut lines = read_lines::<Replica>(missing)?;
    loop {
        let next = lines.next().transpose()?;
        let is_last = next.is_none();
        batch.extend(next);
        if batch.len() < AT_ONCE && (!is_last || batch.is_empty()) {
            if is_last {
                break;
            }
            continue;
        }
        let replicas = std::mem::take(&mut batch);
        let dids: Vec<Did> = replicas.iter().map(|replica| replica.did.clone()).collect();
        let applied = ledger.applied(target, &dids)?;
        let open = ledger.open_events(target, &dids)?;
        let found = finder.find(&replicas, &applied, sheet)?;
        let mut lacking = Vec::new();
        for (replica, found) in replicas.into_iter().zip(found) {
            let name = replica.did.to_string();
            let known = applied.get(&replica.did);
            if known.is_some_and(|known| known.state.is_registered() && known.uuids.is_empty()) {
                // A dimension file: it has left records, and no datasets.
                counts.there += 1;
            } else if found.is_some() {
                counts.there += 1;
            } else if let Some(state) = open.get(&replica.did) {
                let (what, count) = match state {
                    State::Refused => ("refused", &mut counts.refused),
                    _ => ("waiting", &mut counts.waiting),
                };
                *count += 1;
                each(finding(what, name, None))?;
            } else {
                lacking.push(replica);
            }
        }
        let Some(lookups) = &mut task.lookups else {
            for replica in lacking {
                let name = replica.did.to_string();
                if finder.copies() && !replica.did.name.ends_with(".zip") {
                    // Another name, and no UUID to find it by.
                    let detail =
                        "the repository copies files, and nothing tells the UUID of this one: give --rucio";
                    counts.unknown_metadata += 1;
                    each(finding("unknown_metadata", name, Some(detail.into())))?;
                } else {
                    counts.missing += 1;
                    each(finding("missing", name, None))?;
                }
            }
            continue;
        };
        let asks = lacking
            .iter()
            .map(|replica| Ask {
                did: replica.did.clone(),
                rse: replica.rse.clone(),
                url: replica.url.as_deref().map(Arc::from),
                source_url: None,
            })
            .collect();
        let thread = lookups.threads.first_mut().context("no thread looks up")?;
        for (replica, (_, found)) in lacking.iter().zip(thread.look_up(asks)) {
            let name = replica.did.to_string();
            let labels = match found {
                Found::Labels(labels) if labels.contains_key("rubin_butler") => labels,
                Found::Labels(_) => {
                    counts.no_metadata += 1;
                    each(finding("no_metadata", name, None))?;
                    continue;
                }
                Found::Refused(refusal) => {
                    counts.no_metadata += 1;
                    each(finding("no_metadata", name, Some(refusal.detail)))?;
                    continue;
                }
                Found::Later(outcome) => {
                    counts.unknown_metadata += 1;
                    each(finding("unknown_metadata", name, Some(format!("{outcome:?}"))))?;
                    continue;
                }
            };
            if let Some(uuid) = described(&labels) {
                let other = match sheet.file_of(&[uuid])? {
                    Some(uri) => match sheet.listed_at(&uri)? {
                        // Nobody else's: a copy under the Butler's own name for it.
                        None if finder.at(replica, vec![uuid], sheet)?.is_some() => {
                            counts.there += 1;
                            continue;
                        }
                        _ => Some(uri),
                    },
                    None => sheet.claim(uuid, &name)?,
                };
                if let Some(other) = other {
                    let detail = format!("UUID {uuid} is in {other}, too");
                    counts.same_uuid += 1;
                    each(finding("same_uuid", name, Some(detail)))?;
                    continue;
                }
            }
            counts.missing += 1;
            let Some(event) = resend::event(replica, &labels, at) else {
                let detail = "no URL of it is listed that a prefix fits: it is not sent again";
                each(finding("missing", name, Some(detail.into())))?;
                continue;
            };
            match resend::request(event.clone(), *number, target, mapping, task.now) {
                Ok(request) => sheet.put_aside(resend::rank(request.action.kind()), &event)?,
                Err(why) => {
                    each(finding(
                        "missing",
                        name,
                        Some(format!("it is not sent again: {why}")),
                    ))?;
                    continue;
                }
            }
            each(finding("missing", name, None))?;
        }
    }
    if task.dataset.is_none() {
        sheet.unexpected::<anyhow::Error>(&mut |uri, _| {
            if places.iter().any(|route| route.leads_to(&uri)) {
                counts.unexpected += 1;
                each(finding("unexpected", uri, None))?;
            }
            Ok(())
        })?;
    }
    let mut entries: Vec<Entry> = Vec::new();
    let dry_run = task.dry_run;
    let now = task.now;
    sheet.take_aside::<anyhow::Error>(&mut |event| {
        *number += 1;
        if dry_run {
            return Ok(());
        }
        if let Ok(request) = resend::request(event, *number, target, mapping, now) {
            entries.push(resend::waiting(request, now));
        }
        if entries.len() >= AT_ONCE {
            counts.sent += ledger.add_waiting(&entries)?;
            entries.clear();
        }
        Ok(())
    })?;
    if !entries.is_empty() {
        counts.sent += ledger.add_waiting(&entries)?;
    }
    Ok(counts)
}

/// The dataset that the sidecar among `labels` describes.
fn described(labels: &dbb_events::Labels) -> Option<uuid::Uuid> {
    let sidecar: serde_json::Value = serde_json::from_str(labels.get("rubin_sidecar")?.as_str()?).ok()?;
    sidecar.get("id")?.as_str()?.parse().ok()
}

pub(super) fn write_line(to: &mut impl std::io::Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")?;
    Ok(())
}

pub(super) fn read_lines<T: DeserializeOwned>(
    mut from: impl std::io::Read + std::io::Seek,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<T>>> {
    from.rewind()?;
    let lines = serde_json::Deserializer::from_reader(std::io::BufReader::new(from)).into_iter::<T>();
    Ok(lines.map(|line| Ok(line?)))
}
