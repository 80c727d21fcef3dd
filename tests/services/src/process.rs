//! A program run under a supervisor that ends it when this process ends, be it by SIGKILL.
//!
//! The supervisor is a small shell script (`supervise.sh`) whose standard input is a pipe that only
//! this process holds. When the pipe closes, the script ends the program and removes its folder.

use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const SUPERVISOR: &str = include_str!("supervise.sh");

/// What to run, and how it is to end.
#[derive(Debug, Clone)]
pub struct Program {
    command: Vec<OsString>,
    log: PathBuf,
    environment: Vec<(OsString, OsString)>,
    working_folder: Option<PathBuf>,
    user: Option<(u32, u32)>,
    last_signal: &'static str,
    remove: Option<PathBuf>,
}

impl Program {
    /// `program`, with standard output and standard error appended to `log`.
    pub fn new(program: impl Into<OsString>, log: impl Into<PathBuf>) -> Self {
        Self {
            command: vec![program.into()],
            log: log.into(),
            environment: Vec::new(),
            working_folder: None,
            user: None,
            last_signal: "KILL",
            remove: None,
        }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.push(argument.into());
        self
    }

    /// More arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The folder it starts in.
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.working_folder = Some(folder.into());
        self
    }

    /// Runs it as this user and group, by number.
    pub fn user(mut self, user: u32, group: u32) -> Self {
        self.user = Some((user, group));
        self
    }

    /// The signal that ends it when the handle is dropped or this process has gone; SIGKILL by
    /// default. `name` has no `SIG` in front.
    pub fn last_signal(mut self, name: &'static str) -> Self {
        self.last_signal = name;
        self
    }

    /// A folder to remove when the program has been ended so.
    pub fn remove(mut self, folder: impl Into<PathBuf>) -> Self {
        self.remove = Some(folder.into());
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Process> {
        let name = self.command[0].to_string_lossy().into_owned();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SUPERVISOR, "supervise"])
            .arg(&self.log)
            .arg(self.last_signal)
            .arg(self.remove.as_deref().unwrap_or(Path::new("")))
            .args(&self.command)
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not this process's own: whoever reads that would wait for the supervisor too.
            .stderr(Stdio::null())
            // Ctrl-C is for the tests; the supervisor must outlive them for a moment.
            .process_group(0);
        if let Some(folder) = self.working_folder {
            command.current_dir(folder);
        }
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        let mut supervisor = command
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        let words = supervisor.stdin.take().context("no pipe to the supervisor")?;
        let answers = supervisor.stdout.take().context("no pipe from the supervisor")?;
        let mut process = Process {
            name,
            log: self.log,
            id: 0,
            status: None,
            words: Some(words),
            answers: BufReader::new(answers),
            supervisor,
        };
        process.id = process
            .answer()?
            .parse()
            .context("the supervisor gave no process id")?;
        Ok(process)
    }
}

