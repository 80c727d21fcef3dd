//! The tables, and how an older ledger becomes a newer one.
//!
//! Words that repeat (targets, topics, scopes, RSEs, the head of a URL before the file's name) are stored
//! once in `words`; a file's scope and name once in `dids`. A row is found by its event and target, by the
//! file, by what it waits for, and by a URL that does not end in the file's name.
//!
//! `attempts` holds the outcomes that were replaced: the last one is in the row itself, so that the
//! many events that succeed at once cost nothing there.

use crate::ledger::{
    LedgerError,
    store::{Store, Value},
};
use std::hash::{BuildHasher, RandomState};

/// The schema this program writes: the number of migrations.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Each takes the schema one further. `{id}`, `{blob}` and `{clustered}` are the database's own words.
const MIGRATIONS: [&str; 6] = [V1, V2, V3, V4, V5, V6];

/// The RSE of the replica that is registered, or gone; unknown where it is not the event's own.
const V2: &str = "
ALTER TABLE files ADD COLUMN rse INTEGER;
UPDATE files SET rse = (
    SELECT e.rse FROM events e WHERE e.event = files.event AND e.target = files.target AND e.outcome IN (1, 2));
";

const V1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value BIGINT NOT NULL) {clustered};
INSERT INTO meta (key, value) VALUES
    ('schema', 1), ('generation', 0), ('next_event', 1), ('next_did', 1), ('next_attempt', 1), ('next_word', 1);
CREATE TABLE generations (
    id {id}, started_at BIGINT NOT NULL, host TEXT NOT NULL, pid BIGINT NOT NULL, version TEXT NOT NULL);
CREATE TABLE words (id {id}, word TEXT NOT NULL UNIQUE);
CREATE TABLE dids (id {id}, hash BIGINT NOT NULL, scope INTEGER NOT NULL, name TEXT NOT NULL);
CREATE INDEX dids_by_hash ON dids (hash);
CREATE TABLE events (
    id {id},
    did BIGINT, created_at BIGINT, first_seen_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    position BIGINT NOT NULL, line BIGINT, not_before BIGINT, waiting_since BIGINT, appended_at BIGINT,
    target INTEGER NOT NULL, stream INTEGER NOT NULL, part INTEGER NOT NULL, topic INTEGER, event_type INTEGER,
    rse INTEGER, kind INTEGER, url_head INTEGER, uri_head INTEGER, reason INTEGER, verified INTEGER,
    attempts INTEGER NOT NULL, generation INTEGER NOT NULL, outcome SMALLINT NOT NULL,
    event {blob} NOT NULL, url_tail TEXT, uri_tail TEXT, waits_for TEXT, detail TEXT, body {blob});
CREATE UNIQUE INDEX events_by_event ON events (event, target);
CREATE INDEX events_by_did ON events (did) WHERE did IS NOT NULL;
CREATE INDEX events_due ON events (not_before) WHERE outcome = 5;
CREATE INDEX events_waiting ON events (target, waits_for) WHERE outcome = 5;
CREATE INDEX events_refused ON events (reason, id) WHERE outcome = 6;
CREATE INDEX events_by_url ON events (url_tail) WHERE url_tail IS NOT NULL;
CREATE INDEX events_by_uri ON events (uri_tail) WHERE uri_tail IS NOT NULL;
CREATE TABLE files (
    did BIGINT NOT NULL, version BIGINT NOT NULL, updated_at BIGINT NOT NULL, target INTEGER NOT NULL,
    uri_head INTEGER, outcome SMALLINT NOT NULL, event {blob} NOT NULL, uri_tail TEXT, uuids {blob},
    PRIMARY KEY (did, target)) {clustered};
CREATE INDEX files_by_uuid ON files (substr(uuids, 1, 8)) WHERE uuids IS NOT NULL;
CREATE TABLE members (
    head {blob} NOT NULL, did BIGINT NOT NULL, target INTEGER NOT NULL,
    PRIMARY KEY (head, did, target)) {clustered};
CREATE TABLE attempts (
    id {id}, row_id BIGINT NOT NULL, at BIGINT NOT NULL, generation INTEGER NOT NULL, reason INTEGER,
    outcome SMALLINT NOT NULL, waits_for TEXT, detail TEXT);
CREATE INDEX attempts_by_row ON attempts (row_id, id);
CREATE TABLE counts (
    stream INTEGER NOT NULL, part INTEGER NOT NULL, reason INTEGER NOT NULL, n BIGINT NOT NULL,
    PRIMARY KEY (stream, part, reason)) {clustered};
CREATE TABLE offsets (
    stream INTEGER NOT NULL, part INTEGER NOT NULL, counted_to BIGINT, handled_to BIGINT,
    PRIMARY KEY (stream, part)) {clustered};
