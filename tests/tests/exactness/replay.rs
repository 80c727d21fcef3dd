//! One run of `dbb replay` in a folder of its own, as one process or as several.

use anyhow::{Context, Result, ensure};
use dbb_test_services::{free_port, scratch};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The program, as built beside these tests.
const DBB: &str = env!("CARGO_BIN_EXE_dbb_under_test");

/// A folder to replay in.
pub(crate) struct Replay {
    folder: tempfile::TempDir,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: i32,
    /// Standard error.
    pub(crate) told: String,
}

impl Replay {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            folder: scratch("replay")?,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes lines to a file; its path.
    pub(crate) fn file<L: AsRef<str>>(
        &self,
        name: &str,
        lines: impl IntoIterator<Item = L>,
    ) -> Result<PathBuf> {
        let path = self.path().join(name);
        let mut text = String::new();
        for line in lines {
            text.push_str(line.as_ref());
            text.push('\n');
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs it with these arguments, separated by spaces, in the folder.
    pub(crate) fn run(&self, arguments: &str) -> Result<Ended> {
        self.start(arguments)?.end()
    }

    /// Runs it and expects it to end well.
    pub(crate) fn run_well(&self, arguments: &str) -> Result<Ended> {
        let ended = self.run(arguments)?;
        ensure!(ended.status == 0, "{arguments}: {}: {}", ended.status, ended.told);
        Ok(ended)
    }

    /// Runs it as so many processes, which all read and write the same files.
    pub(crate) fn run_as(&self, processes: usize, arguments: &str) -> Result<()> {
        let hosts: Vec<String> = (0..processes)
            .map(|_| Ok(format!("127.0.0.1:{}", free_port()?)))
            .collect::<Result<_>>()?;
        self.file("hosts", &hosts)?;
        let running: Vec<Running> = (0..processes)
            .map(|process| self.start(&format!("{arguments} --hosts hosts --process {process}")))
            .collect::<Result<_>>()?;
        for running in running {
            let ended = running.end()?;
            ensure!(ended.status == 0, "{arguments}: {}: {}", ended.status, ended.told);
        }
        Ok(())
    }

    fn start(&self, arguments: &str) -> Result<Running> {
        let child = Command::new(DBB)
            .arg("replay")
            .args(arguments.split_whitespace())
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start dbb")?;
        Ok(Running(Some(child)))
    }

    /// The rows of a file of lines.
    pub(crate) fn rows(&self, path: &str) -> Result<Vec<Value>> {
        let path = self.path().join(path);
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// The bytes of each file in a folder.
    pub(crate) fn files(&self, folder: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        fs::read_dir(self.path().join(folder))?
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok((name, fs::read(entry.path())?))
            })
            .collect()
    }
}

/// A process that is killed if nobody waits for it.
struct Running(Option<Child>);

impl Running {
    fn end(mut self) -> Result<Ended> {
        let child = self.0.take().context("it was waited for")?;
        let output = child.wait_with_output()?;
        Ok(Ended {
            status: output.status.code().unwrap_or(-1),
            told: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
