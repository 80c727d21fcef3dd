//! A ledger behind a pooler: kept where that keeps sessions, refused where it does not.

use crate::support::{On, entry, new, who};
use dbb_events::Outcome;
use dbb_sinks::ledger::{Kept, Ledger, LedgerError};
use dbb_test_services::{PgBouncer, PoolMode, Postgres};

#[test]
fn a_ledger_is_kept_behind_a_pooler_only_if_that_keeps_sessions() {
    let mut place = new(On::Postgres);
    assert_eq!(place.open().kept(), Some(Kept::Direct));
    assert_eq!(new(On::Sqlite).open().kept(), None);
    let database = place.settings.url.rsplit_once('/').unwrap().1.to_owned();

    let pooler = PgBouncer::start(Postgres::shared().unwrap(), PoolMode::Session).unwrap();
    place.settings.url = pooler.url(&database);
    let mut ledger = place.open();
    assert_eq!(ledger.kept(), Some(Kept::Pooled));
    let generation = ledger.begin_generation(&who()).unwrap();
    let written = ledger.write(generation, &[entry(1, Outcome::Ingested, 20)]);
    assert_eq!(written.unwrap().rows.len(), 1);

    let pooler = PgBouncer::start(Postgres::shared().unwrap(), PoolMode::Transaction).unwrap();
    place.settings.url = pooler.url(&database);
    let error = Ledger::open(&place.settings).unwrap_err();
    assert!(matches!(error, LedgerError::Configuration(_)), "{error}");
    assert!(error.to_string().contains("connect directly"), "{error}");
}
