//! The command line: one file a subcommand.
//!
//! Data goes to standard output, logs and errors to standard error; the exit status says how it ended (see [`exit`]).

mod ask;
pub mod check;
pub mod checkpoint;
pub mod complete;
pub mod completions;
pub mod config;
pub mod dead_letters;
pub mod demo;
pub mod exit;
pub mod explain;
pub mod gaps;
pub mod hub;
pub mod ledger;
pub mod logging;
pub mod output;
pub mod reconcile;
pub mod record;
pub mod replay;
pub mod rows;
pub mod run;
pub mod sql;

pub use exit::Exit;

use crate::config::{Config, Loaded};
use clap::{Args, Parser, Subcommand};
use dbb_events::Micros;
use dbb_sinks::ledger::Ledger;
use std::{path::PathBuf, process::ExitCode};

/// Rucio events into Butler repositories: every file registered once, every event accounted for.
#[derive(Debug, Parser)]
#[command(
    name = "dbb",
    version,
    max_term_width = 110,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit status: 0 well, 1 problems were found, 2 usage, 3 unknown, 69 a service is unreachable, 75 another process of the cluster is missing or the ledger was replaced: start again, 78 configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read events and register their files, until stopped
    Run(run::RunArgs),
    /// Write what a source has to files that replay reads
    Record(record::RecordArgs),
    /// Make views and an archive of recorded events
    Replay(replay::ReplayArgs),
    /// Ask a running instance about its views, in SQL
    Sql(sql::SqlArgs),
    /// Look at a configuration, at the services it names, and at recorded events
    Check(check::CheckArgs),
    /// Tell the whole story of one file, and what to do next
    Explain(explain::ExplainArgs),
    /// Tell whether all of a Rucio dataset is at an RSE, and in the Butlers of its site
    Complete(complete::CompleteArgs),
    /// Compare what Rucio has with a site's Butlers, and send again what is missing
    Reconcile(reconcile::ReconcileArgs),
    /// List, show, retry and export events that were refused
    DeadLetters(dead_letters::DeadLettersArgs),
    /// List what a hub has published and what did not arrive of it, and ask for it
    Gaps(gaps::GapsArgs),
    /// List and release what a hub holds under embargo
    Hub(hub::HubArgs),
    /// Look after the ledger
    Ledger(ledger::LedgerArgs),
    /// List, verify and look into checkpoints
    Checkpoint(checkpoint::CheckpointArgs),
    /// Make a small site with a real Butler, run on it, and prove the result
    Demo(demo::DemoArgs),
    /// Print the configuration's schema or reference
    Config(config::ConfigArgs),
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
}

/// The configuration, as most subcommands take it.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file; a file of ctrl_ingestd will do
    #[arg(env = "CTRL_INGESTD_CONFIG")]
    pub config: PathBuf,
    /// Set a key of it, as in `--set batching.max_wait_ms=50`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigFile {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(crate::config::load(&self.config, &self.set)?)
    }
}

/// Runs the program on the arguments of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Record(args) => record::record(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Sql(args) => sql::sql(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Complete(args) => complete::complete(&args),
        Command::Reconcile(args) => reconcile::reconcile(&args),
        Command::DeadLetters(args) => dead_letters::dead_letters(&args),
        Command::Gaps(args) => gaps::gaps(&args),
        Command::Hub(args) => hub::hub(&args),
        Command::Ledger(args) => ledger::ledger(&args),
        Command::Checkpoint(args) => checkpoint::checkpoint(&args),
        Command::Demo(args) => return demo::demo(args).unwrap_or_else(|error| exit::report(&error).into()),
        Command::Config(args) => config::config(&args),
        Command::Completions(args) => completions::completions(&args),
    };
    ended.unwrap_or_else(|error| exit::report(&error)).into()
}

/// Opens the ledger of `config` for a question or a command of an operator.
///
/// A ledger that is not there is an error here: only `run` makes one.
fn open_ledger(config: &Config) -> anyhow::Result<Ledger> {
    if let Some(path) = config.ledger.sqlite_path()
        && !path.exists()
    {
        let message = format!("there is no ledger at `{}`", path.display());
        let hint =
            "`dbb run` makes it at its first start; is this the configuration, and the folder, it runs with?";
        return Err(exit::Told::new(Exit::Configuration, message, hint).into());
    }
    let mut ledger = Ledger::open(&config.ledger)?;
    // Nobody but an operator waits.
    ledger.set_limit(std::time::Duration::from_secs(3600));
    Ok(ledger)
}

/// The present moment.
fn now() -> Micros {
    Micros(jiff::Timestamp::now().as_microsecond())
}