/// A running program. Dropping the handle ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    id: u32,
    status: Option<i32>,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    supervisor: Child,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends a signal, named without `SIG`: `KILL`, `STOP`, `CONT`, `TERM`. One that has ended already stays ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        if self.status.is_none() {
            self.ask(name)?;
        }
        Ok(())
    }

    /// Kills it with SIGKILL and waits until it has gone.
    pub fn kill(&mut self) -> Result<()> {
        self.signal("KILL")?;
        self.wait().map(drop)
    }

    /// Waits until it ends by itself and returns its exit status; 128 and the signal's number if a signal ended it.
    pub fn wait(&mut self) -> Result<i32> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self
            .ask("wait")?
            .parse()
            .context("the supervisor gave no exit status")?;
        self.status = Some(status);
        Ok(status)
    }

    /// True until it has ended.
    pub fn is_running(&self) -> bool {
        // A zombie has ended: nobody has asked for its status yet.
        self.status.is_none()
            && fs::read_to_string(format!("/proc/{}/stat", self.id))
                .ok()
                .and_then(|stat| Some(stat.rsplit_once(") ")?.1.chars().next()? != 'Z'))
                .unwrap_or(false)
    }

    /// An error with the end of its log, unless it is running.
    pub fn ensure_running(&self) -> Result<()> {
        ensure!(
            self.is_running(),
            "{} has ended; its log ends with:\n{}",
            self.name,
            self.log_end()
        );
        Ok(())
    }

    /// The last 40 lines of what it wrote.
    pub fn log_end(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Leaves the folder given to [`Program::remove`] where it is: another start needs it.
    pub(crate) fn leave_folder(&mut self) -> Result<()> {
        self.ask("leave").map(drop)
    }

    fn ask(&mut self, word: &str) -> Result<String> {
        let Some(words) = &mut self.words else {
            bail!("{} has no supervisor", self.name);
        };
        writeln!(words, "{word}").with_context(|| format!("the supervisor of {} has gone", self.name))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure!(read > 0, "the supervisor of {} has gone", self.name);
        Ok(line.trim_end().into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.words.take());
        // It has nothing left to do but to end the program; not waiting would leave a zombie.
        let _ = self.supervisor.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{scratch, wait_until};
    use std::time::Duration;

    #[test]
    fn a_program_that_ends_by_itself_gives_its_status_and_its_words() {
        let folder = scratch("process").unwrap();
        let log = folder.path().join("log");
        let mut process = Program::new("sh", &log)
            .args(["-c", "echo \"$WORD\"; exit 7"])
            .env("WORD", "good bye");
        process = process.current_dir(folder.path());
        let mut process = process.start().unwrap();
        assert_eq!(process.wait().unwrap(), 7);
        assert!(!process.is_running());
        assert_eq!(process.log_end(), "good bye");
        assert!(
            process
                .ensure_running()
                .unwrap_err()
                .to_string()
                .contains("good bye")
        );
    }

    #[test]
    fn a_killed_program_has_gone_when_kill_returns() {
        let folder = scratch("process").unwrap();
        let mut process = Program::new("sleep", folder.path().join("log"))
            .arg("1000")
            .start()
            .unwrap();
        assert!(process.is_running());
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap(), 128 + 9);
        assert!(!Path::new(&format!("/proc/{}", process.id())).exists());
    }

    /// The test process is played by a shell that starts a supervisor of its own and is then killed.
    #[test]
    fn a_program_ends_and_its_folder_goes_when_its_test_process_is_killed() {
        let folder = scratch("process").unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let script = folder.path().join("supervise.sh");
        fs::write(&script, SUPERVISOR).unwrap();
        let pid = folder.path().join("pid");
        let line = format!(
            "sleep 1000 | sh {} log KILL {} sleep 1000 >{}",
            script.display(),
            data.display(),
            pid.display()
        );
        // Pipe: the first sleep holds the pipe, as a test process would.
        let mut played = Command::new("sh")
            .args(["-c", &line])
            .current_dir(folder.path())
            .process_group(0)
            .spawn()
            .unwrap();
        wait_until("the program runs", Duration::from_secs(20), || {
            Ok(fs::read(&pid).is_ok_and(|t| t.ends_with(b"\n")))
        })
        .unwrap();
        let program = fs::read_to_string(&pid).unwrap().trim().to_owned();
        assert!(Path::new("/proc").join(&program).exists());
        let holder = format!("/proc/{}/task/{}/children", played.id(), played.id());
        let children = fs::read_to_string(holder).unwrap();
        let holder = children.split_whitespace().next().unwrap();
        assert!(
            Command::new("sh")
                .args(["-c", &format!("kill -KILL {holder}")])
                .status()
                .unwrap()
                .success()
        );
        wait_until("the program has gone", Duration::from_secs(20), || {
            Ok(!Path::new("/proc").join(&program).exists() && !data.exists())
        })
        .unwrap();
        played.wait().unwrap();
    }
}
