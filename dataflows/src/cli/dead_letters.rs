//! `dbb dead-letters list|show|retry|export`: events that were refused, with their reasons.

use super::{ConfigFile, Exit, exit::Told, open_ledger, output, rows};
use clap::{Args, Subcommand};
use dbb_events::{Micros, Reason};
use dbb_sinks::ledger::{Filter, Ledger, Row, Selection};
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Arguments of `dbb dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, the newest first
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Only count them, by reason
        #[arg(long, conflicts_with_all = ["reason", "repository"])]
        by: Option<By>,
        #[command(flatten)]
        which: Which,
        /// Most to list
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one with the event it came from
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// Its number in the list
        id: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send them again, through the present configuration
    Retry {
        #[command(flatten)]
        file: ConfigFile,
        /// Their numbers in the list
        #[arg(required_unless_present_any = ["reason", "all"])]
        ids: Vec<i64>,
        /// All of one reason
        #[arg(long, value_parser = reason, conflicts_with_all = ["ids", "all"])]
        reason: Option<Reason>,
        /// All
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Write them as lines of JSON, each with its event; a log source can read them
    Export {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        which: Which,
        /// Only the events as `{topic, value}`, for a log source, without what became of them
        #[arg(long)]
        events: bool,
    },
}

/// Which of them.
#[derive(Debug, Args)]
struct Which {
    /// Of this reason alone
    #[arg(long, value_parser = reason)]
    reason: Option<Reason>,
    /// Of this repository alone
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum By {
    /// One line a reason
    Reason,
}

impl From<&Which> for Filter {
    fn from(which: &Which) -> Self {
        Filter {
            reason: which.reason,
            target: which.repository.clone(),
            before_id: None,
        }
    }
}

/// The reason called `word`.
fn reason(word: &str) -> Result<Reason, String> {
    Reason::parse(word).ok_or_else(|| {
        let words: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        let near = crate::config::problem::nearest(word, words.iter().copied());
        let near = near
            .map(|near| format!("did you mean `{near}`? "))
            .unwrap_or_default();
        format!("{near}the reasons are {}", words.join(", "))
    })
}

/// Does it.
pub(super) fn dead_letters(args: &DeadLettersArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List {
            file,
            by,
            which,
            limit,
            json,
        } => {
            let mut ledger = open_ledger(&file.load()?.config)?;
            match by {
                Some(By::Reason) => by_reason(&mut ledger, *json)?,
                None => list(&mut ledger, &which.into(), *limit, *json)?,
            }
        }
        Command::Show { file, id, json } => {
            let mut ledger = open_ledger(&file.load()?.config)?;
            let Some(row) = ledger.row(*id)? else {
                anyhow::bail!("the ledger has no row {id}");
            };
            let attempts = ledger.attempts(row.id)?;
            if *json {
                let mut value = rows::row(&row);
                value["history"] = attempts.iter().map(rows::attempt).collect();
                output::json(&value)?;
            } else {
                output::print(&show(&row))?;
            }
        }
        Command::Retry {
            file, ids, reason, ..
        } => {
            let mut ledger = open_ledger(&file.load()?.config)?;
            let selection = match reason {
                Some(reason) => Selection::Reason(*reason),
                None if ids.is_empty() => Selection::All,
                None => Selection::Ids(ids.clone()),
            };
            let retried = ledger.retry(&selection, super::now())?;
            output::print(&format!(
                "{retried} to be tried again; a running dbb does so within moments\n"
            ))?;
            if !ids.is_empty() && retried < ids.len() as u64 {
                let missing = ids.len() as u64 - retried;
                let message = format!("{missing} of the numbers given are no dead letters");
                return Err(Told::new(
                    Exit::Problems,
                    message,
                    "`dbb dead-letters list` shows those there are",
                )
                .into());
            }
        }
        Command::Export { file, which, events } => {
            export(&mut open_ledger(&file.load()?.config)?, &which.into(), *events)?;
        }
    }
    Ok(Exit::Ok)
}

fn by_reason(ledger: &mut Ledger, as_json: bool) -> anyhow::Result<()> {
    let counts = ledger.dead_letters_by_reason()?;
    if as_json {
        return output::json(&counts);
    }
    let rows = counts
        .iter()
        .map(|(reason, count)| vec![reason.clone(), count.to_string()]);
    output::print(&output::table(&["reason", "dead letters"], rows, &[1]))
}

fn list(ledger: &mut Ledger, filter: &Filter, limit: usize, as_json: bool) -> anyhow::Result<()> {
    let letters = ledger.dead_letters(filter, limit)?;
    if as_json {
        return output::json(&letters.iter().map(rows::row).collect::<Vec<_>>());
    }
    let rows = letters.iter().map(|row| {
        vec![
            row.id.to_string(),
            // To the second: the rest is in `show`.
            Micros(row.updated_at.0 / 1_000_000 * 1_000_000)
                .to_string()
                .replace(".000000Z", "Z"),
            row.target.to_string(),
            row.reason.clone().unwrap_or_default(),
            rows::shown(&rows::name(row)),
            rows::shown(row.detail.as_deref().unwrap_or_default()),
        ]
    });
    output::print(&output::table(
        &["id", "at", "repository", "reason", "file", "why"],
        rows,
        &[0],
    ))
}

fn show(row: &Row) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            // A string cannot fail to take more.
            let _ = writeln!(text, "{name:<12}{}", rows::shown(&value));
        }
    };
    line("id", Some(row.id.to_string()));
    line("file", Some(rows::name(row)));
    line("outcome", Some(row.outcome.to_string()));
    line("reason", row.reason.clone());
    line("why", row.detail.clone());
    line("repository", Some(row.target.to_string()));
    line("rse", row.rse.as_ref().map(ToString::to_string));
    line("url", row.url.clone());
    line("uri", row.uri.clone());
    line("read at", Some(format!("{} ({})", row.first_seen_at, row.place)));
    line("refused at", Some(row.updated_at.to_string()));
    line("attempts", Some(row.attempts.to_string()));
    if let Some(body) = &row.body {
        let _ = writeln!(text, "\n{}", rows::shown(&String::from_utf8_lossy(body)));
    }
    text
}

fn export(ledger: &mut Ledger, filter: &Filter, events: bool) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut failed = None;
    ledger.export(filter, |row| {
        let value = if events {
            let body = row.body.as_deref().map(String::from_utf8_lossy);
            serde_json::json!({"topic": row.topic, "value": body})
        } else {
            rows::row(row)
        };
        failed = writeln!(out, "{value}").err();
        failed.is_none()
    })?;
    match failed.or_else(|| out.flush().err()) {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_reason_is_answered_with_the_nearest() {
        assert_eq!(reason("file_missing"), Ok(Reason::FileMissing));
        let error = reason("file_mising").err().unwrap_or_default();
        assert!(
            error.starts_with("did you mean `file_missing`? the reasons are unreadable, "),
            "{error}"
        );
    }
}
