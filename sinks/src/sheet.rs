//! Sheet: what Rucio lists beside what a Butler has, joined by the URI of the file, on disk.
//!
//! ```text
//!   replicas, each with the URIs it may have --\
//!   datasets, each with the URI of its file ----> a temporary SQLite file --> in both, in one, in the other
//! ```
//!
//! In:    replicas and datasets, in any order, each once or more.
//! Out:   those of each kind, in the order of their URIs.
//! State: the file, which goes with the sheet; in memory at most [`CACHE_KIB`], whatever the number of rows.

use dbb_events::{Did, Rse};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use uuid::Uuid;

/// Memory for the pages of the file.
pub const CACHE_KIB: i64 = 64 << 10;

/// The sheet's file cannot be written or read: most likely the disk for temporary files is full.
#[derive(Debug, thiserror::Error)]
#[error("a temporary file for the comparison cannot be used: set TMPDIR to where there is room")]
pub struct SheetError {
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl From<rusqlite::Error> for SheetError {
    fn from(error: rusqlite::Error) -> Self {
        Self { source: error.into() }
    }
}

/// A replica as Rucio lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The file.
    pub did: Did,
    /// Where it is.
    pub rse: Rse,
    /// True where it can be read.
    pub is_available: bool,
    /// Its size.
    pub bytes: Option<u64>,
    /// Its Adler-32.
    pub adler32: Option<String>,
    /// Its URL, where that is listed.
    pub url: Option<String>,
}

/// What the sheet holds in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Replicas.
    pub replicas: u64,
    /// Datasets.
    pub datasets: u64,
}

/// Two lists and their join.
#[derive(Debug)]
pub struct Sheet {
    db: Connection,
    rows: Rows,
    _folder: TempDir,
}

