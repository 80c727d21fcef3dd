//! Opens the configured source: one instance for each worker.

use super::offsets::LedgerOffsets;
use crate::config::Config;
use dbb_sources::{OffsetStore, Source, SourceError, log};
use std::sync::Arc;

/// How far behind the source is, for metrics.
pub(super) enum Lag {
    /// Files have no lag that could be known.
    Unknown,
}

impl Lag {
    /// Topic, partition and records above the committed offset; or what is wrong with the source.
    pub(super) fn read(&self) -> Result<Vec<(Arc<str>, i32, i64)>, String> {
        match self {
            Lag::Unknown => Ok(Vec::new()),
        }
    }
}

/// Opens it. A run that is to end once does not follow growing files, and reads topics to the end they
/// have now.
pub(super) fn open(
    config: &Config,
    run_once: bool,
    offsets: Arc<LedgerOffsets>,
) -> Result<(Vec<Box<dyn Source>>, Lag), SourceError> {
    let workers = 0..config.workers;
    if let Some(settings) = &config.source.log {
        let mut settings = settings.clone();
        settings.follow &= !run_once;
        let offsets: Arc<dyn OffsetStore> = offsets;
        return Ok((log::open(&settings, workers, config.workers, offsets)?, Lag::Unknown));
    }
    Err(SourceError::Configuration("the configuration names no source".into()))
}