";

/// How far the lanes of a hub were read, and what did not arrive.
const V3: &str = "
CREATE TABLE lanes (
    lane {id}, begins BIGINT, last BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE TABLE gaps (
    first BIGINT NOT NULL, last BIGINT NOT NULL, records BIGINT NOT NULL, found_at BIGINT NOT NULL,
    ask_at BIGINT, asked_at BIGINT, closed_at BIGINT, lane INTEGER NOT NULL, asks INTEGER NOT NULL,
    state SMALLINT NOT NULL, missing TEXT NOT NULL, gone TEXT NOT NULL,
    PRIMARY KEY (lane, first)) {clustered};
CREATE INDEX gaps_to_ask ON gaps (ask_at) WHERE ask_at IS NOT NULL;
";

/// Who holds the ledger: one row.
const V4: &str = "
CREATE TABLE holder (
    id {id}, generation BIGINT NOT NULL, started_at BIGINT NOT NULL, pid BIGINT NOT NULL,
    process_start BIGINT NOT NULL, beats BIGINT NOT NULL, beat_at BIGINT NOT NULL, ended INTEGER NOT NULL,
    host TEXT NOT NULL, boot TEXT NOT NULL, space TEXT NOT NULL, instance TEXT NOT NULL, version TEXT NOT NULL);
";

/// Which ledger it is, and how often it was written to; of which topics offsets are.
const V5: &str = "
INSERT INTO meta (key, value) VALUES ('identity', 0), ('mark', 1);
ALTER TABLE offsets ADD COLUMN counted_of TEXT;
ALTER TABLE offsets ADD COLUMN handled_of TEXT;
";

/// How long attempts took, in microseconds, and how many were made; the same of all attempts that were ever made, by
/// target, outcome and bucket of [`dbb_events::sketch`].
const V6: &str = "
ALTER TABLE events ADD COLUMN took BIGINT;
ALTER TABLE events ADD COLUMN tries INTEGER;
ALTER TABLE attempts ADD COLUMN took BIGINT;
CREATE TABLE durations (
    target INTEGER NOT NULL, outcome SMALLINT NOT NULL, bucket SMALLINT NOT NULL, n BIGINT NOT NULL,
    PRIMARY KEY (target, outcome, bucket)) {clustered};
";

/// The schema found; `None` where there are no tables yet.
pub(crate) fn found(store: &mut dyn Store) -> Result<Option<i64>, LedgerError> {
    if !store.has_tables()? {
        return Ok(None);
    }
    let rows = store.query("SELECT value FROM meta WHERE key = 'schema'", &[])?;
    Ok(Some(
        rows.first()
            .and_then(|row| row.first())
            .and_then(Value::int)
            .unwrap_or(0),
    ))
}

/// Makes the tables where there are none, and refuses those of another schema.
pub(crate) fn ensure(store: &mut dyn Store) -> Result<(), LedgerError> {
    match found(store)? {
        Some(found) if found > SCHEMA => Err(LedgerError::Newer { found, known: SCHEMA }),
        Some(found) if found < SCHEMA => Err(LedgerError::Older {
            found,
            needed: SCHEMA,
        }),
        Some(_) => Ok(()),
        None => upgrade(store).map(|_| ()),
    }
}

/// Takes the schema to the newest, all in one transaction. Returns the schemas before and after.
pub(crate) fn upgrade(store: &mut dyn Store) -> Result<(i64, i64), LedgerError> {
    store.begin()?;
    let done = upgrade_within(store);
    match done {
        Ok(_) => store.commit()?,
        Err(_) => store.rollback(),
    }
    done
}

fn upgrade_within(store: &mut dyn Store) -> Result<(i64, i64), LedgerError> {
    store.lock_schema()?;
    // Read again inside: another process may have made the tables since.
    let before = found(store)?.unwrap_or(0);
    if before > SCHEMA {
        return Err(LedgerError::Newer {
            found: before,
            known: SCHEMA,
        });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        if index as i64 >= before {
            store.script(migration)?;
        }
    }
    store.execute(
        "UPDATE meta SET value = $1 WHERE key = 'identity' AND value = 0",
        &[Value::Int(by_chance())],
    )?;
    store.execute(
        "UPDATE meta SET value = $1 WHERE key = 'schema'",
        &[Value::Int(SCHEMA)],
    )?;
    Ok((before, SCHEMA))
}

/// A number that no other ledger has: not 0, and not negative.
fn by_chance() -> i64 {
    // Its keys come from the system's own source of chance.
    let number = RandomState::new().hash_one(std::time::SystemTime::now());
    i64::try_from(number >> 1).unwrap_or(1).max(1)
}
