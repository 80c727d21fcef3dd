//! The ledger in a SQLite file: write-ahead log, synced at each commit.

use crate::ledger::{
    LedgerError,
    store::{Bulk, BulkKind, Cells, Column, Lookup, Store, Value},
};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a statement waits for another process to finish its transaction.
const BUSY: Duration = Duration::from_secs(20);

pub(crate) struct Sqlite {
    connection: Connection,
    what: String,
    place: Place,
}

/// The files as they were opened. SQLite does not notice when they are removed: it writes on into what nobody else sees.
struct Place {
    file: PathBuf,
    log: PathBuf,
    /// Device and inode.
    file_is: Option<(u64, u64)>,
    log_is: Option<(u64, u64)>,
}

impl Place {
    fn of(path: &Path) -> Self {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        Self {
            file_is: identity(path),
            log_is: None,
            file: path.to_owned(),
            log,
        }
    }

    /// What is wrong with it. The write-ahead log stays the same as long as anybody has the ledger open.
    fn trouble(&mut self) -> Option<String> {
        let told = |path: &Path, is: Option<_>| {
            let what = if is.is_none() {
                "was removed"
            } else {
                "was replaced by another"
            };
            format!(
                "{} {what} while it was open: what was written to it since is lost",
                path.display()
            )
        };
        let file = identity(&self.file);
        if file != self.file_is {
            return Some(told(&self.file, file));
        }
        let log = identity(&self.log);
        match self.log_is {
            None => self.log_is = log,
            Some(_) if log != self.log_is => return Some(told(&self.log, log)),
            Some(_) => {}
        }
        None
    }
}

/// The device and the inode of the file at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}

impl Sqlite {
    /// Opens the file, and makes it if it is not there; its folder must exist.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let what = format!("`{}`", path.display());
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(LedgerError::Configuration(format!(
                "the folder of the ledger {what} does not exist"
            )));
        }
        if path.is_dir() {
            return Err(LedgerError::Configuration(format!(
                "the ledger {what} is a folder, not a file"
            )));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| error(&what, &e, true))?;
        let open = |e: &rusqlite::Error| error(&what, e, true);
        connection.busy_timeout(BUSY).map_err(|e| open(&e))?;
        let begun = Instant::now();
        let mode: String = loop {
            // SQLite does not wait here by itself when two processes open a new file at once.
            match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)) {
                Ok(mode) => break mode,
                Err(e) => {
                    let e = open(&e);
                    if !e.is_transient() || begun.elapsed() > BUSY {
                        return Err(e);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        };
        if mode != "wal" {
            return Err(LedgerError::Configuration(format!(
                "the ledger {what} cannot have a write-ahead log (journal mode is `{mode}`)"
            )));
        }
        connection
            .execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -16384; \
                 PRAGMA temp_store = MEMORY;",
            )
            .map_err(|e| open(&e))?;
        connection.set_prepared_statement_cache_capacity(128);
        let place = Place::of(path);
        Ok(Self {
            connection,
            what,
            place,
        })
    }

    fn error(&self, e: &rusqlite::Error) -> LedgerError {
        error(&self.what, e, false)
    }
}

/// Classes of SQLite's own error codes; `opening` tells a wrong path from a failure later.
fn error(what: &str, e: &rusqlite::Error, opening: bool) -> LedgerError {
    let what = what.to_owned();
    let detail = e.to_string();
    match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            LedgerError::Unreachable { what, detail }
        }
        Some(ErrorCode::DiskFull) => LedgerError::DiskFull { what, detail },
        Some(ErrorCode::SystemIoFailure) if !opening => LedgerError::Unreachable { what, detail },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => {
            LedgerError::Configuration(format!("the ledger {what} cannot be opened: {detail}"))
        }
        Some(ErrorCode::ReadOnly) => {
            LedgerError::Configuration(format!("the ledger {what} cannot be written: {detail}"))
        }
        Some(ErrorCode::NotADatabase) => {
            LedgerError::Configuration(format!("{what} is not a ledger: {detail}"))
        }
        _ => LedgerError::Failed { what, detail },
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(n) => ValueRef::Integer(*n),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Int(n),
        ValueRef::Real(x) => Value::Int(x as i64),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// `$1` is a name to SQLite; `?1` is the first value.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn holes(from: usize, columns: &[Column], each: &str, joined: &str) -> String {
    let written: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, (name, _))| {
            each.replace("{name}", name)
                .replace("{hole}", &format!("?{}", from + i))
        })
        .collect();
    written.join(joined)
}

fn bulk_sql(bulk: &Bulk) -> String {
    let (set, keys) = bulk.columns.split_at(bulk.columns.len() - bulk.keys);
    let matching = holes(set.len() + 1, keys, "{name} = {hole}", " AND ");
    match bulk.kind {
        BulkKind::Insert => format!(
            "INSERT INTO {} ({}) VALUES ({}) {}",
            bulk.table,
            holes(1, bulk.columns, "{name}", ", "),
            holes(1, bulk.columns, "{hole}", ", "),
            bulk.tail
        ),
        BulkKind::Update => format!(
            "UPDATE {} SET {} WHERE {matching}",
            bulk.table,
            holes(1, set, "{name} = {hole}", ", ")
        ),
        BulkKind::Delete => format!("DELETE FROM {} WHERE {matching}", bulk.table),
    }
}

