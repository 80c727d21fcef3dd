//! Session: one connection with Rucio's database; new rows out of it, handled ones removed.
//!
//! ```text
//!   SELECT rows that are not under way --> worker
//!   DELETE rows that are handled       <-- worker
//! ```
//!
//! There is no watermark: a transaction that commits late brings rows that are older than what was read already.
//! Rows that another transaction has locked are read all the same, and removed once it has let them go.

use super::{
    OutboxSettings,
    envelope::{self, Row},
};
use crate::{SourceError, database::identifier};
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use postgres::{Client, error::SqlState};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Rows asked for at once.
const ROWS: i64 = 1000;

/// How often all rows are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// What the thread that has the connection is told.
pub(super) enum Order {
    /// These rows are handled.
    Remove(Vec<String>),
    /// Remove what is still to be removed, and end.
    Leave,
}

/// What goes on from one connection to the next.
#[derive(Default)]
pub(super) struct Standing {
    /// Emitted, and still in the table as far as is known.
    under_way: BTreeSet<String>,
    /// Of these, to be removed.
    handled: BTreeSet<String>,
    leaving: bool,
}

impl Standing {
    /// True if nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.leaving && self.handled.is_empty()
    }

    /// Takes an order.
    pub(super) fn take(&mut self, order: Order) {
        match order {
            Order::Remove(ids) => self.handled.extend(ids),
            Order::Leave => self.leaving = true,
        }
    }
}

/// What a session tells while it runs.
pub(super) trait Told {
    /// A row; false when nobody wants it any more.
    fn row(&mut self, id: String, body: Bytes) -> bool;
    /// Nothing is there that was not told.
    fn empty(&mut self, empty: bool);
    /// So many rows are there, those under way too.
    fn count(&mut self, rows: u64);
}

/// A connection whose role may do what it has to, and that no other dbb has.
pub(super) fn connect(settings: &OutboxSettings) -> Result<Client, SourceError> {
    let database = settings.database();
    let table = table(settings)?;
    let mut client = database.connect()?;
    client
        .batch_execute(
            "SET lock_timeout = '10s'; SET statement_timeout = '60s'; SET client_min_messages = warning",
        )
        .map_err(|e| database.unreachable(&e))?;
    let may = client.query_one(
        "SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'DELETE')",
        &[&table],
    );
    let may: bool = match may {
        Ok(row) => row.get(0),
        Err(error) => return Err(refused(settings, &error)),
    };
    if !may {
        return Err(database.wrong(&format!(
            "the role may not read and remove messages; as their owner: GRANT SELECT, DELETE ON {table} TO <role>"
        )));
    }
    Ok(client)
}

/// That no other dbb reads these rows.
pub(super) struct Claim {
    /// The backend that has the lock.
    backend: i32,
    /// What the lock is of.
    key: String,
}

/// Makes sure that no other dbb reads these rows: each would get only a part of them.
pub(super) fn claim(settings: &OutboxSettings, client: &mut Client) -> Result<Claim, SourceError> {
    let database = settings.database();
    let key = format!("dbb outbox {} {}", settings.schema, settings.service);
    let claimed = client
        .query_one(
            "SELECT pg_backend_pid(), pg_try_advisory_lock(hashtextextended($1, 0))",
            &[&key],
        )
        .map_err(|e| database.unreachable(&e))?;
    let claim = Claim {
        backend: claimed.get(0),
        key,
    };
    if claimed.get(1) {
        return hold(settings, client, &claim).map(|()| claim);
    }
    Err(SourceError::Unreachable {
        what: format!("the outbox of service `{}`", settings.service),
        detail: "another dbb reads it; stop that one, or give each a service of its own".into(),
    })
}

/// Looks whether the lock is still there, and this session's: behind a pooler it may be another's.
fn hold(settings: &OutboxSettings, client: &mut Client, claim: &Claim) -> Result<(), SourceError> {
    let database = settings.database();
    let held: bool = client
        .query_one(
            "SELECT pg_backend_pid() = $1 AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted \
             AND pid = $1 AND objsubid = 1 AND (classid::int8 << 32) | objid::int8 = hashtextextended($2, 0))",
            &[&claim.backend, &claim.key],
        )
        .map_err(|e| database.unreachable(&e))?
        .get(0);
    if held {
        return Ok(());
    }
    Err(SourceError::Unreachable {
        what: format!("the outbox of service `{}`", settings.service),
        detail: format!(
            "the lock that backend {} took for this session is not its own any more: connect directly, not through a pooler",
            claim.backend
        ),
    })
}

