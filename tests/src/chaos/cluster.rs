//! Cluster: the processes of one site, and who starts them again, as a service manager would.

use super::proxy::Proxy;
use crate::{Run, Site};
use anyhow::{Result, bail, ensure};
use dbb_test_services::free_port;
use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// A process that was not heard of for as long is given up by the others.
pub(super) const PATIENCE_SECONDS: u64 = 5;
/// Longest that processes may go on after one of them has gone.
const END: Duration = Duration::from_secs(30);
/// Longest that an orderly end may take.
const DRAIN: Duration = Duration::from_secs(90);

/// See the module.
pub(super) struct Cluster<'s> {
    site: &'s Site,
    runs: Vec<Run>,
    /// Where each process answers SQL.
    pub(super) sql: Vec<String>,
    http: Vec<String>,
    listens: Vec<String>,
    /// The links to each process.
    pub(super) links: Vec<Proxy>,
    hosts: Option<PathBuf>,
    /// Workers of each process, from the next start on.
    pub(super) workers: usize,
    /// Starts of the whole.
    pub(super) starts: usize,
    /// At the next start: which process ends by itself, and at which point.
    pub(super) fault: Option<(usize, String)>,
    /// One of those that run does.
    faulty: bool,
}

impl<'s> Cluster<'s> {
    /// One of so many processes, not started yet.
    pub(super) fn new(site: &'s Site, processes: usize) -> Result<Self> {
        let ports = |count: usize| -> Result<Vec<String>> {
            (0..count)
                .map(|_| Ok(format!("127.0.0.1:{}", free_port()?)))
                .collect()
        };
        let listens = ports(processes)?;
        let links = listens
            .iter()
            .cloned()
            .map(Proxy::to)
            .collect::<Result<Vec<_>>>()?;
        let hosts = site.path().join("hosts");
        let lines: Vec<&str> = links.iter().map(Proxy::address).collect();
        fs::write(&hosts, lines.join("\n"))?;
        fs::write(site.path().join("token"), "open sesame\n")?;
        Ok(Self {
            site,
            runs: Vec::new(),
            sql: ports(processes)?,
            http: ports(processes)?,
            listens,
            links,
            hosts: (processes > 1).then_some(hosts),
            workers: 1,
            starts: 0,
            fault: None,
            faulty: false,
        })
    }

    pub(super) fn processes(&self) -> usize {
        self.sql.len()
    }

    fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let workers = self.workers.to_string();
        let fault = self.fault.take();
        self.faulty = fault.is_some();
        for process in 0..self.processes() {
            let mut sets = vec![
                format!("sql.listen={}", self.sql[process]),
                format!("http.listen={}", self.http[process]),
            ];
            let mut program = self.site.program(&["--workers", &workers]);
            if let Some(hosts) = &self.hosts {
                program = program.arg("--hosts").arg(hosts);
                program = program.args(["--process".to_owned(), process.to_string()]);
                let token = self.site.path().join("token");
                sets.push(format!("cluster.listen={}", self.listens[process]));
                sets.push(format!("cluster.token={{file: {}}}", token.display()));
                sets.push(format!("cluster.patience_seconds={PATIENCE_SECONDS}"));
            }
            for set in sets {
                program = program.arg("--set").arg(set);
            }
            if let Some((_, point)) = fault.as_ref().filter(|(of, _)| *of == process) {
                program = program.env("DBB_FAULT", point);
            }
            self.runs.push(self.site.start_program(program)?);
        }
        Ok(())
    }

    /// Starts all, if one has gone: then all are to go by themselves. What is wrong with how they went, if anything.
    pub(super) fn mend(&mut self) -> Result<Vec<String>> {
        if !self.runs.is_empty() && self.is_whole() {
            return Ok(Vec::new());
        }
        let faulty = self.faulty;
        let wrong = self.ended(END, |status| lost(status, faulty))?;
        self.start()?;
        Ok(wrong)
    }

    /// Ends all in good order.
    pub(super) fn drain(&mut self) -> Result<Vec<String>> {
        let whole = self.ask_to_stop()?;
        self.drained(whole)
    }

    /// Asks for an end in good order; false if one has gone already, and takes the others along.
    pub(super) fn ask_to_stop(&mut self) -> Result<bool> {
        let whole = self.is_whole();
        if let Some(run) = self.runs.first_mut() {
            run.signal("TERM")?;
        }
        Ok(whole)
    }

    /// Waits for that end; where one was lost, for those of the others.
    pub(super) fn drained(&mut self, whole: bool) -> Result<Vec<String>> {
        let faulty = self.faulty;
        self.ended(DRAIN, |status| {
            matches!(status, 0 | 1) || (!whole || faulty) && lost(status, faulty)
        })
    }

    fn is_whole(&self) -> bool {
        self.runs.iter().all(Run::is_running)
    }

    /// Waits until all have ended; those that do not are an error, and killed.
    fn ended(&mut self, limit: Duration, is_right: impl Fn(i32) -> bool) -> Result<Vec<String>> {
        let deadline = Instant::now() + limit;
        while self.runs.iter().any(Run::is_running) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let mut wrong = Vec::new();
        let mut hangs = Vec::new();
        for (process, run) in self.runs.drain(..).enumerate() {
            if run.is_running() {
                hangs.push(format!(
                    "process {process} does not end; it wrote\n{}",
                    last(&run.text())
                ));
                run.kill()?;
                continue;
            }
            let ended = run.end()?;
            if !is_right(ended.status) {
                let text = last(&ended.text);
                wrong.push(format!("process {process} ended with {}:\n{text}", ended.status));
            }
        }
        ensure!(hangs.is_empty(), "{}", hangs.join("\n"));
        Ok(wrong)
    }

    /// Kills all that is left.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.runs.drain(..).try_for_each(Run::kill)
    }

    /// A process that runs.
    pub(super) fn process(&mut self, process: usize) -> Result<&mut Run> {
        match self.runs.get_mut(process) {
            Some(run) => Ok(run),
            None => bail!("process {process} does not run"),
        }
    }

    /// The Python workers of all processes.
    pub(super) fn butler_workers(&self) -> Vec<u32> {
        self.runs.iter().flat_map(Run::workers).collect()
    }
}

/// True for the ends of processes one of which was lost; 134 is that of a point that was come to.
fn lost(status: i32, faulty: bool) -> bool {
    matches!(status, 69 | 75 | 137) || faulty && status == 134
}

fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
