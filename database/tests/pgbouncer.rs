//! Whether a session is kept, through a real PgBouncer and without it.
#![allow(clippy::unwrap_used, missing_docs)]

use dbb_database::{Kept, NotKept, check};
use dbb_test_services::{PgBouncer, PoolMode, Postgres};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn asked(url: &str) -> Result<Kept, NotKept> {
    check(&url.parse().unwrap(), None, LIMIT)
}

fn through(mode: PoolMode) -> Result<Kept, NotKept> {
    let pooler = PgBouncer::start(Postgres::shared().unwrap(), mode).unwrap();
    // Again and again: what is left in the pool of one is found by the next.
    for _ in 0..4 {
        asked(&pooler.url("postgres"))?;
    }
    asked(&pooler.url("postgres"))
}

#[test]
fn the_server_itself_answers_as_who_it_is() {
    let url = Postgres::shared().unwrap().url("postgres");
    assert_eq!(asked(&url).unwrap(), Kept::Direct);
}

#[test]
fn a_pooler_in_session_mode_is_seen_and_keeps_sessions() {
    assert_eq!(through(PoolMode::Session).unwrap(), Kept::Pooled);
}

#[test]
fn a_pooler_that_gives_transactions_or_statements_other_sessions_is_refused() {
    let postgres = Postgres::start().unwrap();
    for mode in [PoolMode::Transaction, PoolMode::Statement] {
        let pooler = PgBouncer::start(&postgres, mode).unwrap();
        for _ in 0..4 {
            let error = asked(&pooler.url("postgres")).unwrap_err();
            assert!(matches!(error, NotKept::Lost(_)), "{mode:?}: {error}");
            assert!(
                error.to_string().contains("connect directly"),
                "{mode:?}: {error}"
            );
        }
        // While the pooler has its sessions: none of them keeps the lock.
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        assert_eq!(postgres.sql("postgres", locks).unwrap(), "0", "{mode:?}");
    }
}
