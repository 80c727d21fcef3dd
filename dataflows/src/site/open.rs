//! Opens the configured source: one instance for each worker.

use super::offsets::LedgerOffsets;
use crate::{cluster::Place, config::Config};
use dbb_sources::{
    Extent, OffsetStore, Source, SourceError,
    kafka::{self, KafkaStatistics},
    log,
};
use std::sync::Arc;

/// How far behind the source is, for metrics.
pub(super) enum Lag {
    /// Files have no lag that could be known.
    Unknown,
    /// What the brokers say.
    Kafka(KafkaStatistics),
}

impl Lag {
    /// What the brokers say, where there are any.
    pub(super) fn statistics(&self) -> Option<KafkaStatistics> {
        match self {
            Lag::Unknown => None,
            Lag::Kafka(statistics) => Some(statistics.clone()),
        }
    }

    /// Topic, partition and records above the committed offset; or what is wrong with the source.
    pub(super) fn read(&self) -> Result<Vec<(Arc<str>, i32, i64)>, String> {
        let Lag::Kafka(statistics) = self else {
            return Ok(Vec::new());
        };
        let now = statistics.snapshot();
        // Without a broker the last error is the reason; one of several that is away is no trouble.
        if now.brokers_known > 0 && now.brokers_up == 0 {
            return Err(now.last_error.unwrap_or_else(|| "no broker answers".into()));
        }
        let lag = now.partitions.into_iter().map(|at| {
            let above = at.end.saturating_sub(at.committed.unwrap_or(at.next.min(at.end)));
            (
                at.partition.stream,
                at.partition.partition,
                i64::try_from(above).unwrap_or(i64::MAX),
            )
        });
        Ok(lag.collect())
    }
}

/// Opens it for the workers of `place`, to read as much as `extent` says.
pub(super) fn open(
    config: &Config,
    place: Place,
    extent: Extent,
    offsets: Arc<LedgerOffsets>,
) -> Result<(Vec<Box<dyn Source>>, Lag), SourceError> {
    let (workers, peers) = (place.range(), place.peers());
    if let Some(settings) = &config.source.kafka {
        let (sources, statistics) = kafka::open(settings, workers, peers, extent)?;
        return Ok((sources, Lag::Kafka(statistics)));
    }
    if let Some(settings) = &config.source.log {
        let offsets: Arc<dyn OffsetStore> = offsets;
        return Ok((
            log::open(settings, workers, peers, offsets, extent)?,
            Lag::Unknown,
        ));
    }
    Err(SourceError::Configuration(
        "the configuration names no source".into(),
    ))
}
