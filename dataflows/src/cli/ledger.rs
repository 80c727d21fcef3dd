//! `dbb ledger migrate|summary|import|wake`.

use super::{ConfigFile, Exit, exit::Told, output};
use crate::{config::Config, reconcile, site};
use clap::{Args, Subcommand};
use dbb_events::TOPICS;
use dbb_sinks::ledger::{self, Ledger, State, Tally};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Arguments of `dbb ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the tables to the schema of this dbb; stop every dbb that uses them first
    Migrate {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Make files known that were registered before the ledger was kept, so that their removal is understood
    Import {
        #[command(flatten)]
        file: ConfigFile,
        /// A listing of replicas, as `dbb replay --listing` takes it
        #[arg(long, value_name = "FILE")]
        listing: PathBuf,
        /// Only into this repository
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
    /// Make all that waits due now: a running dbb tries it within moments. What is held under embargo stays
    Wake {
        #[command(flatten)]
        file: ConfigFile,
        /// Only what waits at this repository
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
    /// Count events by RSE, repository and outcome
    Summary {
        #[command(flatten)]
        file: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(super) fn ledger(args: &LedgerArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Migrate { file } => {
            let settings = file.load()?.config.ledger;
            let (from, to) = ledger::migrate(&settings)?;
            let url = settings.shown_url();
            output::print(&match from {
                _ if from == to => format!("ledger {url} has schema {to} already\n"),
                0 => format!("ledger {url} made with schema {to}\n"),
                _ => format!("ledger {url} taken from schema {from} to {to}\n"),
            })?;
        }
        Command::Import {
            file,
            listing,
            repository,
        } => return import(&file.load()?.config, listing, repository.as_deref()),
        Command::Wake { file, repository } => {
            let config = file.load()?.config;
            knows(&config, repository.as_deref())?;
            let woken = super::open_ledger(&config)?.wake(repository.as_deref(), None, super::now())?;
            output::print(&format!("{woken} due now\n"))?;
        }
        Command::Summary { file, json } => summary(&mut super::open_ledger(&file.load()?.config)?, *json)?,
    }
    Ok(Exit::Ok)
}

/// Refuses the name of a repository that the configuration has not.
fn knows(config: &Config, repository: Option<&str>) -> anyhow::Result<()> {
    if let Some(name) = repository
        && !config.repositories.contains_key(name)
    {
        let known: Vec<_> = config.repositories.keys().map(String::as_str).collect();
        let hint = format!("the configuration has {}", known.join(", "));
        return Err(Told::new(Exit::Usage, format!("there is no repository `{name}`"), hint).into());
    }
    Ok(())
}

fn import(config: &Config, listing: &Path, repository: Option<&str>) -> anyhow::Result<Exit> {
    knows(config, repository)?;
    let mapping = site::mapping(config)?;
    let mut ledger = Ledger::open(&config.ledger)?;
    let (rows, all) = reconcile::import(config, &mapping, &mut ledger, listing, repository, super::now())?;
    let header = [
        "repository",
        "matched",
        "new",
        "in Rucio only",
        "in the Butler only",
        "datasets",
    ];
    let table = all.into_iter().map(|done| {
        let counts = [
            done.matched,
            done.new,
            done.in_rucio_only,
            done.in_butler_only,
            done.datasets,
        ];
        std::iter::once(done.repository)
            .chain(counts.map(|count| count.to_string()))
            .collect()
    });
    let mut text = format!(
        "{} replicas listed at {}, {} of them not routed\n\n",
        rows.replicas, rows.at, rows.unrouted
    );
    text.push_str(&output::table(&header, table, &[1, 2, 3, 4, 5]));
    output::print(&text)?;
    match rows.first_bad {
        None => Ok(Exit::Ok),
        Some(first) => {
            tracing::warn!(rows = rows.bad, first, "rows of the listing cannot be read");
            Ok(Exit::Problems)
        }
    }
}

fn summary(ledger: &mut Ledger, as_json: bool) -> anyhow::Result<()> {
    let tallies = ledger.summary()?;
    let waiting = ledger.waiting()?;
    let counts = ledger.counts()?;
    let gaps = ledger.gap_sums()?;
    if as_json {
        let rows = tallies.iter().map(|t| {
            json!({"rse": t.rse, "repository": t.target, "outcome": t.outcome.as_str(), "events": t.count})
        });
        let waiting = waiting.iter().map(|w| {
            json!({"repository": w.target, "dependency": w.class, "events": w.count, "oldest": w.oldest.to_string()})
        });
        return output::json(&json!({
            "outcomes": rows.collect::<Vec<_>>(),
            "waiting": waiting.collect::<Vec<_>>(),
            "records": counts,
            "gaps": super::gaps::sums_as_json(&gaps),
            "size_bytes": ledger.size_bytes()?,
        }));
    }
    let mut text = outcomes(&tallies);
    if !waiting.is_empty() {
        let rows = waiting.iter().map(|w| {
            vec![
                w.target.to_string(),
                w.class.to_string(),
                w.count.to_string(),
                w.oldest.to_string(),
            ]
        });
        text.push('\n');
        text.push_str(&output::table(
            &["repository", "waits for", "events", "oldest since"],
            rows,
            &[2],
        ));
    }
    if !gaps.is_empty() {
        text.push('\n');
        text.push_str(&super::gaps::sums(&gaps));
    }
    if !counts.is_empty() {
        let rows = counts
            .iter()
            .map(|(word, count)| vec![word.clone(), count.to_string()]);
        text.push('\n');
        text.push_str(&output::table(&["records read", "count"], rows, &[1]));
    }
    output::print(&text)
}

/// How events stand, by RSE and repository, with their sums. A column for what a hub alone, or a site alone, has is
/// left out where there is none of it; one for files that are gone, where none are.
pub(super) fn outcomes(tallies: &[Tally]) -> String {
    let is_hub = tallies.iter().any(|tally| tally.target == TOPICS);
    let is_site = !is_hub
        || tallies
            .iter()
            .any(|tally| !tally.target.is_empty() && tally.target != TOPICS);
    let happened = |state| tallies.iter().any(|tally| tally.outcome == state);
    let columns: Vec<(State, &str)> = State::ALL
        .into_iter()
        .filter_map(|state| match state {
            State::Ingested => is_site.then_some((state, "ingested")),
            State::AlreadyThere => is_site.then_some((state, "already there")),
            State::AlreadyThereElsewhere => is_site.then_some((state, "elsewhere")),
            State::Removed => happened(state).then_some((state, "removed")),
            State::NotThere => happened(state).then_some((state, "not there")),
            State::KeptElsewhere => happened(state).then_some((state, "kept elsewhere")),
            State::Superseded => is_site.then_some((state, "superseded")),
            State::Published => is_hub.then_some((state, "published")),
            State::Waiting => Some((state, "waiting")),
            State::Refused => Some((state, "refused")),
        })
        .collect();
    let mut sums = vec![0; columns.len()];
    let mut by_place: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for tally in tallies {
        let counts = by_place
            .entry((&tally.rse, &tally.target))
            .or_insert_with(|| vec![0; columns.len()]);
        if let Some(index) = columns.iter().position(|(state, _)| *state == tally.outcome) {
            counts[index] += tally.count;
            sums[index] += tally.count;
        }
    }
    let named = |name: &'static str, word: &str| {
        if word.is_empty() {
            name.into()
        } else {
            word.to_owned()
        }
    };
    let row = |rse: String, target: String, counts: Vec<u64>| {
        [rse, target]
            .into_iter()
            .chain(counts.iter().map(u64::to_string))
            .collect()
    };
    let mut rows: Vec<Vec<String>> = by_place
        .into_iter()
        .map(|((rse, target), counts)| row(named("(unreadable)", rse), named("(not routed)", target), counts))
        .collect();
    if rows.len() != 1 {
        rows.push(row("all".into(), String::new(), sums));
    }
    let header: Vec<&str> = ["rse", "repository"]
        .into_iter()
        .chain(columns.iter().map(|(_, word)| *word))
        .collect();
    let numbers: Vec<usize> = (2..header.len()).collect();
    output::table(&header, rows, &numbers)
}
