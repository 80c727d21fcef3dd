//! One session with the catalogue: a snapshot of the whole table, then every change of it.
//!
//! The slot is made before the snapshot is taken, so that no change is in neither; what is in both is told
//! twice, which makes no difference. When the session ends, for whatever reason, the next one begins with
//! a snapshot again: absence in it heals what was missed.

use super::{
    CHANGES, CatalogueSettings, SNAPSHOT,
    changes::Changes,
    connect::{connect, unreachable, wrong},
    rses::Rses,
    status::CatalogueStatus,
};
use crate::{SourceError, database::identifier};
use postgres::{IsolationLevel, fallible_iterator::FallibleIterator};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Changes asked for at once; a transaction is never cut.
const CHANGES_AT_ONCE: i32 = 10_000;

/// Between two looks at the names of RSEs.
const RSES_EVERY: Duration = Duration::from_secs(5);

/// Tells slots of one process apart.
static SLOTS: AtomicU32 = AtomicU32::new(0);

/// Takes one record further: the partition, and the record. False when nobody wants it any more.
pub(super) type Emit<'e> = dyn FnMut(i32, Value) -> bool + 'e;

/// Runs until nobody wants more, or something is wrong. With `once` it ends after the snapshot.
pub(super) fn session(
    settings: &CatalogueSettings,
    once: bool,
    status: &CatalogueStatus,
    emit: &mut Emit<'_>,
) -> Result<(), SourceError> {
    let schema = identifier(&settings.schema).ok_or_else(|| wrong("schema: is no name"))?;
    let mut client = connect(settings)?;
    // PostgreSQL says so only at the first change.
    let published = client
        .query_opt(
            "SELECT FROM pg_publication_tables WHERE pubname = $1 AND schemaname = $2 AND tablename = 'replicas'",
            &[&settings.publication, &settings.schema],
        )
        .map_err(|e| refused(&e))?;
    if published.is_none() {
        return Err(wrong(&format!(
            "no publication `{0}` has the table; as its owner: CREATE PUBLICATION {0} FOR TABLE {1}.replicas",
            settings.publication, settings.schema
        )));
    }
    let slot = format!(
        "dbb_{}_{}",
        std::process::id(),
        SLOTS.fetch_add(1, Ordering::Relaxed)
    );
    client
        .query(
            "SELECT pg_create_logical_replication_slot($1, 'pgoutput', true)",
            &[&slot],
        )
        .map_err(|e| refused(&e))?;
    let mut rses = Rses::read(&mut client, &schema)?;
    if !snapshot(&schema, &mut rses, status, emit)? || once {
        return Ok(());
    }
    let mut changes = Changes::new();
    let mut looked = Instant::now();
    let broken = |detail: String| SourceError::Unreachable {
        what: "the change stream of the catalogue".into(),
        detail,
    };
    loop {
        if looked.elapsed() >= RSES_EVERY {
            // What was told under the old name is gone in the next snapshot.
            if let Some(renamed) = rses.renamed()? {
                return Err(broken(renamed));
            }
            looked = Instant::now();
        }
        let rows = rses
            .client()
            .query(
                "SELECT (lsn - '0/0'::pg_lsn)::int8, data FROM pg_logical_slot_get_binary_changes($1, NULL, $2, \
                 'proto_version', '1', 'publication_names', $3)",
                &[&slot, &CHANGES_AT_ONCE, &settings.publication],
            )
            .map_err(|e| refused(&e))?;
        status.heard();
        let idle = rows.is_empty();
        for row in rows {
            let (lsn, message): (i64, Vec<u8>) = (row.get(0), row.get(1));
            let told = changes
                .rows(lsn as u64, message, &mut rses)
                .map_err(|e| broken(e.to_string()))?;
            for row in told {
                if !emit(CHANGES, row) {
                    return Ok(());
                }
            }
        }
        if idle {
            // An empty record only asks whether anybody is still there.
            if !emit(CHANGES, Value::Null) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(settings.poll_ms));
        }
    }
}

/// The whole table, as a listing that says how long it is.
fn snapshot(
    schema: &str,
    rses: &mut Rses<'_>,
    status: &CatalogueStatus,
    emit: &mut Emit<'_>,
) -> Result<bool, SourceError> {
    let failed = |e: postgres::Error| unreachable(&e);
    // The time is taken before the snapshot: what is absent was gone by then or went since.
    let at: String = rses
        .client()
        .query_one(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
            &[],
        )
        .map_err(failed)?
        .get(0);
    let names = rses.names();
    let mut nameless = BTreeSet::new();
    let mut transaction = rses
        .client()
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .map_err(failed)?;
    let count: i64 = transaction
        .query_one(&format!("SELECT count(*) FROM {schema}.replicas"), &[])
        .map_err(failed)?
        .get(0);
    status.heard();
    if !emit(SNAPSHOT, json!({"snapshot_at": at, "replicas": count})) {
        return Ok(false);
    }
    let statement = format!(
        "SELECT scope::text, name::text, rse_id::text, state::text, bytes::int8, adler32::text, \
         to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS.US') FROM {schema}.replicas"
    );
    let nothing: [&(dyn postgres::types::ToSql + Sync); 0] = [];
    let mut rows = transaction.query_raw(&statement, nothing).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let id: String = row.get(2);
        let rse = match names.get(&id) {
            Some(name) => name,
            None => {
                nameless.insert(id.clone());
                &id
            }
        };
        let row = json!({
            "scope": row.get::<_, String>(0),
            "name": row.get::<_, String>(1),
            "rse": rse,
            "state": row.get::<_, String>(3),
            "bytes": row.get::<_, Option<i64>>(4),
            "adler32": row.get::<_, Option<String>>(5),
            "updated_at": row.get::<_, Option<String>>(6),
        });
        status.heard();
        if !emit(SNAPSHOT, row) {
            return Ok(false);
        }
    }
    drop(rows);
    transaction.commit().map_err(failed)?;
    for id in nameless {
        rses.named(&id);
    }
    Ok(true)
}

/// What the server refuses for good is configuration: no right, no publication, no logical log.
fn refused(error: &postgres::Error) -> SourceError {
    use postgres::error::SqlState;
    let Some(db) = error.as_db_error() else {
        return unreachable(error);
    };
    let code = db.code();
    if *code == SqlState::INSUFFICIENT_PRIVILEGE || *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE {
        let hint = "it needs wal_level = logical, and a role with REPLICATION and SELECT";
        return wrong(&format!("{}; {hint}", db.message()));
    }
    if *code == SqlState::UNDEFINED_TABLE {
        return wrong(&format!(
            "{}; is `schema` the one of Rucio's tables?",
            db.message()
        ));
    }
    unreachable(error)
}
