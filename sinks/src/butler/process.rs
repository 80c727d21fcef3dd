//! The worker as a process: started, asked, watched, killed.
//!
//! ```text
//!   ask --> writer thread --> stdin | worker | stdout --> reader thread --> answer, or silence
//!                                      stderr --> log thread --> tracing
//! ```
//!
//! Neither of its outputs costs more memory than a line may have, whatever it writes (`lines`). How much memory it has
//! itself it limits at its start, by `worker.memory_mib`.
//!
//! One request is in flight at a time. Whatever goes wrong, the whole process group is killed:
//! the configured command may be a shell that has started the Python.

use super::{
    ButlerError, ButlerSettings,
    lines::{Line, read_line},
    protocol::{About, Ask, Hello, PROTOCOL, Reply},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::{
    collections::VecDeque,
    fs,
    io::{BufReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tracing::{debug, info, warn};

/// The worker's files, by path below its folder.
const FILES: &[(&str, &str)] = &[
    (
        "dbb_butler_worker.py",
        include_str!("worker/dbb_butler_worker.py"),
    ),
    (
        "dbb_worker/__init__.py",
        include_str!("worker/dbb_worker/__init__.py"),
    ),
    ("dbb_worker/allow.py", include_str!("worker/dbb_worker/allow.py")),
    ("dbb_worker/batch.py", include_str!("worker/dbb_worker/batch.py")),
    (
        "dbb_worker/bounded.py",
        include_str!("worker/dbb_worker/bounded.py"),
    ),
    (
        "dbb_worker/dimensions.py",
        include_str!("worker/dbb_worker/dimensions.py"),
    ),
    (
        "dbb_worker/faults.py",
        include_str!("worker/dbb_worker/faults.py"),
    ),
    ("dbb_worker/files.py", include_str!("worker/dbb_worker/files.py")),
    (
        "dbb_worker/forget.py",
        include_str!("worker/dbb_worker/forget.py"),
    ),
    (
        "dbb_worker/ingest.py",
        include_str!("worker/dbb_worker/ingest.py"),
    ),
    ("dbb_worker/items.py", include_str!("worker/dbb_worker/items.py")),
    ("dbb_worker/raw.py", include_str!("worker/dbb_worker/raw.py")),
    (
        "dbb_worker/records.py",
        include_str!("worker/dbb_worker/records.py"),
    ),
    (
        "dbb_worker/repository.py",
        include_str!("worker/dbb_worker/repository.py"),
    ),
    ("dbb_worker/scan.py", include_str!("worker/dbb_worker/scan.py")),
    ("dbb_worker/serve.py", include_str!("worker/dbb_worker/serve.py")),
    (
        "dbb_worker/verify.py",
        include_str!("worker/dbb_worker/verify.py"),
    ),
];

/// Longest answer, in bytes: ten thousand files, each with some kilobytes of what it provides.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Longest line of its log that is kept, in bytes.
const LONGEST_LOG: usize = 16 * 1024;

/// Lines of its log that a report of its death quotes.
const LAST_WORDS: usize = 5;

/// A running worker with its repository open.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    to: Option<Sender<Vec<u8>>>,
    from: Receiver<Line>,
    log: Arc<Mutex<VecDeque<String>>>,
    log_reader: JoinHandle<()>,
    repository: String,
    about: About,
    requests: u64,
    // Python imports late: its files stay as long as it runs.
    _files: TempDir,
}

impl Worker {
    /// Starts the configured command and waits until it has opened the repository.
    pub(super) fn start(name: &str, settings: &ButlerSettings) -> Result<Self, ButlerError> {
        let start_error = |source| ButlerError::Start {
            command: settings.worker.command.join(" "),
            source,
        };
        let Some((program, arguments)) = settings.worker.command.split_first() else {
            return Err(ButlerError::Settings {
                field: "worker.command",
                problem: "names no program".into(),
            });
        };
        let files = write_files().map_err(start_error)?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(files.path().join(FILES[0].0))
            .envs(&settings.worker.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: killed as one, and spared by a Ctrl-C that asks `dbb` to drain.
            .process_group(0)
            .spawn()
            .map_err(start_error)?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (to, from, log_reader) = attach(&mut child, name, &log).map_err(start_error)?;
        let mut worker = Self {
            child,
            to: Some(to),
            from,
            log,
            log_reader,
            repository: settings.butler.clone(),
            about: About::default(),
            requests: 0,
            _files: files,
        };
        let limit = Duration::from_secs(settings.worker.start_timeout_s);
        let hello: Hello = worker.exchange(
            &Ask::Open {
                butler: &settings.butler,
                transfer: &settings.transfer,
                removal: settings.removal,
                verify: &settings.verify,
                allow: &settings.allow,
                memory_mib: settings.worker.memory_mib,
            },
            limit,
        )?;
        if hello.proto != PROTOCOL {
            return Err(ButlerError::Protocol {
                problem: format!("it speaks version {}, not {PROTOCOL}", hello.proto),
            });
        }
        match hello.fatal {
            Some(fatal) if fatal.class == "db_down" => Err(worker.down(fatal.detail)),
            Some(fatal) => Err(ButlerError::Open {
                repository: worker.repository.clone(),
                detail: fatal.detail,
            }),
            None => {
                worker.about = hello.about;
                worker.say_hello(name);
                Ok(worker)
            }
        }
    }

    /// What it said of itself.
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// The process, for a test that kills it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks and waits for the answer, at most `limit`. After an error other than
    /// [`ButlerError::Down`] or [`ButlerError::Failed`] the worker is of no more use.
    pub(super) fn ask<'a>(
        &mut self,
        ask: impl FnOnce(u64) -> Ask<'a>,
        limit: Duration,
    ) -> Result<Reply, ButlerError> {
        self.requests += 1;
        let id = self.requests;
        let reply: Reply = self.exchange(&ask(id), limit)?;
        if reply.id != id {
            return Err(ButlerError::Protocol {
                problem: format!("it answers request {} instead of {id}", reply.id),
            });
        }
        match reply.fatal {
            Some(fatal) if fatal.class == "db_down" => Err(self.down(fatal.detail)),
            Some(fatal) => Err(ButlerError::Failed { detail: fatal.detail }),
            None => Ok(reply),
        }
    }

    fn exchange<R: serde::de::DeserializeOwned>(
        &mut self,
        ask: &Ask<'_>,
        limit: Duration,
    ) -> Result<R, ButlerError> {
        let problem = |error: serde_json::Error| ButlerError::Protocol {
            problem: error.to_string(),
        };
        let mut line = serde_json::to_vec(ask).map_err(problem)?;
        line.push(b'\n');
        if self.to.as_ref().is_none_or(|to| to.send(line).is_err()) {
            return Err(self.died());
        }
        match self.from.recv_timeout(limit) {
            Ok(Line::Whole(line)) => serde_json::from_slice(&line).map_err(problem),
            Ok(Line::Cut(_)) => Err(ButlerError::Protocol {
                problem: format!("it is longer than {LONGEST_ANSWER} bytes"),
            }),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(ButlerError::Hung {
                    seconds: limit.as_secs(),
                })
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
        }
    }

    fn down(&self, detail: String) -> ButlerError {
        ButlerError::Down {
            repository: self.repository.clone(),
            detail,
        }
    }

    fn died(&mut self) -> ButlerError {
        // Its output is closed; if it lives on all the same, it is of no use.
        let (how, killed) = match self.wait(Duration::from_secs(1)) {
            Some(status) => (status.to_string(), status.signal() == Some(9)),
            None => {
                self.kill();
                ("output closed".into(), false)
            }
        };
        // What it said last may still be on its way; a child of its own may keep the pipe open.
        let start = Instant::now();
        while !self.log_reader.is_finished() && start.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(5));
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words: String = log.iter().map(|line| format!("\n  {line}")).collect();
        ButlerError::Died {
            how,
            killed,
            last_words,
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if start.elapsed() >= limit {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            // Fails only if nobody is left in it.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn say_hello(&self, name: &str) {
        let About {
            butler,
            universe,
            universe_namespace,
            skip_existing,
            has_raw_ingest_task,
            ..
        } = &self.about;
        info!(
            repository = name,
            butler,
            universe = format!("{universe_namespace} {universe}"),
            has_raw_ingest_task,
            "Butler worker is ready"
        );
        if !skip_existing {
            warn!(
                repository = name,
                butler,
                "this Butler is older than v30.0.1 and cannot skip what it has: known UUIDs are looked up before each call"
            );
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input tells it to go.
        self.to = None;
        if self.wait(Duration::from_secs(2)).is_none() {
            self.kill();
        }
    }
}

fn write_files() -> std::io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("dbb-worker-").tempdir()?;
    for (path, text) in FILES {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, text)?;
    }
    Ok(folder)
}

type Pipes = (Sender<Vec<u8>>, Receiver<Line>, JoinHandle<()>);

fn attach(child: &mut Child, name: &str, log: &Arc<Mutex<VecDeque<String>>>) -> std::io::Result<Pipes> {
    let missing = || std::io::Error::other("a pipe is missing");
    let mut stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let (to, lines) = bounded::<Vec<u8>>(1);
    thread::Builder::new().name(format!("{name}-in")).spawn(move || {
        for line in lines {
            if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
                return;
            }
        }
    })?;
    // One is waited for; a worker that says more than it was asked waits.
    let (answers, from) = bounded(1);
    thread::Builder::new()
        .name(format!("{name}-out"))
        .spawn(move || {
            let mut stdout = BufReader::with_capacity(1 << 16, stdout);
            while let Ok(Some(line)) = read_line(&mut stdout, LONGEST_ANSWER) {
                // Of what is too long the rest is not read: its writer is at an end.
                let ends = matches!(line, Line::Cut(_));
                if answers.send(line).is_err() || ends {
                    return;
                }
            }
        })?;
    let (repository, log) = (name.to_owned(), Arc::clone(log));
    let log_reader = thread::Builder::new()
        .name(format!("{name}-log"))
        .spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut goes_on = false;
            while let Ok(Some(line)) = read_line(&mut stderr, LONGEST_LOG) {
                // What follows the begin of a line that was cut is no line.
                let follows = std::mem::replace(&mut goes_on, matches!(line, Line::Cut(_)));
                if follows {
                    continue;
                }
                let (Line::Whole(line) | Line::Cut(line)) = line;
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if text.starts_with("ERROR") || text.starts_with("CRITICAL") || text.starts_with("WARNING") {
                    warn!(repository, "worker: {text}");
                } else {
                    debug!(repository, "worker: {text}");
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() == LAST_WORDS {
                    log.pop_front();
                }
                log.push_back(text);
            }
        })?;
    Ok((to, from, log_reader))
}
