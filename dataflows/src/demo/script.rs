//! The Python that makes a site and asks its Butler, carried inside the binary.
//!
//! ```text
//!   files compiled in --> temporary folder --> python site.py COMMAND ...
//! ```
//!
//! State: the folder, removed when dropped.

use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const FILES: [(&str, &str); 10] = [
    ("site.py", include_str!("site.py")),
    ("demosite/__init__.py", include_str!("demosite/__init__.py")),
    (
        "demosite/configuration.py",
        include_str!("demosite/configuration.py"),
    ),
    ("demosite/faults.py", include_str!("demosite/faults.py")),
    ("demosite/hermes.py", include_str!("demosite/hermes.py")),
    ("demosite/oracle.py", include_str!("demosite/oracle.py")),
    ("demosite/recording.py", include_str!("demosite/recording.py")),
    ("demosite/repo.py", include_str!("demosite/repo.py")),
    ("demosite/stock.py", include_str!("demosite/stock.py")),
    ("demosite/world.py", include_str!("demosite/world.py")),
];

/// The unpacked program and the interpreter that runs it.
pub struct SiteScript {
    python: PathBuf,
    folder: tempfile::TempDir,
}

impl SiteScript {
    /// Unpacks it for this interpreter, which must have `lsst.daf.butler`.
    ///
    /// # Errors
    ///
    /// The interpreter does not start or has no Butler; the temporary folder cannot be written.
    pub fn unpack(python: &Path) -> Result<Self> {
        let found = Command::new(python)
            .args(["-c", "import lsst.daf.butler"])
            .stdin(Stdio::null())
            .output();
        match found {
            Ok(output) if output.status.success() => {}
            Ok(_) => bail!(
                "{} has no lsst.daf.butler: `make setup` makes a Python that has",
                python.display()
            ),
            Err(error) => bail!(
                "{} does not start ({error}): `make setup` makes a Python",
                python.display()
            ),
        }
        let folder = tempfile::tempdir().context("could not make a temporary folder")?;
        for (name, text) in FILES {
            let path = folder.path().join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(Self {
            python: python.into(),
            folder,
        })
    }

    /// Runs one of its commands; whether it may fail is for the caller to say.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        Command::new(&self.python)
            .arg(self.folder.path().join("site.py"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("could not start {}", self.python.display()))
    }

    /// Runs a command that must succeed; its standard output.
    ///
    /// # Errors
    ///
    /// It failed; with what it said.
    pub fn must<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        let output = self.run(arguments)?;
        if !output.status.success() {
            bail!(
                "the site's script failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_file_of_the_script_is_carried() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/demosite");
        let mut there: Vec<String> = fs::read_dir(here)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".py"))
            .map(|name| format!("demosite/{name}"))
            .collect();
        there.push("site.py".into());
        there.sort();
        let mut carried: Vec<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        carried.sort();
        assert_eq!(carried, there);
    }

    #[test]
    fn a_python_without_a_butler_is_told_apart() {
        let Err(error) = SiteScript::unpack(Path::new("/bin/false")) else {
            panic!("it was taken")
        };
        assert!(error.to_string().contains("make setup"), "{error}");
        let Err(error) = SiteScript::unpack(Path::new("/no/such/python")) else {
            panic!("it was taken")
        };
        assert!(error.to_string().contains("does not start"), "{error}");
    }
}
