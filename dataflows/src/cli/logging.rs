//! Logs: lines on standard error, for people or as JSON.

use crate::config::{Log, LogFormat, Problem};
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// Starts logging as `log` says; the variable `RUST_LOG`, where set, says what is written instead of the level.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log.level.as_str()));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = match log.format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Logs what is probably not meant in a configuration.
pub fn warn_of(warnings: &[Problem]) {
    for warning in warnings {
        match &warning.hint {
            Some(hint) => {
                tracing::warn!(at = %warning.origin, key = warning.path, hint, "{}", warning.message)
            }
            None => tracing::warn!(at = %warning.origin, key = warning.path, "{}", warning.message),
        }
    }
}