/// The services that have rows.
pub(super) fn services(settings: &OutboxSettings, client: &mut Client) -> Result<Vec<String>, SourceError> {
    let sql = format!(
        "SELECT DISTINCT services FROM {} WHERE services IS NOT NULL ORDER BY 1",
        table(settings)?
    );
    let rows = client.query(&sql, &[]);
    let rows = rows.map_err(|e| settings.database().unreachable(&e))?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

/// Runs until told to leave.
pub(super) fn run(
    settings: &OutboxSettings,
    client: &mut Client,
    claim: &Claim,
    orders: &Receiver<Order>,
    standing: &mut Standing,
    told: &mut dyn Told,
) -> Result<(), SourceError> {
    let (table, database) = (table(settings)?, settings.database());
    let mut counted: Option<Instant> = None;
    loop {
        orders.try_iter().for_each(|order| standing.take(order));
        remove(&table, client, standing).map_err(|e| database.unreachable(&e))?;
        if standing.is_done() {
            return Ok(());
        }
        let mut more = false;
        let room = i64::from(settings.prefetch) - standing.under_way.len() as i64;
        if room > 0 && !standing.leaving {
            let limit = room.min(ROWS);
            let rows =
                fetch(settings, &table, client, standing, limit).map_err(|e| database.unreachable(&e))?;
            more = rows.len() as i64 == limit;
            told.empty(rows.is_empty());
            for row in rows {
                let body = Bytes::from(envelope::body(&row));
                standing.under_way.insert(row.id.clone());
                if !told.row(row.id, body) {
                    return Ok(());
                }
            }
        }
        if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            hold(settings, client, claim)?;
            told.count(count(settings, client)?);
            counted = Some(Instant::now());
        }
        if more {
            continue;
        }
        match orders.recv_timeout(Duration::from_millis(settings.poll_ms)) {
            Ok(order) => standing.take(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Rows of our service that are there.
pub(super) fn count(settings: &OutboxSettings, client: &mut Client) -> Result<u64, SourceError> {
    let sql = format!("SELECT count(*) FROM {} WHERE services = $1", table(settings)?);
    let count = client.query_one(&sql, &[&settings.service]);
    let count: i64 = count.map_err(|e| settings.database().unreachable(&e))?.get(0);
    Ok(count.unsigned_abs())
}

fn fetch(
    settings: &OutboxSettings,
    table: &str,
    client: &mut Client,
    standing: &Standing,
    limit: i64,
) -> Result<Vec<Row>, postgres::Error> {
    let under_way: Vec<&str> = standing.under_way.iter().map(String::as_str).collect();
    let rows = client.query(
        &format!(
            "SELECT id::text, event_type::text, payload::text, payload_nolimit::text, \
             to_char(created_at, 'YYYY-MM-DD HH24:MI:SS.US') FROM {table} AS m WHERE services = $1 AND NOT EXISTS \
             (SELECT FROM unnest($2::text[]) AS known (id) WHERE known.id::uuid = m.id) ORDER BY created_at, m.id LIMIT $3"
        ),
        &[&settings.service, &under_way, &limit],
    )?;
    Ok(rows
        .into_iter()
        .map(|row| Row {
            id: row.get(0),
            event_type: row.get(1),
            payload: row.get(2),
            payload_nolimit: row.get(3),
            created_at: row.get(4),
        })
        .collect())
}

/// Removes what is handled; what others hold locked stays for the next time.
fn remove(table: &str, client: &mut Client, standing: &mut Standing) -> Result<(), postgres::Error> {
    if standing.handled.is_empty() {
        return Ok(());
    }
    let handled: Vec<&str> = standing.handled.iter().map(String::as_str).collect();
    client.execute(
        &format!(
            "DELETE FROM {table} WHERE id IN \
             (SELECT id FROM {table} WHERE id = ANY ($1::text[]::uuid[]) FOR UPDATE SKIP LOCKED)"
        ),
        &[&handled],
    )?;
    let left = client.query(
        &format!("SELECT id::text FROM {table} WHERE id = ANY ($1::text[]::uuid[])"),
        &[&handled],
    )?;
    let left: BTreeSet<String> = left.into_iter().map(|row| row.get(0)).collect();
    for id in std::mem::replace(&mut standing.handled, left) {
        if !standing.handled.contains(&id) {
            standing.under_way.remove(&id);
        }
    }
    Ok(())
}

fn table(settings: &OutboxSettings) -> Result<String, SourceError> {
    let schema =
        identifier(&settings.schema).ok_or_else(|| settings.database().wrong("schema is no name"))?;
    Ok(format!("{schema}.messages"))
}

fn refused(settings: &OutboxSettings, error: &postgres::Error) -> SourceError {
    let database = settings.database();
    match error.as_db_error() {
        Some(db)
            if *db.code() == SqlState::UNDEFINED_TABLE || *db.code() == SqlState::INVALID_SCHEMA_NAME =>
        {
            database.wrong(&format!(
                "{}; is `schema` the one of Rucio's tables?",
                db.message()
            ))
        }
        _ => database.unreachable(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_test_services::Postgres;

    #[test]
    fn a_lock_that_is_not_this_sessions_any_more_ends_it() {
        let postgres = Postgres::shared().unwrap();
        let url = postgres.create_database("lost_lock").unwrap();
        let sql = "CREATE TABLE messages (id uuid, event_type text, payload text, payload_nolimit text, services text, \
                   created_at timestamp)";
        postgres.sql("lost_lock", sql).unwrap();
        let settings = OutboxSettings::of(url, "Influx");
        let mut client = connect(&settings).unwrap();
        let claim = claim(&settings, &mut client).unwrap();
        hold(&settings, &mut client, &claim).unwrap();
        // What a pooler asks of a backend before somebody else has it.
        client.batch_execute("DISCARD ALL").unwrap();
        let lost = hold(&settings, &mut client, &claim).unwrap_err();
        assert!(lost.to_string().contains("connect directly"), "{lost}");
    }
}
