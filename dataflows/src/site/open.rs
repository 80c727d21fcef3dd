//! Opens the configured source: one instance for each worker.

use super::offsets::LedgerOffsets;
use crate::{cluster::Place, config::Config};
use dbb_serving::{Health, Metrics};
use dbb_sources::{
    Extent, OffsetStore, Offsets, Source, SourceError,
    kafka::{self, Finding, KafkaStatistics, Memory},
    log,
    outbox::{self, OutboxStatistics},
    stomp::{self, StompStatistics},
};
use std::{sync::Arc, time::Duration};

/// How long `/readyz` says that records may never have been read.
const SHOWN: Duration = Duration::from_secs(3600);

/// How far behind the source is, for metrics.
pub(super) enum Lag {
    /// Files have no lag that could be known.
    Unknown,
    /// What the brokers say.
    Kafka(KafkaStatistics),
    /// How the brokers are doing: they do not say what they still hold.
    Stomp(StompStatistics),
    /// What is in the table.
    Outbox {
        stream: Arc<str>,
        statistics: OutboxStatistics,
    },
}

impl Lag {
    /// What the brokers say, where there are any.
    pub(super) fn statistics(&self) -> Option<KafkaStatistics> {
        match self {
            Lag::Unknown | Lag::Stomp(_) | Lag::Outbox { .. } => None,
            Lag::Kafka(statistics) => Some(statistics.clone()),
        }
    }

    /// Tells how far behind the source is, and what is wrong with it.
    pub(super) fn tell(&self, metrics: &Metrics, health: &Health) {
        match self.read() {
            Ok(partitions) => {
                health.clear("kafka");
                for (topic, partition, records) in partitions {
                    metrics.consumer_lag(&topic, partition, records);
                }
            }
            Err(trouble) => health.fail("kafka", trouble),
        }
        if let Lag::Kafka(statistics) = self {
            let now = statistics.snapshot();
            for kind in Finding::KINDS {
                metrics.findings(kind, now.findings_total.get(kind).copied().unwrap_or(0));
            }
            for (topic, (at, told)) in now.findings {
                let condition = format!("kafka topic {topic}");
                if at.elapsed() < SHOWN {
                    health.fail(&condition, told);
                } else {
                    health.clear(&condition);
                }
            }
        }
        if let Lag::Outbox { stream, statistics } = self {
            if let Some(rows) = statistics.rows() {
                metrics.consumer_lag(stream, 0, i64::try_from(rows).unwrap_or(i64::MAX));
            }
            match statistics.trouble() {
                Some(trouble) => health.fail("outbox", trouble),
                None => health.clear("outbox"),
            }
        }
        let Lag::Stomp(statistics) = self else { return };
        for broker in statistics.snapshot() {
            metrics.broker(&broker.stream, broker.connected);
            let condition = format!("broker {}", broker.stream);
            match broker.trouble {
                // Each has messages that no other has.
                Some(trouble) => health.fail(&condition, trouble),
                None => health.clear(&condition),
            }
        }
    }

    /// Topic, partition and records above the committed offset; or what is wrong with the source.
    fn read(&self) -> Result<Vec<(Arc<str>, i32, i64)>, String> {
        let Lag::Kafka(statistics) = self else {
            return Ok(Vec::new());
        };
        let now = statistics.snapshot();
        if let Some(trouble) = now.trouble {
            return Err(trouble);
        }
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

/// Opens it for the workers of `place`, to read as much as `extent` says. A source that numbers its records itself begins
/// above what is counted already.
pub(super) fn open(
    config: &Config,
    place: Place,
    extent: Extent,
    offsets: LedgerOffsets,
    counted_to: &Offsets,
    memory: Memory,
) -> Result<(Vec<Box<dyn Source>>, Lag), SourceError> {
    let (workers, peers) = (place.range(), place.peers());
    if let Some(settings) = config.kafka_source() {
        let (sources, statistics) = kafka::open_with(&settings, workers, peers, extent, memory)?;
        return Ok((sources, Lag::Kafka(statistics)));
    }
    if let Some(settings) = &config.source.log {
        let offsets: Arc<dyn OffsetStore> = Arc::new(offsets);
        return Ok((
            log::open(settings, workers, peers, offsets, extent)?,
            Lag::Unknown,
        ));
    }
    if let Some(settings) = &config.source.stomp {
        let (sources, statistics) = stomp::open(settings, workers, peers, extent, counted_to)?;
        return Ok((sources, Lag::Stomp(statistics)));
    }
    if let Some(settings) = &config.source.outbox {
        let (sources, statistics) = outbox::open(settings, workers, &extent, counted_to)?;
        let stream = settings.stream().into();
        return Ok((sources, Lag::Outbox { stream, statistics }));
    }
    Err(SourceError::Configuration(
        "the configuration names no source".into(),
    ))
}