impl Store for Sqlite {
    fn check_place(&mut self) -> Result<(), LedgerError> {
        match self.place.trouble() {
            Some(detail) => Err(LedgerError::Replaced {
                what: self.what.clone(),
                detail,
            }),
            None => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), LedgerError> {
        self.check_place()?;
        // IMMEDIATE: one writer at a time from the first statement, so what is read here still holds
        // when it is written.
        self.execute("BEGIN IMMEDIATE", &[]).map(|_| ())
    }

    fn commit(&mut self) -> Result<(), LedgerError> {
        self.execute("COMMIT", &[])?;
        // Only what is still there is durable.
        self.check_place()
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Cells>, LedgerError> {
        let mut found = Vec::new();
        let mut run = || {
            let mut statement = self.connection.prepare_cached(&numbered(sql))?;
            let columns = statement.column_count();
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                let mut cells = Vec::with_capacity(columns);
                for i in 0..columns {
                    cells.push(value(row.get_ref(i)?));
                }
                found.push(cells);
            }
            Ok(())
        };
        run().map_err(|e| self.error(&e))?;
        Ok(found)
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, LedgerError> {
        let run = || {
            self.connection
                .prepare_cached(&numbered(sql))?
                .execute(rusqlite::params_from_iter(values))
        };
        run().map(|n| n as u64).map_err(|e| self.error(&e))
    }

    fn lookup(&mut self, lookup: &Lookup, keys: Vec<Cells>) -> Result<Vec<Cells>, LedgerError> {
        let sql = format!(
            "SELECT {} FROM {} x WHERE {}{}",
            lookup.select,
            lookup.table,
            holes(1, lookup.keys, "x.{name} = {hole}", " AND "),
            lookup.and
        );
        let mut found = Vec::new();
        let mut run = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let columns = statement.column_count();
            for key in &keys {
                let mut rows = statement.query(rusqlite::params_from_iter(key))?;
                while let Some(row) = rows.next()? {
                    let mut cells = Vec::with_capacity(columns);
                    for i in 0..columns {
                        cells.push(value(row.get_ref(i)?));
                    }
                    found.push(cells);
                }
            }
            Ok(())
        };
        run().map_err(|e| self.error(&e))?;
        Ok(found)
    }

    fn bulk(&mut self, bulk: &Bulk, rows: Vec<Cells>) -> Result<u64, LedgerError> {
        let sql = bulk_sql(bulk);
        let mut changed = 0;
        let mut run = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            for row in &rows {
                changed += statement.execute(rusqlite::params_from_iter(row))? as u64;
            }
            Ok(())
        };
        run().map_err(|e| self.error(&e))?;
        Ok(changed)
    }

    fn script(&mut self, sql: &str) -> Result<(), LedgerError> {
        let sql = sql
            .replace("{id}", "INTEGER PRIMARY KEY")
            .replace("{blob}", "BLOB")
            .replace("{clustered}", "WITHOUT ROWID");
        self.connection.execute_batch(&sql).map_err(|e| self.error(&e))
    }

    fn lock_schema(&mut self) -> Result<(), LedgerError> {
        Ok(()) // BEGIN IMMEDIATE has done it
    }

    fn has_tables(&mut self) -> Result<bool, LedgerError> {
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'";
        Ok(!self.query(sql, &[])?.is_empty())
    }

    fn size_bytes(&mut self) -> Result<u64, LedgerError> {
        let sql = "SELECT (page_count - freelist_count) * page_size \
                   FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let rows = self.query(sql, &[])?;
        let bytes = rows.first().and_then(|row| row.first()?.int());
        Ok(bytes.unwrap_or(0).max(0) as u64)
    }

    fn set_limit(&mut self, limit: Duration) {
        // A local file answers at once, but for whoever else writes.
        if let Err(error) = self.connection.busy_timeout(limit) {
            tracing::debug!(%error, "the limit of the ledger's calls stays as it was");
        }
    }

    fn clock(&self) -> &'static str {
        "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
    }

    fn for_update(&self) -> &'static str {
        ""
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn opened() -> (tempfile::TempDir, Sqlite) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Sqlite::open(&folder.path().join("l.sqlite")).unwrap();
        crate::ledger::schema::ensure(&mut store).unwrap();
        (folder, store)
    }

    #[test]
    fn each_commit_reaches_the_disk() {
        let (_folder, mut store) = opened();
        // 2 is FULL: in the write-ahead log each commit is synced.
        assert_eq!(store.query("PRAGMA synchronous", &[]).unwrap(), [[Value::Int(2)]]);
    }

    #[test]
    fn a_file_that_is_removed_or_replaced_while_it_is_open_is_noticed_at_the_next_write() {
        for suffix in ["", "-wal"] {
            for replaced in [false, true] {
                let (folder, mut store) = opened();
                store.begin().unwrap();
                let path = folder.path().join(format!("l.sqlite{suffix}"));
                std::fs::rename(&path, folder.path().join("away")).unwrap();
                if replaced {
                    std::fs::copy(folder.path().join("away"), &path).unwrap();
                }
                let error = store.commit().unwrap_err();
                assert!(matches!(error, LedgerError::Replaced { .. }), "{error}");
                let error = store.begin().unwrap_err().to_string();
                assert!(
                    error.contains(if replaced { "replaced" } else { "removed" }),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_disk_without_room_and_a_file_that_is_read_only_are_told_apart() {
        let (_folder, mut store) = opened();
        let insert = "INSERT INTO words (id, word) VALUES ($1, $2)";
        let big = "x".repeat(100_000);
        store
            .connection
            .execute_batch("PRAGMA max_page_count = 1")
            .unwrap();
        let error = store.execute(insert, &[Value::Int(1), big.as_str().into()]);
        assert!(matches!(error, Err(LedgerError::DiskFull { .. })), "{error:?}");
        store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
        let error = store.execute(insert, &[Value::Int(1), "x".into()]).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
        assert!(!error.is_transient());
    }
}
