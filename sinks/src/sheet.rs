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
use rusqlite::{Connection, OptionalExtension, Row, params};
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
    CREATE UNIQUE INDEX listed_once ON listed (scope, name, rse);
    CREATE TABLE places (uri TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE stored (uri TEXT NOT NULL, uuid BLOB NOT NULL, PRIMARY KEY (uri, uuid)) WITHOUT ROWID;
    CREATE INDEX stored_by_uuid ON stored (uuid);
    CREATE TABLE accounted (uuid BLOB PRIMARY KEY) WITHOUT ROWID;
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

    /// Adds a replica that is at one of these URIs. A URI that another replica has is that one's; a replica that is
    /// named again is one, at all URIs it is given. Returns true for one that is new.
    pub fn list(&mut self, replica: &Replica, uris: &[String]) -> Result<bool, SheetError> {
        let bytes = replica.bytes.and_then(|bytes| i64::try_from(bytes).ok());
        let next = (self.rows.replicas + 1) as i64;
        let n: i64 = self
            .db
            .prepare_cached(
                "INSERT INTO listed (n, scope, name, rse, is_available, bytes, adler32, url) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (scope, name, rse) DO UPDATE SET \
                 is_available = max(is_available, excluded.is_available), \
                 bytes = coalesce(bytes, excluded.bytes), adler32 = coalesce(adler32, excluded.adler32), \
                 url = coalesce(url, excluded.url) RETURNING n",
            )?
            .query_row(
                params![
                    next,
                    &*replica.did.scope,
                    &*replica.did.name,
                    replica.rse.as_str(),
                    replica.is_available,
                    bytes,
                    replica.adler32,
                    replica.url,
                ],
                |row| row.get(0),
            )?;
        for uri in uris {
            self.db
                .prepare_cached("INSERT OR IGNORE INTO places (uri, n) VALUES (?1, ?2)")?
                .execute(params![uri, n])?;
        }
        let is_new = n == next;
        self.rows.replicas += u64::from(is_new);
        Ok(is_new)
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
            "DELETE FROM stored; DELETE FROM accounted; DELETE FROM claimed; UPDATE listed SET is_stored = 0 WHERE is_stored",
        )?;
        self.rows.datasets = 0;
        Ok(())
    }

    /// The URI of the file that holds all these datasets, if there is one; a Butler that copies files has them under
    /// names of its own.
    pub fn file_of(&self, uuids: &[Uuid]) -> Result<Option<String>, SheetError> {
        let mut stored = self
            .db
            .prepare_cached("SELECT uri FROM stored WHERE uuid = ?1 AND (?2 IS NULL OR uri = ?2)")?;
        let mut file: Option<String> = None;
        for uuid in uuids {
            let Some(uri) = stored
                .query_row(params![uuid.as_bytes().as_slice(), file], |row| row.get(0))
                .optional()?
            else {
                return Ok(None);
            };
            file = Some(uri);
        }
        Ok(file)
    }

    /// The replica that is listed at this URI, `SCOPE:NAME`.
    pub fn listed_at(&self, uri: &str) -> Result<Option<String>, SheetError> {
        let sql = "SELECT l.scope || ':' || l.name FROM places p JOIN listed l ON l.n = p.n WHERE p.uri = ?1";
        let mut listed = self.db.prepare_cached(sql)?;
        Ok(listed.query_row([uri], |row| row.get(0)).optional()?)
    }

    /// These datasets belong to a replica that is listed, wherever they are: they are not unexpected.
    pub fn account(&mut self, uuids: &[Uuid]) -> Result<(), SheetError> {
        let mut account = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO accounted (uuid) VALUES (?1)")?;
        for uuid in uuids {
            account.execute([uuid.as_bytes().as_slice()])?;
        }
        Ok(())
    }

    /// Takes note that the dataset `uuid`, which no Butler has, is said to be in the file `name`; in which other file it
    /// is said to be already.
    pub fn claim(&mut self, uuid: Uuid, name: &str) -> Result<Option<String>, SheetError> {
        let uuid = uuid.as_bytes().as_slice();
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
                   WHERE NOT EXISTS (SELECT 1 FROM places p WHERE p.uri = s.uri) \
                   AND NOT EXISTS (SELECT 1 FROM accounted a WHERE a.uuid = s.uuid) GROUP BY s.uri ORDER BY s.uri";
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

    #[test]
    fn a_replica_that_is_named_twice_is_one_wherever_it_is() {
        let mut sheet = Sheet::new().unwrap();
        let uris = |uri: &str| [uri.to_owned()];
        assert!(sheet.list(&listed("a", false), &uris("/x/a")).unwrap());
        assert!(!sheet.list(&listed("a", true), &uris("/y/a")).unwrap());
        assert!(sheet.list(&listed("b", true), &uris("/y/b")).unwrap());
        assert_eq!(sheet.rows().replicas, 2);
        let missing = |sheet: &mut Sheet| {
            let mut names = Vec::new();
            sheet
                .missing::<SheetError>(&mut |replica| {
                    names.push(replica.did.name.to_string());
                    Ok(())
                })
                .unwrap();
            names
        };
        assert_eq!(missing(&mut sheet), ["a", "b"]);
        sheet.store("/y/a", Uuid::from_u128(1)).unwrap();
        assert_eq!(missing(&mut sheet), ["b"]);
    }

    #[test]
    fn a_file_under_another_name_is_found_by_all_its_datasets() {
        let mut sheet = Sheet::new().unwrap();
        let uuid = Uuid::from_u128;
        for (uri, n) in [("/root/zips/1.zip", 1), ("/root/zips/1.zip", 2), ("/root/a", 3)] {
            sheet.store(uri, uuid(n)).unwrap();
        }
        let zip = [uuid(1), uuid(2)];
        assert_eq!(sheet.file_of(&zip).unwrap().as_deref(), Some("/root/zips/1.zip"));
        assert_eq!(sheet.file_of(&[uuid(1), uuid(3)]).unwrap(), None, "two files");
        assert_eq!(sheet.file_of(&[uuid(1), uuid(4)]).unwrap(), None, "not all of it");
        assert_eq!(sheet.file_of(&[]).unwrap(), None);
        sheet.account(&zip).unwrap();
        let mut unexpected = Vec::new();
        sheet
            .unexpected::<SheetError>(&mut |uri, _| {
                unexpected.push(uri);
                Ok(())
            })
            .unwrap();
        assert_eq!(unexpected, ["/root/a"]);
    }

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
