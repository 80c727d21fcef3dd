//! A private PostgreSQL server on the loopback interface.
//!
//! Its data is in the system's folder for temporary files, because the server refuses to run as root
//! and the user that it then runs as may not be able to look into the clone.

use crate::{Process, Program, free_port, wait_until};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

/// A running server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    port: u16,
    user: Option<(u32, u32)>,
    programs: PathBuf,
    // Last: the folder goes when the server has gone.
    folder: tempfile::TempDir,
}

impl Postgres {
    /// The superuser of the server; no password is asked for.
    pub const USER: &str = "postgres";

    /// A new server; returns when it answers.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("dbb-postgres-").tempdir()?;
        let user = server_user(folder.path())?;
        if let Some((user, group)) = user {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let mut postgres = Self {
            process: None,
            port: free_port()?,
            user,
            programs,
            folder,
        };
        let status = postgres
            .program("initdb")
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--username",
                Self::USER,
                "-D",
            ])
            .arg(postgres.data())
            .start()?
            .wait()?;
        ensure!(
            status == 0,
            "initdb failed:\n{}",
            fs::read_to_string(postgres.log())?
        );
        postgres.start_again()?;
        Ok(postgres)
    }

    /// The one server of this test process, started at the first call; tests make databases of their own.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: LazyLock<Result<Postgres>> = LazyLock::new(Postgres::start);
        SHARED.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// `postgresql://postgres@127.0.0.1:PORT/DATABASE`.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{}@127.0.0.1:{}/{database}", Self::USER, self.port)
    }

    /// Makes a database that a Butler registry can live in (extension `btree_gist`); its URL.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        self.sql(name, "CREATE EXTENSION btree_gist")?;
        Ok(self.url(name))
    }

    /// Runs one SQL statement; its rows, fields separated by `|`.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let answer = Command::new(self.programs.join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--set=ON_ERROR_STOP=1",
                "--command",
            ])
            .args([statement, &self.url(database)])
            .output()
            .context("could not start psql")?;
        ensure!(
            answer.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&answer.stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&answer.stdout).trim_end().into())
    }

    /// Kills the server with SIGKILL, and returns once its sessions have ended, too: each notices a moment later that
    /// the first process is gone, and answers until then.
    pub fn kill(&mut self) -> Result<()> {
        let sessions = children(self.running()?.id());
        self.running()?.kill()?;
        wait_until(
            "the sessions of the killed server end",
            Duration::from_secs(30),
            || Ok(!sessions.iter().any(|pid| is_there(*pid))),
        )
    }

    /// Stops all processes of the server where they are, as a disk that hangs does: it takes connections and bytes, and
    /// answers nothing, until what is returned is dropped.
    pub fn freeze(&mut self) -> Result<Frozen> {
        let first = self.running()?.id();
        signal("STOP", &[first])?;
        let mut all = children(first);
        signal("STOP", &all)?;
        all.push(first);
        Ok(Frozen(all))
    }

    /// Sends a signal, named without `SIG`, to the server's first process; its sessions are others.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        self.running()?.signal(name)
    }

    /// Stops the server in good order, ending all sessions.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.running()?;
        process.signal("INT")?;
        process.wait().map(drop)
    }

    /// Starts the server again with its data and port after [`Postgres::kill`] or [`Postgres::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        let mut tries = 0;
        wait_until("PostgreSQL answers", Duration::from_secs(60), || {
            if self.process.as_ref().is_none_or(|process| !process.is_running()) {
                // Sessions of a killed server hold its memory until they notice.
                ensure!(
                    tries < 50,
                    "PostgreSQL does not start:\n{}",
                    fs::read_to_string(self.log())?
                );
                tries += 1;
                if let Some(mut old) = self.process.take() {
                    old.leave_folder()?;
                }
                self.process = Some(self.server().start()?);
            }
            Ok(self.sql("postgres", "SELECT 1").is_ok())
        })
    }

    /// What the server logged last.
    pub fn log_end(&self) -> String {
        self.process.as_ref().map(Process::log_end).unwrap_or_default()
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("PostgreSQL was never started")
    }

    fn server(&self) -> Program {
        self.program("postgres")
            .arg("-D")
            .arg(self.data())
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
            ])
            .arg(format!(
                "unix_socket_directories={}",
                self.folder.path().display()
            ))
            // Its processes die here, the machine does not: what was written stays without fsync.
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            // For whoever follows the changes of a table.
            .args(["-c", "wal_level=logical", "-c", "max_replication_slots=20"])
            .last_signal("QUIT")
            .remove(self.folder.path())
    }

    fn program(&self, name: &str) -> Program {
        let program = Program::new(self.programs.join(name), self.log()).current_dir(self.folder.path());
        match self.user {
            Some((user, group)) => program.user(user, group),
            None => program,
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Processes of a server that are stopped; they go on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        // One that has gone needs no signal.
        let _ = signal("CONT", &self.0);
    }
}

fn signal(name: &str, processes: &[u32]) -> Result<()> {
    for pid in processes {
        Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .output()
            .context("could not start kill")?;
    }
    Ok(())
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// True until it has ended; one that nobody has asked how has ended.
fn is_there(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// The state of a process, and its parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// The folder of the newest server programs.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    match found.pop() {
        Some((_, bin)) => Ok(bin),
        None => bail!("PostgreSQL's server programs are missing from /usr/lib/postgresql: run `make setup`"),
    }
}

/// The user the server runs as: whoever we are, but never root. `mine` is a folder that we own.
pub(crate) fn server_user(mine: &Path) -> Result<Option<(u32, u32)>> {
    if fs::metadata(mine)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    for name in ["postgres", "nobody"] {
        let line = users.lines().find(|line| line.split(':').next() == Some(name));
        let fields: Vec<&str> = line.unwrap_or_default().split(':').collect();
        if let [_, _, user, group, ..] = fields[..] {
            return Ok(Some((user.parse()?, group.parse()?)));
        }
    }
    bail!("no user `postgres` or `nobody` to run PostgreSQL as: run `make setup`")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_killed_server_comes_back_with_what_was_committed() {
        let mut postgres = Postgres::start().unwrap();
        postgres.create_database("site").unwrap();
        postgres.sql("site", "CREATE TABLE t (n int)").unwrap();
        for n in 0..3 {
            postgres
                .sql("site", &format!("INSERT INTO t VALUES ({n})"))
                .unwrap();
            postgres.kill().unwrap();
            assert!(postgres.sql("site", "SELECT 1").is_err());
            postgres.start_again().unwrap();
        }
        postgres.stop().unwrap();
        postgres.start_again().unwrap();
        assert_eq!(
            postgres.sql("site", "SELECT count(*), max(n) FROM t").unwrap(),
            "3|2"
        );
        let folder = postgres.folder.path().to_owned();
        drop(postgres);
        assert!(!folder.exists());
    }
}