const TABLES: &str = "
    PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
    CREATE TABLE listed (
        n INTEGER PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL, rse TEXT NOT NULL, is_available INTEGER NOT NULL,
        bytes INTEGER, adler32 TEXT, url TEXT, is_stored INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE places (uri TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE stored (uri TEXT NOT NULL, uuid BLOB NOT NULL, PRIMARY KEY (uri, uuid)) WITHOUT ROWID;
    CREATE TABLE claimed (uuid BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE aside (n INTEGER PRIMARY KEY, rank INTEGER NOT NULL, body BLOB NOT NULL);
    BEGIN;
";
const REPLICA: &str = "l.scope, l.name, l.rse, l.is_available, l.bytes, l.adler32, l.url";

impl Sheet {
    /// An empty one.
    ///
    /// # Errors
    /// As everywhere here: the file cannot be used.
    pub fn new() -> Result<Self, SheetError> {
        let folder = tempfile::Builder::new()
            .prefix("dbb-sheet-")
            .tempdir()
            .map_err(|error| SheetError { source: error.into() })?;
        let db = Connection::open(folder.path().join("sheet.sqlite"))?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.execute_batch(TABLES)?;
        Ok(Self {
            db,
            rows: Rows::default(),
            _folder: folder,
        })
    }

    /// How much is in it.
    pub fn rows(&self) -> Rows {
        self.rows
    }

    /// Adds a replica that is at one of these URIs. A URI that another replica has is that one's.
    pub fn list(&mut self, replica: &Replica, uris: &[String]) -> Result<(), SheetError> {
        let n = self.rows.replicas + 1;
        let bytes = replica.bytes.and_then(|bytes| i64::try_from(bytes).ok());
        self.db
            .prepare_cached(
                "INSERT INTO listed (n, scope, name, rse, is_available, bytes, adler32, url) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                n as i64,
                &*replica.did.scope,
                &*replica.did.name,
                replica.rse.as_str(),
                replica.is_available,
                bytes,
                replica.adler32,
                replica.url,
            ])?;
        for uri in uris {
            self.db
                .prepare_cached("INSERT OR IGNORE INTO places (uri, n) VALUES (?1, ?2)")?
                .execute(params![uri, n as i64])?;
        }
        self.rows.replicas = n;
        Ok(())
    }

    /// Adds a dataset whose file is at `uri`.
    pub fn store(&mut self, uri: &str, uuid: Uuid) -> Result<(), SheetError> {
        let new = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO stored (uri, uuid) VALUES (?1, ?2)")?
            .execute(params![uri, uuid.as_bytes().as_slice()])?;
        self.rows.datasets += new as u64;
        Ok(())
    }

    /// Takes all datasets away: those of another repository come next.
    pub fn forget_stored(&mut self) -> Result<(), SheetError> {
        self.db.execute_batch(
            "DELETE FROM stored; DELETE FROM claimed; UPDATE listed SET is_stored = 0 WHERE is_stored",
        )?;
        self.rows.datasets = 0;
        Ok(())
    }

    /// Takes note that the dataset `uuid` is said to be in the file `name`; where it is already, if that is elsewhere:
    /// another file, or another URI than those of this one.
    pub fn claim(&mut self, uuid: Uuid, name: &str) -> Result<Option<String>, SheetError> {
        self.db
            .execute_batch("CREATE INDEX IF NOT EXISTS stored_by_uuid ON stored (uuid)")?;
        let uuid = uuid.as_bytes().as_slice();
        let mut stored = self.db.prepare_cached("SELECT uri FROM stored WHERE uuid = ?1")?;
        if let Some(row) = stored.query([uuid])?.next()? {
            return Ok(Some(row.get(0)?));
        }
        let mut claimed = self
            .db
            .prepare_cached("SELECT name FROM claimed WHERE uuid = ?1")?;
        if let Some(row) = claimed.query([uuid])?.next()? {
            return Ok(Some(row.get(0)?));
        }
        self.db
            .prepare_cached("INSERT INTO claimed (uuid, name) VALUES (?1, ?2)")?
            .execute(params![uuid, name])?;
        Ok(None)
    }

    /// Puts aside what is to be done later, the lower ranks first.
    pub fn put_aside(&mut self, rank: i64, body: &[u8]) -> Result<(), SheetError> {
        self.db
            .prepare_cached("INSERT INTO aside (rank, body) VALUES (?1, ?2)")?
            .execute(params![rank, body])?;
        Ok(())
    }

    /// Gives back what was put aside, by rank and then as it came, and forgets it.
    pub fn take_aside<E: From<SheetError>>(
        &mut self,
        each: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.query("SELECT body FROM aside ORDER BY rank, n", &mut |row| {
            each(row.get(0)?).map_err(Failed::Each)
        })?;
        self.db
            .execute("DELETE FROM aside", [])
            .map_err(SheetError::from)?;
        Ok(())
    }

    /// Each replica that the Butler has, with its URI there and its datasets.
    pub fn matched<E: From<SheetError>>(
        &mut self,
        each: &mut dyn FnMut(Replica, String, Vec<Uuid>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = format!(
            "SELECT {REPLICA}, s.uri, s.uuid FROM stored s CROSS JOIN places p ON p.uri = s.uri \
             JOIN listed l ON l.n = p.n ORDER BY s.uri"
        );
        let mut group: Option<(Replica, String, Vec<Uuid>)> = None;
        self.query(&sql, &mut |row| {
            let (uri, uuid): (String, Vec<u8>) = (row.get(7)?, row.get(8)?);
            let uuid = Uuid::from_slice(&uuid).unwrap_or_default();
            match &mut group {
                Some((_, known, uuids)) if *known == uri => uuids.push(uuid),
                _ => {
                    let next = (replica(row)?, uri, vec![uuid]);
                    if let Some((replica, uri, uuids)) = group.replace(next) {
                        each(replica, uri, uuids).map_err(Failed::Each)?;
                    }
                }
            }
            Ok::<(), Failed<E>>(())
        })?;
        match group {
            Some((replica, uri, uuids)) => each(replica, uri, uuids),
            None => Ok(()),
        }
    }

    /// Each replica that can be read and that the Butler has not.
    pub fn missing<E: From<SheetError>>(
        &mut self,
        each: &mut dyn FnMut(Replica) -> Result<(), E>,
    ) -> Result<(), E> {
        let mark = "UPDATE listed SET is_stored = 1 WHERE n IN \
                    (SELECT p.n FROM stored s CROSS JOIN places p ON p.uri = s.uri)";
        self.db.execute(mark, []).map_err(SheetError::from)?;
        let sql = format!("SELECT {REPLICA} FROM listed l WHERE is_available AND NOT is_stored ORDER BY l.n");
        self.query(&sql, &mut |row| each(replica(row)?).map_err(Failed::Each))
    }

    /// Each file that the Butler has and that is not listed, with its datasets.
    pub fn unexpected<E: From<SheetError>>(
        &mut self,
        each: &mut dyn FnMut(String, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "SELECT s.uri, count(*) FROM stored s \
                   WHERE NOT EXISTS (SELECT 1 FROM places p WHERE p.uri = s.uri) GROUP BY s.uri ORDER BY s.uri";
        self.query(sql, &mut |row| {
            let datasets: i64 = row.get(1)?;
            each(row.get(0)?, datasets as u64).map_err(Failed::Each)
        })
    }

    fn query<E: From<SheetError>>(
        &self,
        sql: &str,
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), Failed<E>>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(error.into());
        let mut statement = self.db.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            match each(row) {
                Ok(()) => {}
                Err(Failed::Sheet(error)) => return Err(failed(error)),
                Err(Failed::Each(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The sheet's own failure, or that of whoever is told.
enum Failed<E> {
    Sheet(rusqlite::Error),
    Each(E),
}

impl<E> From<rusqlite::Error> for Failed<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sheet(error)
    }
}

fn replica(row: &Row<'_>) -> rusqlite::Result<Replica> {
    let (scope, name, rse): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let bytes: Option<i64> = row.get(4)?;
    Ok(Replica {
        did: Did::new(scope, name),
        rse: Rse::new(rse),
        is_available: row.get(3)?,
        bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        adler32: row.get(5)?,
        url: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listed(name: &str, is_available: bool) -> Replica {
        Replica {
            did: Did::new("raw", name),
            rse: Rse::new("R"),
            is_available,
            bytes: Some(5),
            adler32: None,
            url: None,
        }
    }

    #[test]
    fn what_is_in_both_is_matched_and_the_rest_is_missing_or_unexpected() {
        let mut sheet = Sheet::new().unwrap();
        for (name, is_available) in [
            ("both", true),
            ("zip", true),
            ("missing", true),
            ("copying", false),
        ] {
            let uris = [format!("/a/raw/{name}"), format!("/a/{name}")];
            sheet.list(&listed(name, is_available), &uris).unwrap();
        }
        let uuid = Uuid::from_u128;
        for (uri, n) in [
            ("/a/both", 1),
            ("/a/raw/zip", 2),
            ("/a/raw/zip", 3),
            ("/a/raw/zip", 3),
            ("/b/both", 4),
        ] {
            sheet.store(uri, uuid(n)).unwrap();
        }
        assert_eq!(
            sheet.rows(),
            Rows {
                replicas: 4,
                datasets: 4
            }
        );
        let mut matched = Vec::new();
        sheet
            .matched::<SheetError>(&mut |replica, uri, uuids| {
                matched.push((replica, uri, uuids));
                Ok(())
            })
            .unwrap();
        assert_eq!(
            matched,
            [
                (listed("both", true), "/a/both".to_owned(), vec![uuid(1)]),
                (
                    listed("zip", true),
                    "/a/raw/zip".to_owned(),
                    vec![uuid(2), uuid(3)]
                ),
            ]
        );
        let mut missing = Vec::new();
        sheet
            .missing::<SheetError>(&mut |replica| {
                missing.push(replica.did.name.to_string());
                Ok(())
            })
            .unwrap();
        assert_eq!(missing, ["missing"]);
        let mut unexpected = Vec::new();
        sheet
            .unexpected::<SheetError>(&mut |uri, datasets| {
                unexpected.push((uri, datasets));
                Ok(())
            })
            .unwrap();
        assert_eq!(unexpected, [("/b/both".to_owned(), 1)]);
    }
}
