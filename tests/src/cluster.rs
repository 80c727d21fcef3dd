//! A site on several processes: a hosts file, a token, and a program for each.

use crate::{Ended, Run, Site};
use anyhow::{Context, Result, ensure};
use dbb_test_services::{Program, free_port};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// What the program says once all have met.
const WHOLE: &str = "the cluster is whole";

/// A cluster of a site; dropping it kills what runs.
#[derive(Debug)]
pub struct Cluster<'s> {
    site: &'s Site,
    name: String,
    hosts: PathBuf,
    token: PathBuf,
    /// Where each process listens for the others.
    pub addresses: Vec<String>,
    /// The processes, those that run.
    pub runs: Vec<Option<Run>>,
}

impl<'s> Cluster<'s> {
    /// One of `processes` processes that is not started yet; `name` tells it from others of the site.
    pub fn of(site: &'s Site, name: &str, processes: usize) -> Result<Self> {
        let addresses = (0..processes)
            .map(|_| Ok(format!("127.0.0.1:{}", free_port()?)))
            .collect::<Result<Vec<_>>>()?;
        let file = |what: &str| site.path().join(format!("{name}.{what}"));
        fs::write(file("hosts"), addresses.join("\n"))?;
        fs::write(file("token"), "open sesame\n")?;
        Ok(Self {
            site,
            name: name.to_owned(),
            hosts: file("hosts"),
            token: file("token"),
            runs: addresses.iter().map(|_| None).collect(),
            addresses,
        })
    }

    /// The same, where the others find process 0 at `address`, which is not where it listens.
    pub fn find_first_at(&mut self, address: &str) -> Result<()> {
        let mut addresses = self.addresses.clone();
        address.clone_into(&mut addresses[0]);
        fs::write(&self.hosts, addresses.join("\n"))?;
        Ok(())
    }

    /// Gives the processes started from now on another token.
    pub fn set_token(&mut self, token: &str) -> Result<()> {
        Ok(fs::write(&self.token, token)?)
    }

    /// The log of a process.
    fn log(&self, process: usize) -> PathBuf {
        self.site.path().join(format!("{}-{process}.log", self.name))
    }

    /// What is run as `process`, with further arguments.
    pub fn program(&self, process: usize, arguments: &[&str]) -> Program {
        let hosts = self.hosts.display().to_string();
        let process_number = process.to_string();
        let token = format!("cluster.token.file={}", self.token.display());
        let own = ["--hosts", &hosts, "--process", &process_number, "--set", &token];
        self.site
            .program_logging(self.log(process), &[&own[..], arguments].concat())
    }

    /// Starts one process.
    pub fn start_one(&mut self, process: usize, arguments: &[&str]) -> Result<()> {
        let run = Run::start(self.program(process, arguments), self.log(process))?;
        self.runs[process] = Some(run);
        Ok(())
    }

    /// Starts all, the last one first, and waits until they have met.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        for process in (0..self.addresses.len()).rev() {
            self.start_one(process, arguments)?;
        }
        self.until_whole()
    }

    /// Waits until all have met.
    pub fn until_whole(&mut self) -> Result<()> {
        for run in self.runs.iter_mut().flatten() {
            let log = run.log().to_owned();
            let begin = run.begin();
            run.until("the cluster is whole", || {
                let text = fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(text.get(begin..).unwrap_or_default()).into_owned();
                Ok(text.contains(WHOLE))
            })?;
        }
        Ok(())
    }

    /// A process that runs.
    pub fn run(&mut self, process: usize) -> Result<&mut Run> {
        self.runs[process].as_mut().context("it does not run")
    }

    /// Waits until `ready`; an error if any process ends before.
    pub fn until(&mut self, what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let others: Vec<_> = self.runs.iter().flatten().collect();
        ensure!(!others.is_empty(), "nothing runs");
        let limit = Duration::from_secs(150);
        dbb_test_services::wait_until(what, limit, || {
            for run in self.runs.iter().flatten() {
                run.ensure_running()?;
            }
            ready()
        })
        .with_context(|| self.texts())
    }

    /// What all have written.
    pub fn texts(&self) -> String {
        let texts =
            self.runs.iter().enumerate().filter_map(|(process, run)| {
                Some(format!("--- process {process}\n{}", run.as_ref()?.text()))
            });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Waits until a process has ended by itself.
    pub fn end(&mut self, process: usize) -> Result<Ended> {
        self.runs[process].take().context("it does not run")?.end()
    }

    /// Waits until all that run have ended; how, and how long the last took.
    pub fn end_all(&mut self) -> Result<(Vec<Ended>, Duration)> {
        let begun = Instant::now();
        let ended = self.runs.iter_mut().filter_map(Option::take).map(Run::end);
        Ok((ended.collect::<Result<Vec<_>>>()?, begun.elapsed()))
    }

    /// Asks one process to stop, and waits until all have ended well.
    pub fn terminate(&mut self, process: usize) -> Result<Vec<Ended>> {
        self.run(process)?.signal("TERM")?;
        let (ended, _) = self.end_all()?;
        ended.into_iter().map(|ended| ended.with(0)).collect()
    }
}
