//! Live: the views of a running site: which there are, how they are served, what they are told beside facts.
//!
//! ```text
//!   configuration --> which views, published how often        readers --> health of the stream
//!   published --> SQL, HTTP; replicas of other processes beside one's own
//! ```

use super::join;
use crate::{
    cluster::Hosts,
    config::{Config, views::EPOCH_MS},
    views::{Name, ViewSettings},
};
use anyhow::Context;
use dbb_events::Micros;
use dbb_operators::{
    Incoming,
    publish::{Lost, Publisher},
    views::{
        reference,
        stream_health::{Heard, Hearing, Read},
    },
};
use dbb_serving::{
    Metrics, Offered,
    http::ViewsApi,
    peers::{self, PeerServer, Peers},
    pg,
    sql::Epochs,
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
    /// What is asked: of all processes, where there are several.
    epochs: Arc<dyn Epochs>,
    _peers: Option<PeerServer>,
}

impl Live {
    /// The views that `config` wants, on one of the processes of `hosts`; `None` if it wants none.
    pub(super) fn of(config: &Config, hosts: Option<&Hosts>) -> anyhow::Result<Option<Self>> {
        let views = &config.views;
        if !views.are_kept() {
            return Ok(None);
        }
        let micros = |n: u64, each: u64| i64::try_from(n.saturating_mul(each)).unwrap_or(i64::MAX);
        let mut settings = ViewSettings::of(views.names().context("in views.keep")?);
        settings.forget_after_us = Some(micros(views.forget_after_seconds, 1_000_000));
        settings.clock_skew_us = micros(views.clock_skew_ms, 1000);
        settings.policies = views.policies.clone().into();
        settings.remember = Some(config.identify.remember_seconds.saturating_mul(1000) / EPOCH_MS);
        let publisher = Publisher::new(views.publish_every()).endless();
        let Some(hosts) = hosts else {
            let publisher = Arc::new(publisher);
            return Ok(Some(Self {
                settings,
                epochs: Arc::clone(&publisher) as Arc<dyn Epochs>,
                publisher,
                _peers: None,
            }));
        };
        let publisher = Arc::new(publisher.one_of(hosts.processes()));
        let token: peers::Token = join::token(config)?.into();
        let (listen, called) = hosts.beside(config.cluster.listen.as_deref());
        let server = peers::serve(&listen, Arc::clone(&token), Arc::clone(&publisher))?;
        publisher.announce(format!("{called}:{}", server.address().port()));
        Ok(Some(Self {
            settings,
            epochs: Arc::new(Peers::new(Arc::clone(&publisher), hosts.process, token)),
            publisher,
            _peers: Some(server),
        }))
    }

    /// The views that are kept, by name.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.settings.wanted.iter().map(ToString::to_string)
    }

    /// True if somebody looks at this view.
    pub(super) fn keeps(&self, name: Name) -> bool {
        self.settings.wanted.contains(&name)
    }

    /// The views over HTTP.
    pub(super) fn api(&self, config: &Config, metrics: &Metrics) -> anyhow::Result<ViewsApi> {
        let epochs = Arc::clone(&self.epochs);
        Ok(ViewsApi::new(
            &config.http.views,
            epochs,
            self.offered(),
            metrics.clone(),
        )?)
    }

    /// The views in SQL, where that is configured; until what is returned is dropped.
    pub(super) fn sql(&self, config: &Config, metrics: &Metrics) -> anyhow::Result<Option<pg::SqlServer>> {
        let epochs = Arc::clone(&self.epochs);
        Ok(pg::serve(&config.sql, epochs, self.offered(), metrics.clone())?)
    }

    fn offered(&self) -> Vec<Offered> {
        let tables: Vec<_> = self
            .settings
            .wanted
            .iter()
            .flat_map(|name| name.tables())
            .collect();
        let known = reference::all().into_iter();
        known
            .filter(|described| tables.contains(&&described.view.name))
            .map(|described| Offered {
                view: described.view,
                schema: described.schema,
            })
            .collect()
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

    /// Notes records that are lost.
    pub(super) fn lost(&self, lost: &Lost) {
        let mut hearing = self.0.borrow_mut();
        hearing.lost(&lost.stream, lost.partition, lost.records.unwrap_or(0), lost.to);
    }

    /// What was heard since the last call; who is given `statistics` asks them for the lag of all partitions.
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
