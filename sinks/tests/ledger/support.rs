//! A new ledger for each test, and entries that are quick to write down.

use dbb_events::{
    Action, Counted, DeadLetter, Dependency, Did, Entry, EventId, Kind, Micros, Outcome, Place, Reason,
    Refusal, Request, Rse, Settled, Verified,
};
use dbb_sinks::ledger::{Generation, Ledger, LedgerSettings, Process, Row, Who};
use dbb_test_services::Postgres;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use uuid::Uuid;

/// Which database.
#[derive(Debug, Clone, Copy)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// A ledger of a test's own; its database goes with it.
pub(crate) struct Fresh {
    pub(crate) settings: LedgerSettings,
    _folder: tempfile::TempDir,
}

pub(crate) fn new(on: On) -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let url = match on {
        On::Sqlite => sqlite_url(folder.path()),
        On::Postgres => {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("ledger{}", NEXT.fetch_add(1, Ordering::Relaxed));
            Postgres::shared().unwrap().create_database(&name).unwrap()
        }
    };
    Fresh {
        settings: LedgerSettings {
            url,
            ..LedgerSettings::default()
        },
        _folder: folder,
    }
}

pub(crate) fn sqlite_url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("ledger.sqlite").display())
}

impl Fresh {
    pub(crate) fn open(&self) -> Ledger {
        Ledger::open(&self.settings).unwrap()
    }

    /// Runs a statement behind the ledger's back.
    pub(crate) fn execute(&self, sql: &str) {
        match self.settings.sqlite_path() {
            Some(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection
                    .busy_timeout(std::time::Duration::from_secs(20))
                    .unwrap();
                connection.execute_batch(sql).unwrap();
            }
            None => {
                let mut client = ::postgres::Client::connect(&self.settings.url, ::postgres::NoTls).unwrap();
                client.batch_execute(sql).unwrap();
            }
        }
    }

    /// An open ledger and the right to write to it.
    pub(crate) fn begin(&self) -> (Ledger, Generation) {
        let mut ledger = self.open();
        let generation = ledger.begin_generation(&who()).unwrap();
        (ledger, generation)
    }
}

/// The same test on both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite { $(#[test] fn $name() { super::$name($crate::support::On::Sqlite) })* }
        mod postgres { $(#[test] fn $name() { super::$name($crate::support::On::Postgres) })* }
    };
}
pub(crate) use on_both;

pub(crate) fn who() -> Who {
    Who {
        host: "here".into(),
        process: Process::this(),
        version: "test".into(),
        started_at: Micros(0),
        instance: String::new(),
    }
}

pub(crate) fn request(event: u128, name: &str) -> Request {
    Request {
        event: EventId(event),
        target: "main".into(),
        place: Place {
            stream: "IN2P3-raw".into(),
            partition: 3,
            offset: event as u64,
            line: None,
        },
        event_type: "transfer-done".into(),
        did: Did::new("raw", name),
        rse: Rse::new("IN2P3"),
        action: Action::Register(Kind::DataProduct),
        created_at: Micros(1000),
        url: format!("davs://door/raw/{name}").into(),
        uri: format!("/data/raw/{name}").into(),
        sidecar: "{}".into(),
        bytes: Some(1),
        adler32: None,
        landed_at: None,
        appended_at: Some(Micros(7)),
        read_at: Micros(10),
        attempts: 0,
        waiting_since: None,
        was_unrouted: false,
        topic: Some("IN2P3-raw".into()),
        body: format!("{{\"event\": {event}}}").into_bytes().into(),
    }
}

pub(crate) fn settled(request: Request, outcome: Outcome, at: i64) -> Settled {
    Settled {
        uuids: vec![Uuid::from_u128(request.event.0)],
        request,
        outcome,
        at: Micros(at),
        took: None,
        verified: Verified::Size,
        provides: Vec::new(),
    }
}

pub(crate) fn entry(event: u128, outcome: Outcome, at: i64) -> Entry {
    Entry::Settled(Box::new(settled(
        request(event, &format!("f{event}")),
        outcome,
        at,
    )))
}

pub(crate) fn waiting(dependency: Dependency, not_before: i64, counts: bool) -> Outcome {
    Outcome::Waiting {
        dependency,
        not_before: Micros(not_before),
        detail: "not yet".into(),
        counts,
    }
}

pub(crate) fn dimension(key: &str) -> Dependency {
    Dependency::Dimension(key.into())
}

pub(crate) fn refused(reason: Reason) -> Outcome {
    Outcome::Refused(Refusal {
        reason,
        detail: format!("{reason} it is"),
    })
}

pub(crate) fn dead(event: u128, target: &str, reason: Reason, at: i64) -> DeadLetter {
    DeadLetter {
        event: EventId(event),
        target: target.into(),
        place: Place {
            stream: "/logs/day.ndjson".into(),
            partition: 0,
            offset: 99,
            line: Some(4),
        },
        topic: None,
        event_type: None,
        did: None,
        rse: None,
        created_at: None,
        at: Micros(at),
        reason,
        detail: "it is what it is".into(),
        body: vec![0xff, 0, b'x'].into(),
    }
}

pub(crate) fn letter(event: u128, target: &str, reason: Reason, at: i64) -> Entry {
    Entry::DeadLetter(Box::new(dead(event, target, reason, at)))
}

/// An arrival that satisfies `provides`.
pub(crate) fn arrival(event: u128, provides: &[&str], at: i64) -> Entry {
    let mut settled = settled(request(event, &format!("dim{event}")), Outcome::Ingested, at);
    settled.provides = provides.iter().map(|key| Arc::from(*key)).collect();
    Entry::Settled(Box::new(settled))
}

pub(crate) fn counted(counted_to: u64, counts: &[(&str, u64)]) -> Entry {
    Entry::Counted(Counted {
        stream: "IN2P3-raw".into(),
        partition: 3,
        incarnation: Default::default(),
        counted_to,
        counts: counts
            .iter()
            .map(|(reason, n)| (Arc::from(*reason), *n))
            .collect(),
    })
}

/// The row of the file that [`entry`] makes for `event`, if there is one.
pub(crate) fn find(ledger: &mut Ledger, event: u128) -> Option<Row> {
    (1..200)
        .filter_map(|id| ledger.row(id).unwrap())
        .find(|row| row.event == EventId(event))
}
