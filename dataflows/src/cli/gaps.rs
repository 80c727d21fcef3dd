//! `dbb gaps list|ask`: what a hub has published and what did not arrive of it.

use super::{ConfigFile, Exit, exit::Told, open_ledger, output};
use crate::{config::Config, site};
use anyhow::Context;
use clap::{Args, Subcommand};
use dbb_events::Lane;
use dbb_sinks::{
    ledger::{GapRow, GapSum},
    topics::Messenger,
};
use serde_json::{Value, json};
use std::sync::{Arc, atomic::AtomicBool};

/// Arguments of `dbb gaps`.
#[derive(Debug, Args)]
pub struct GapsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, the newest first
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Those that are filled too
        #[arg(long)]
        all: bool,
        /// Most to list
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the hub asked at once for what is missing, what it did not have when it was asked before too
    Ask {
        #[command(flatten)]
        file: ConfigFile,
        /// Of this partition of the hub alone, as `list` shows it
        #[arg(long, value_name = "TOPIC/PARTITION")]
        lane: Option<Lane>,
        /// Ask for records by their numbers, whether they are known to be missing or not
        #[arg(long, value_name = "NUMBER", requires_all = ["lane", "to"])]
        from: Option<u64>,
        /// The last of them
        #[arg(long, value_name = "NUMBER", requires = "from")]
        to: Option<u64>,
    },
}

/// Does it.
pub(super) fn gaps(args: &GapsArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List {
            file,
            all,
            limit,
            json,
        } => {
            let rows = open_ledger(&file.load()?.config)?.gaps(*all, *limit)?;
            if *json {
                output::json(&rows.iter().map(as_json).collect::<Vec<_>>())?;
            } else {
                output::print(&table(&rows))?;
            }
        }
        Command::Ask { file, lane, from, to } => {
            let config = file.load()?.config;
            if config.gaps.is_none() {
                let hint = "write `gaps: {}`";
                let message = "the configuration has no section `gaps`: nobody would ask";
                return Err(Told::new(Exit::Configuration, message, hint).into());
            }
            match (lane, from, to) {
                (Some(lane), Some(from), Some(to)) => ask_for(&config, lane, *from, *to)?,
                _ => {
                    let asked = open_ledger(&config)?.ask_again(lane.as_ref(), super::now())?;
                    output::print(&format!(
                        "{asked} gaps to be asked for; a running dbb does so within moments\n"
                    ))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}

/// Asks from here: no ledger knows of it.
fn ask_for(config: &Config, lane: &Lane, from: u64, to: u64) -> anyhow::Result<()> {
    let problem = |message: String, hint: &str| Told::new(Exit::Usage, message, hint);
    if from == 0 || to < from {
        let message = format!("{from} to {to} is no range of numbers: the first record has number 1");
        return Err(problem(message, "give the smaller number with `--from`").into());
    }
    let kafka = config.gaps.as_ref().and_then(|gaps| gaps.kafka.as_ref());
    let settings = config
        .publishes(kafka)
        .context("there are no brokers to ask on")?;
    let posts = site::requests(config, lane, [(from, to)], super::now());
    let refused = Messenger::open(&settings, Arc::new(AtomicBool::new(false)))?.send(&posts)?;
    if let Some(refused) = refused.first() {
        let hint = "the topic is made by whoever runs the brokers, unless `new_topics.create` is set";
        return Err(Told::new(Exit::Problems, refused.detail.clone(), hint).into());
    }
    output::print(&format!("asked for {lane} {from} to {to}\n"))
}

fn table(rows: &[GapRow]) -> String {
    let rows = rows.iter().map(|row| {
        let gap = &row.gap;
        vec![
            row.lane.to_string(),
            range(gap.first, gap.last),
            row.state.to_string(),
            (gap.left.count() + gap.gone.count()).to_string(),
            cut(&gap.left.to_string()),
            cut(&gap.gone.to_string()),
            gap.found_at.to_string(),
            row.asks.to_string(),
            row.ask_at.map(|at| at.to_string()).unwrap_or_default(),
        ]
    });
    output::table(
        &[
            "lane",
            "numbers",
            "state",
            "missing",
            "still missing",
            "not kept by the hub",
            "found at",
            "asked",
            "asked again",
        ],
        rows,
        &[3, 7],
    )
}

fn range(first: u64, last: u64) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

/// What fits a table; JSON has all.
fn cut(pieces: &str) -> String {
    match pieces.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &pieces[..end]),
        None => pieces.to_owned(),
    }
}

fn as_json(row: &GapRow) -> Value {
    let gap = &row.gap;
    json!({
        "lane": row.lane.to_string(),
        "first": gap.first,
        "last": gap.last,
        "state": row.state.as_str(),
        "missing": gap.left.count() + gap.gone.count(),
        "still_missing": gap.left.to_string(),
        "not_kept_by_the_hub": gap.gone.to_string(),
        "found_at": gap.found_at.to_string(),
        "asks": row.asks,
        "asked_at": row.asked_at.map(|at| at.to_string()),
        "ask_at": row.ask_at.map(|at| at.to_string()),
        "closed_at": row.closed_at.map(|at| at.to_string()),
    })
}

/// What is missing of each lane, for the summary of a ledger.
pub(super) fn sums(sums: &[GapSum]) -> String {
    let rows = sums.iter().map(|sum| {
        vec![
            sum.lane.to_string(),
            sum.state.to_string(),
            sum.gaps.to_string(),
            sum.records.to_string(),
            sum.oldest.to_string(),
        ]
    });
    output::table(
        &["lane", "gaps are", "gaps", "records missing", "oldest since"],
        rows,
        &[2, 3],
    )
}

/// The same as JSON.
pub(super) fn sums_as_json(sums: &[GapSum]) -> Value {
    let value = |sum: &GapSum| {
        json!({"lane": sum.lane.to_string(), "state": sum.state.as_str(), "gaps": sum.gaps,
            "records": sum.records, "oldest": sum.oldest.to_string()})
    };
    sums.iter().map(value).collect()
}
