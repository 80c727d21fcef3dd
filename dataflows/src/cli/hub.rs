//! `dbb hub held|release CONFIG`: what is held under embargo, and what goes on.

use super::{ConfigFile, Exit, exit::Told, open_ledger, output, rows};
use clap::{Args, Subcommand};
use dbb_events::Did;

/// Arguments of `dbb hub`.
#[derive(Debug, Args)]
pub struct HubArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List events that are held: files that landed where they must not be yet
    Held {
        #[command(flatten)]
        file: ConfigFile,
        /// Most rows
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish what is held, of one file or all; a running dbb does so within moments
    Release {
        #[command(flatten)]
        file: ConfigFile,
        /// The file, SCOPE:NAME
        #[arg(
            long,
            value_name = "SCOPE:NAME",
            required_unless_present = "all",
            conflicts_with = "all"
        )]
        did: Option<String>,
        /// All that is held
        #[arg(long)]
        all: bool,
    },
}

/// Does it.
pub(super) fn hub(args: &HubArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Held { file, limit, json } => {
            let held = open_ledger(&file.load()?.config)?.held(None, *limit)?;
            if *json {
                output::json(&held.iter().map(rows::row).collect::<Vec<_>>())?;
                return Ok(Exit::Ok);
            }
            let table = held.iter().map(|row| {
                vec![
                    row.waiting_since.map(|at| at.to_string()).unwrap_or_default(),
                    rows::shown(&rows::name(row)),
                    rows::shown(row.detail.as_deref().unwrap_or_default()),
                ]
            });
            output::print(&output::table(&["held since", "file", "why"], table, &[]))?;
        }
        Command::Release { file, did, .. } => {
            let did = did.as_deref().map(parse).transpose()?;
            let released = open_ledger(&file.load()?.config)?.release(did.as_ref(), super::now())?;
            output::print(&format!(
                "{released} released; a running dbb publishes them within moments\n"
            ))?;
            if let (Some(did), 0) = (did, released) {
                let message = format!("nothing is held of `{did}`");
                let hint = "`dbb hub held` shows what is";
                return Err(Told::new(Exit::Problems, message, hint).into());
            }
        }
    }
    Ok(Exit::Ok)
}

/// The file that an operator names.
pub(super) fn parse(text: &str) -> Result<Did, Told> {
    match text.split_once(':') {
        Some((scope, name)) if !scope.is_empty() && !name.is_empty() => Ok(Did::new(scope, name)),
        _ => Err(Told::new(
            Exit::Usage,
            format!("`{text}` is not SCOPE:NAME"),
            "write for instance raw:LSSTCam/20260401/file.fits",
        )),
    }
}
