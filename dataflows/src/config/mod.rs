//! The configuration: read from YAML, overridden by environment and options, typed, and checked.
//!
//! ```text
//!   file --> tree with origins --(a ctrl_ingestd file is turned into ours)--> overrides --> Config --> checks
//! ```
//!
//! In:  a file, the environment, options `--set`.
//! Out: [`Loaded`], or a [`ConfigError`] with every problem found: file, line, key, and the nearest known key.

pub mod checkpoint;
pub mod ctrl_ingestd;
pub mod federation;
pub mod hub;
pub mod node;
pub mod overrides;
pub mod problem;
pub mod reference;
pub mod settings;
pub mod typed;
pub mod validate;
pub mod views;

pub use checkpoint::Checkpoint;
pub use federation::{Gaps, Outcomes};
pub use hub::{Asking, Hub};
pub use problem::{ConfigError, Origin, Problem};
pub use settings::{
    Config, Http, Identify, Limits, Log, LogFormat, LogLevel, Prefix, Route, RseSettings, Shutdown,
};
pub use views::Views;

use node::Node;
use std::path::{Path, PathBuf};

/// The keys of the first level.
pub const SECTIONS: [&str; 21] = [
    "source",
    "ledger",
    "rses",
    "routes",
    "repositories",
    "hub",
    "record",
    "gaps",
    "outcomes",
    "views",
    "checkpoint",
    "batching",
    "workers",
    "cluster",
    "identify",
    "instance",
    "limits",
    "shutdown",
    "http",
    "sql",
    "log",
];

/// Whose file it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Ours.
    Native,
    /// ctrl_ingestd's.
    CtrlIngestd,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The file.
    pub path: PathBuf,
    /// Whose file it was.
    pub form: Form,
    /// What is probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads the file at `path` with the overrides of this process's environment and of `sets` (`a.b=c`).
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load(path: &Path, sets: &[String]) -> Result<Loaded, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let origin = Origin::File {
            file: file.as_str().into(),
            line: 0,
            column: 0,
        };
        Problem::new("", origin, format!("could not be read: {error}"))
    })?;
    // A variable whose name or value is not UTF-8 is none of ours.
    let environment =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    parse(dbb_events::without_mark(&text), &file, environment, sets)
}

/// Reads the configuration in `text`, which is called `file` in messages.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(
    text: &str,
    file: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Loaded, ConfigError> {
    let tree = Node::parse(text, node::in_file(file))?;
    let (form, (mut tree, mut warnings)) = if ctrl_ingestd::is_ctrl_ingestd(&tree) {
        (Form::CtrlIngestd, ctrl_ingestd::convert(&tree)?)
    } else {
        (Form::Native, (tree, Vec::new()))
    };
    let mut problems = Vec::new();
    match overrides::apply_environment(&mut tree, environment, &SECTIONS) {
        Ok(ignored) => warnings.extend(ignored),
        Err(error) => problems.extend(error.problems),
    }
    if let Err(error) = overrides::apply_sets(&mut tree, sets) {
        problems.extend(error.problems);
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let config: Config = typed::from_node(&tree).map_err(|problems| ConfigError { problems })?;
    let found = validate::validate(&config, &|path| tree.origin_at(path));
    warnings.extend(found.warnings);
    if found.errors.is_empty() {
        Ok(Loaded {
            config,
            path: file.into(),
            form,
            warnings,
        })
    } else {
        Err(ConfigError {
            problems: found.errors,
        })
    }
}

#[cfg(test)]
mod tests;
