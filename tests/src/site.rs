//! A site of one test: repositories, files, events, configuration, oracle, and `dbb` running on it.

use crate::{Ended, Run, books};
use anyhow::{Context, Result, ensure};
use dbb::demo::{Expected, Outcomes};
use dbb_sinks::ledger::{Ledger, LedgerSettings, State};
use dbb_test_services::{Program, python, root, scratch};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A site in a folder that goes with it.
#[derive(Debug)]
pub struct Site {
    program: PathBuf,
    ledger: String,
    /// What every run is told beside the configuration.
    sets: Vec<String>,
    folder: tempfile::TempDir,
}

/// What a test need not wait for. Waiting for dimension records stays slow: a run that is to end once would
/// wait for a retry that is due within seconds, and that retry for the next.
const QUICK: [&str; 2] = [
    "repositories.{}.patience.down_retry_s=1",
    "repositories.{}.worker.start_timeout_s=60",
];

impl Site {
    /// A site as `site.py make` makes it with these options; `program` is the `dbb` to run, unless the
    /// environment variable `DBB` names another, such as the one to be installed.
    pub fn make(program: &str, options: &[&str]) -> Result<Self> {
        let site = Self::unmade(program, options)?;
        site.script("make", options)?;
        Ok(site)
    }

    /// Only the folder of a site: for one that is made step by step, with [`Site::script`].
    pub fn unmade(program: &str, options: &[&str]) -> Result<Self> {
        let mut folder = scratch("site")?;
        // For a look at what a failed test leaves.
        folder.disable_cleanup(std::env::var_os("KEEP").is_some());
        let option = |name: &str| {
            let at = options.iter().position(|option| *option == name)?;
            options.get(at + 1).copied()
        };
        let ledger = match option("--ledger") {
            Some(url) => url.to_owned(),
            None => format!("sqlite:{}", folder.path().join("ledger.sqlite").display()),
        };
        let repositories = option("--repositories").unwrap_or("main").split(',');
        let sets = repositories
            .flat_map(|name| QUICK.iter().map(move |set| set.replace("{}", name)))
            .collect();
        Ok(Self {
            program: std::env::var_os("DBB").map_or_else(|| program.into(), PathBuf::from),
            ledger,
            sets,
            folder,
        })
    }

