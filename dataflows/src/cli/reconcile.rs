//! `dbb reconcile`: what is missing, what should not be there, and sending again what is missing.

use super::{ConfigFile, Exit, exit::Told, output};
use crate::{
    config::{
        node::{self, Node},
        problem::ConfigError,
        typed::from_node,
    },
    reconcile::{Comparison, Finding, Task, compare},
    site,
};
use clap::Args;
use dbb_events::Did;
use dbb_sinks::{
    ledger::Ledger,
    lookup::{LookUpSettings, LookUps},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Findings of each kind that are shown.
const SHOWN: usize = 10;

/// Arguments of `dbb reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The RSE whose replicas are to be in the Butlers
    #[arg(long, value_name = "RSE")]
    rse: String,
    /// Only the files of this Rucio dataset or container
    #[arg(long, value_name = "SCOPE:NAME", conflicts_with = "listing")]
    dataset: Option<String>,
    /// A listing of replicas, as `dbb replay --listing` takes it, instead of asking Rucio which there are
    #[arg(long, value_name = "FILE")]
    listing: Option<PathBuf>,
    /// How to ask Rucio: a file with what a hub has under `hub.lookup`, `{rucio: {url: ..., auth: ...}}`. Without it nothing is sent again
    #[arg(long, value_name = "FILE")]
    rucio: Option<PathBuf>,
    /// Only tell what is missing
    #[arg(long)]
    dry_run: bool,
    /// Write every finding into this file, a line of JSON each
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the sums as JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) fn reconcile(args: &ReconcileArgs) -> anyhow::Result<Exit> {
    let config = args.file.load()?.config;
    let mapping = site::mapping(&config)?;
    if args.listing.is_none() && args.rucio.is_none() {
        let hint = "give `--rucio FILE` to ask Rucio, or `--listing FILE`";
        return Err(Told::new(Exit::Usage, "nothing tells which replicas there are", hint).into());
    }
    let dataset = args.dataset.as_deref().map(dataset).transpose()?;
    let lookups = match &args.rucio {
        Some(path) => Some(LookUps::open(&settings(path)?)?),
        None => None,
    };
    let mut out = match &args.out {
        Some(path) => Some(BufWriter::new(File::create(path)?)),
        None => None,
    };
    let mut shown: BTreeMap<&'static str, Vec<Finding>> = BTreeMap::new();
    let mut ledger = Ledger::open(&config.ledger)?;
    let task = Task {
        config: &config,
        mapping: &mapping,
        rse: &args.rse,
        dataset,
        listing: args.listing.as_deref(),
        lookups,
        dry_run: args.dry_run,
        now: super::now(),
    };
    let done = compare(task, &mut ledger, &mut |finding| {
        if let Some(out) = &mut out {
            serde_json::to_writer(&mut *out, &finding)?;
            out.write_all(b"\n")?;
        }
        let some = shown.entry(finding.what).or_default();
        if some.len() < SHOWN {
            some.push(finding);
        }
        Ok(())
    })?;
    if let Some(mut out) = out {
        out.flush()?;
    }
    if args.json {
        let repositories: BTreeMap<_, _> = done
            .repositories
            .iter()
            .map(|(name, counts)| (&**name, counts))
            .collect();
        output::json(&serde_json::json!({
            "rse": args.rse, "as_of": done.rows.at.to_string(), "replicas": done.rows.replicas,
            "unrouted": done.rows.unrouted, "bad_rows": done.rows.bad, "rucio_requests": done.requests,
            "repositories": repositories,
        }))?;
    } else {
        output::print(&text(&args.rse, &done, &shown))?;
    }
    if let Some(first) = &done.rows.first_bad {
        tracing::warn!(rows = done.rows.bad, first, "rows of the listing cannot be read");
    }
    let lacks = done.repositories.iter().any(|(_, counts)| counts.is_lacking());
    Ok(if lacks || done.rows.bad > 0 {
        Exit::Problems
    } else {
        Exit::Ok
    })
}

fn dataset(text: &str) -> anyhow::Result<Did> {
    match text.split_once(':') {
        Some((scope, name)) if !scope.is_empty() && !name.is_empty() => Ok(Did::new(scope, name)),
        _ => {
            let message = format!("`{text}` is no Rucio dataset");
            Err(Told::new(Exit::Usage, message, "write it as SCOPE:NAME").into())
        }
    }
}

fn settings(path: &Path) -> anyhow::Result<LookUpSettings> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("`{file}` could not be read: {error}");
        Told::new(
            Exit::Configuration,
            message,
            "it says how to ask Rucio: {rucio: {url: ..., auth: ...}}",
        )
    })?;
    let tree = Node::parse(dbb_events::without_mark(&text), node::in_file(&file))?;
    Ok(from_node(&tree).map_err(|problems| ConfigError { problems })?)
}

fn text(rse: &str, done: &Comparison, shown: &BTreeMap<&'static str, Vec<Finding>>) -> String {
    let mut text = format!("{} replicas at {rse} as of {}", done.rows.replicas, done.rows.at);
    if done.requests > 0 {
        text.push_str(&format!(", {} requests to Rucio", done.requests));
    }
    text.push_str("\n\n");
    let header = [
        "repository",
        "datasets",
        "there",
        "missing",
        "sent again",
        "waiting",
        "refused",
        "no metadata",
        "not told",
        "same UUID",
        "unexpected",
    ];
    let rows = done.repositories.iter().map(|(name, c)| {
        let counts = [
            c.datasets,
            c.there,
            c.missing,
            c.sent,
            c.waiting,
            c.refused,
            c.no_metadata,
            c.unknown_metadata,
            c.same_uuid,
            c.unexpected,
        ];
        std::iter::once(name.to_string())
            .chain(counts.map(|count| count.to_string()))
            .collect()
    });
    text.push_str(&output::table(&header, rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    for (what, findings) in shown {
        text.push_str(&format!("\n{}:\n", what.replace('_', " ")));
        for finding in findings {
            let detail = finding
                .detail
                .as_deref()
                .map(|detail| format!(": {detail}"))
                .unwrap_or_default();
            text.push_str(&format!("  {} at {}{detail}\n", finding.file, finding.repository));
        }
        if findings.len() == SHOWN {
            text.push_str("  ... `--out FILE` writes all\n");
        }
    }
    text
}
