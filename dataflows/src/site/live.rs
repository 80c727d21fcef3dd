//! Live: what the views of a running site need beside facts, and what they tell.
//!
//! ```text
//!   configuration --> which views, published how often        readers --> health of the stream
//! ```

use crate::{
    config::{Config, views::EPOCH_MS},
    views::{Name, ViewSettings},
};
use anyhow::Context;
use dbb_events::Micros;
use dbb_operators::{
    Incoming,
    publish::Publisher,
    views::stream_health::{Heard, Hearing, Read},
};
use dbb_sources::kafka::KafkaStatistics;
use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an event counts for the lateness of its stream.
pub(super) const LATENESS_WINDOW_US: i64 = 10 * 60 * 1_000_000;
/// How often readers ask what else their source has.
const LAG_EVERY: Duration = Duration::from_millis(500);

/// The views of a process.
pub(super) struct Live {
    pub(super) settings: ViewSettings,
    pub(super) publisher: Arc<Publisher>,
    /// What the brokers say, where there are any.
    pub(super) statistics: Option<KafkaStatistics>,
}

impl Live {
    /// The views that `config` wants; `None` if it wants none.
    pub(super) fn of(config: &Config, statistics: Option<KafkaStatistics>) -> anyhow::Result<Option<Self>> {
        let views = &config.views;
        if !views.are_kept() {
            return Ok(None);
        }
        debug_assert_eq!(u128::from(EPOCH_MS), super::work::TICK.as_millis());
        let micros = |n: u64, each: u64| i64::try_from(n.saturating_mul(each)).unwrap_or(i64::MAX);
        Ok(Some(Self {
            settings: ViewSettings {
                wanted: views.names().context("in views.keep")?,
                eager: false,
                forget_after_us: Some(micros(views.forget_after_seconds, 1_000_000)),
                clock_skew_us: micros(views.clock_skew_ms, 1000),
                ..ViewSettings::of(Default::default())
            },
            publisher: Arc::new(Publisher::new(views.publish_every())),
            statistics,
        }))
    }

    /// True if somebody looks at this view.
    pub(super) fn keeps(&self, name: Name) -> bool {
        self.settings.wanted.contains(&name)
    }
}

/// What one worker gathers for the view of the stream's health.
#[derive(Clone, Default)]
pub(super) struct Ear(Rc<RefCell<Hearing>>);

impl Ear {
    /// Notes a record that was made at `created_at`, if it is an event.
    pub(super) fn read(&self, incoming: &Incoming, created_at: Option<Micros>) {
        self.0.borrow_mut().read(Read {
            place: &incoming.received.place,
            read_at: incoming.read_at,
            appended_at: incoming.received.appended_at,
            created_at,
        });
    }

    /// What was heard since the last call; the first worker asks for the lag of all partitions.
    pub(super) fn take(&self, statistics: Option<KafkaStatistics>) -> impl FnMut(&mut Vec<Heard>) + 'static {
        let hearing = Rc::clone(&self.0);
        let mut asked: Option<Instant> = None;
        move |heard| {
            let mut hearing = hearing.borrow_mut();
            if let Some(statistics) = &statistics
                && asked.is_none_or(|asked| asked.elapsed() >= LAG_EVERY)
            {
                asked = Some(Instant::now());
                for at in statistics.snapshot().partitions {
                    hearing.lag(&at.partition.stream, at.partition.partition, at.lag);
                }
            }
            hearing.take(heard);
        }
    }
}
