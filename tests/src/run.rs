//! One process of the program under test.

use anyhow::{Context, Result, bail, ensure};
use dbb_test_services::{Process, Program, wait_until};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longer than anything here takes on a slow machine: a program that has not ended by then hangs.
const LIMIT: Duration = Duration::from_secs(150);

/// A running `dbb`; dropping it kills it.
#[derive(Debug)]
pub struct Run {
    process: Process,
    log: PathBuf,
    /// Where in the log this run begins.
    begin: usize,
}

/// How a run ended, and everything it wrote.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; 128 and the number of a signal that ended it.
    pub status: i32,
    /// Standard output and standard error.
    pub text: String,
}

impl Run {
    /// Starts `program`, which writes to `log`.
    pub fn start(program: Program, log: PathBuf) -> Result<Self> {
        let begin = fs::read(&log).map_or(0, |text| text.len());
        let process = program.start()?;
        Ok(Self { process, log, begin })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The file it writes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where in that file this run begins.
    pub fn begin(&self) -> usize {
        self.begin
    }

    /// What it has written.
    pub fn text(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.begin..).unwrap_or_default()).into_owned()
    }

    /// True until it has ended.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// An error with what it wrote, unless it runs.
    pub fn ensure_running(&self) -> Result<()> {
        ensure!(self.is_running(), "dbb has ended:\n{}", self.text());
        Ok(())
    }

    /// Sends a signal, named without `SIG`.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Waits until `ready`; an error, with what it wrote, if it ends before.
    pub fn until(&mut self, what: &str, ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut ready = ready;
        wait_until(what, LIMIT, || {
            self.ensure_running()?;
            ready()
        })
        .with_context(|| format!("dbb wrote:\n{}", self.text()))
    }

    /// Waits until it ends by itself.
    pub fn end(mut self) -> Result<Ended> {
        let start = Instant::now();
        while self.process.is_running() {
            if start.elapsed() > LIMIT {
                bail!("dbb hangs; it wrote:\n{}", self.text());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Ended {
            status: self.process.wait()?,
            text: self.text(),
        })
    }

    /// Sends SIGTERM and waits until it has ended.
    pub fn terminate(mut self) -> Result<Ended> {
        self.signal("TERM")?;
        self.end()
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// The process ids of its Python workers.
    pub fn workers(&self) -> Vec<u32> {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.id())) else {
            return Vec::new();
        };
        tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|children| {
                children
                    .split_whitespace()
                    .flat_map(str::parse)
                    .collect::<Vec<u32>>()
            })
            .collect()
    }
}

impl Ended {
    /// An error with everything it wrote, unless it ended with this status.
    pub fn with(self, status: i32) -> Result<Self> {
        ensure!(
            self.status == status,
            "ended with {} instead of {status}:\n{}",
            self.status,
            self.text
        );
        Ok(self)
    }
}