    /// Runs a command of `site.py` on this site; its standard output.
    pub fn script(&self, command: &str, options: &[&str]) -> Result<String> {
        let output = self.try_script(command, options)?;
        ensure!(
            output.status.success(),
            "site.py {command}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn try_script(&self, command: &str, options: &[&str]) -> Result<Output> {
        Command::new(python()?)
            .arg(root().join("dataflows/src/demo/site.py"))
            .args([command.as_ref(), self.path().as_os_str()])
            .args(options)
            .output()
            .context("could not start site.py")
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program that runs on it.
    pub fn program_path(&self) -> &Path {
        &self.program
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.path().join("dbb.yaml")
    }

    /// The URL of its ledger.
    pub fn ledger_url(&self) -> &str {
        &self.ledger
    }

    /// Changes the configuration.
    pub fn edit_config(&self, edit: impl FnOnce(String) -> String) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        let edited = edit(text.clone());
        ensure!(edited != text, "the configuration has nothing to change: {text}");
        Ok(fs::write(self.config(), edited)?)
    }

    /// Sets a key for all runs to come, `a.b=c`.
    pub fn set(&mut self, set: impl Into<String>) {
        self.sets.push(set.into());
    }

    /// What runs are told beside the configuration.
    pub fn sets(&self) -> &[String] {
        &self.sets
    }

    /// Forgets what runs were to be told beside the configuration.
    pub fn unset_all(&mut self) {
        self.sets.clear();
    }

    /// The oracle.
    pub fn expected(&self) -> Result<Expected> {
        Expected::read(self.path())
    }

    /// A connection of the test's own to the ledger.
    pub fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger::open(&LedgerSettings {
            url: self.ledger.clone(),
            ..LedgerSettings::default()
        })?)
    }

    /// Rows of the ledger that stand like this, over all repositories; 0 where there is no ledger yet.
    pub fn count(&self, wanted: impl Fn(State) -> bool) -> Result<u64> {
        if self
            .ledger
            .strip_prefix("sqlite:")
            .is_some_and(|path| !Path::new(path).exists())
        {
            return Ok(0);
        }
        let tallies = self.ledger()?.summary()?;
        Ok(tallies
            .iter()
            .filter(|tally| wanted(tally.outcome))
            .map(|tally| tally.count)
            .sum())
    }

    /// `dbb run` on this site, with further arguments; not started yet. The environment is this process's own.
    pub fn program(&self, arguments: &[&str]) -> Program {
        self.program_logging(self.log(), arguments)
    }

    /// The same, writing to a log of its own.
    pub fn program_logging(&self, log: PathBuf, arguments: &[&str]) -> Program {
        let mut program = Program::new(&self.program, log)
            .arg("run")
            .arg(self.config())
            .args(arguments.iter().copied())
            .current_dir(self.path());
        for set in &self.sets {
            program = program.arg("--set").arg(set);
        }
        program
    }

    fn log(&self) -> PathBuf {
        self.path().join("dbb.log")
    }

    /// Starts `dbb run`.
    pub fn start(&self, arguments: &[&str]) -> Result<Run> {
        self.start_program(self.program(arguments))
    }

    /// Starts what [`Site::program`] gave, perhaps changed.
    pub fn start_program(&self, program: Program) -> Result<Run> {
        Run::start(program, self.log())
    }

    /// `dbb run --run-once`, to its end.
    pub fn run_once(&self, arguments: &[&str]) -> Result<Ended> {
        let mut all = vec!["--run-once"];
        all.extend(arguments);
        self.start(&all)?.end()
    }

    /// Another subcommand: its exit status, standard output, standard error.
    pub fn dbb(&self, command: &[&str], arguments: &[&str]) -> Result<(i32, String, String)> {
        let config = self.config();
        let arguments = arguments.iter().map(OsStr::new);
        let output = Command::new(&self.program)
            .args(command)
            .arg(config)
            .args(arguments)
            .current_dir(self.path())
            .output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        ))
    }

    /// After kills: runs to the end until all is proved. A run that is to end once does not wait for all that is due later.
    pub fn settle_after_kills(&self) -> Result<()> {
        self.settle_after(books::Again::Perhaps)
    }

    /// The same, with what may have been tried twice.
    pub fn settle_after(&self, again: books::Again) -> Result<()> {
        const RUNS: usize = 6;
        for run in 1..=RUNS {
            let ended = self.run_once(&[])?;
            let (status, text) = (ended.status, ended.text);
            ensure!(status <= 1, "it ended with {status}:\n{text}");
            match self.prove_ledger(again) {
                Ok(()) => break,
                Err(error) if run == RUNS => return Err(error),
                Err(_) => {}
            }
        }
        self.prove_butler()
    }

    /// Proves that all ended as the oracle says: each event with exactly one right outcome for each of its
    /// repositories, and Butler repositories that hold exactly what they must.
    pub fn prove(&self, again: books::Again) -> Result<()> {
        self.prove_ledger(again)?;
        self.prove_butler()
    }

    /// The first half of [`Site::prove`].
    pub fn prove_ledger(&self, again: books::Again) -> Result<()> {
        let expected = self.expected()?;
        let outcomes = Outcomes::read(&self.ledger, &expected)?;
        ensure!(
            outcomes.rows == outcomes.happened.len() as u64,
            "the ledger has {} rows, of which {} are of events that were made",
            outcomes.rows,
            outcomes.happened.len()
        );
        let differences = books::differences(&expected, &outcomes.happened, again);
        ensure!(
            differences.is_empty(),
            "{} events did not end as they must:\n{}",
            differences.len(),
            differences.join("\n")
        );
        Ok(())
    }

    /// The second half of [`Site::prove`].
    pub fn prove_butler(&self) -> Result<()> {
        let output = self.try_script("verify", &[])?;
        ensure!(
            output.status.success(),
            "the Butler does not hold what it must:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
