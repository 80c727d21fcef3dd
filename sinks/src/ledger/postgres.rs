//! The ledger in PostgreSQL: a batch is a few statements, each with whole columns of values.

use crate::ledger::{
    LedgerError,
    postgres_connect::Target,
    postgres_session::{Failure, Session},
    settings::LedgerSettings,
    store::{Bulk, BulkKind, Cells, Column, Lookup, Store, Type, Value},
};
use dbb_database::Kept;
use std::{collections::HashMap, error::Error, time::Duration};
use tokio_postgres::{
    Statement,
    error::SqlState,
    types::{FromSql, IsNull, ToSql, to_sql_checked},
};

/// Longest that a statement may take, unless somebody asks for more or less.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest that one waits for a lock: transactions of the ledger are short.
const LOCK: Duration = Duration::from_secs(5);

pub(crate) struct Postgres {
    target: Target,
    what: String,
    /// `None` between a failure and the next call, which connects again.
    session: Option<Session>,
    limit: Duration,
    statements: HashMap<String, Statement>,
    in_transaction: bool,
}

impl Postgres {
    /// Connects.
    pub(crate) fn open(settings: &LedgerSettings, url: &str) -> Result<Self, LedgerError> {
        let mut store = Self {
            target: Target::new(settings, url)?,
            what: format!("`{}`", settings.shown_url()),
            session: None,
            limit: LIMIT,
            statements: HashMap::new(),
            in_transaction: false,
        };
        store.connect()?;
        Ok(store)
    }

    fn connect(&mut self) -> Result<(), LedgerError> {
        self.statements.clear();
        self.in_transaction = false;
        let session = Session::open(&self.target, self.limit, LOCK).map_err(|e| self.error(&e))?;
        self.session = Some(session);
        Ok(())
    }

    /// Runs `f` with a connection; one that is lost is given up, and the next call makes another.
    fn with<T>(
        &mut self,
        f: impl FnOnce(&Session, &mut HashMap<String, Statement>) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            if self.in_transaction {
                self.session = None;
                self.in_transaction = false;
                return Err(LedgerError::Unreachable {
                    what: self.what.clone(),
                    detail: "the connection was lost within a transaction".into(),
                });
            }
            self.connect()?;
        }
        let Some(session) = self.session.as_ref() else {
            return Err(LedgerError::Unreachable {
                what: self.what.clone(),
                detail: "not connected".into(),
            });
        };
        let done = f(session, &mut self.statements);
        if matches!(done, Err(Failure::Silent(_))) {
            // What it still does of its own accord, nobody will hear.
            self.session = None;
        }
        done.map_err(|e| self.error(&e))
    }

    /// The same for what only reads: a server that was started again has ended the connections that nobody used
    /// meanwhile, and asking twice does no harm.
    fn read<T>(
        &mut self,
        f: impl Fn(&Session, &mut HashMap<String, Statement>) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        let may_be_stale = self.session.is_some() && !self.in_transaction;
        let mut lost = false;
        let read = self.with(|session, statements| {
            let read = f(session, statements);
            lost = read.as_ref().is_err_and(is_lost);
            read
        });
        if !(lost && may_be_stale) {
            return read;
        }
        self.session = None;
        self.with(f)
    }

    fn error(&self, failure: &Failure) -> LedgerError {
        let what = self.what.clone();
        let e = match failure {
            Failure::Said(e) => e,
            Failure::Silent(limit) => {
                let detail = format!("it does not answer: {} s have passed", limit.as_secs());
                return LedgerError::Unreachable { what, detail };
            }
            Failure::NotKept(why) => return LedgerError::Configuration(format!("the ledger {what}: {why}")),
            Failure::Here(e) => {
                let detail = format!("no session with it can be made here: {e}");
                return LedgerError::Unreachable { what, detail };
            }
        };
        let detail = told(e);
        let Some(code) = e.code() else {
            // No answer from the server: the network, or TLS. A URL that cannot be read comes earlier.
            return LedgerError::Unreachable { what, detail };
        };
        if *code == SqlState::DISK_FULL {
            return LedgerError::DiskFull { what, detail };
        }
        // Class 08 connection, 53 resources, 57 operator intervention, 40 deadlock, 55 lock not available,
        // 58 system error.
        if ["08", "53", "57", "40", "55", "58"]
            .iter()
            .any(|class| code.code().starts_with(class))
            || *code == SqlState::READ_ONLY_SQL_TRANSACTION
            || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        {
            return LedgerError::Unreachable { what, detail };
        }
        // Class 28 who are you, 3D no such database, 42501 not allowed.
        if code.code().starts_with("28")
            || code.code().starts_with("3D")
            || *code == SqlState::INSUFFICIENT_PRIVILEGE
        {
            return LedgerError::Configuration(format!("the ledger {what} cannot be used: {detail}"));
        }
        LedgerError::Failed { what, detail }
    }
}

/// True if nothing more can be asked on the connection: it is broken, or the server has ended the session (57P0x).
fn is_lost(failure: &Failure) -> bool {
    match failure {
        Failure::Said(e) => e.code().is_none_or(|code| code.code().starts_with("57P")),
        Failure::Silent(_) | Failure::Here(_) | Failure::NotKept(_) => false,
    }
}

/// The error and its causes on one line.
fn told(e: &tokio_postgres::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = e.source();
    }
    text
}

fn prepared<'a>(
    session: &Session,
    statements: &'a mut HashMap<String, Statement>,
    sql: &str,
) -> Result<&'a Statement, Failure> {
    if !statements.contains_key(sql) {
        let statement = session.prepare(sql)?;
        statements.insert(sql.to_owned(), statement);
    }
    // It was put there on the line above.
    Ok(&statements[sql])
}

type BoxedError = Box<dyn Error + Sync + Send>;

/// Integers are narrowed to what the column has; the columns are wide enough for what they are given.
impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, BoxedError> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(n) => match *ty {
                tokio_postgres::types::Type::INT2 => i16::try_from(*n)?.to_sql(ty, out),
                tokio_postgres::types::Type::INT4 => i32::try_from(*n)?.to_sql(ty, out),
                _ => n.to_sql(ty, out),
            },
            Value::Text(text) => text.to_sql(ty, out),
            Value::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &tokio_postgres::types::Type, raw: &'a [u8]) -> Result<Self, BoxedError> {
        use tokio_postgres::types::Type as Pg;
        Ok(match *ty {
            Pg::INT2 => Value::Int(i16::from_sql(ty, raw)?.into()),
            Pg::INT4 => Value::Int(i32::from_sql(ty, raw)?.into()),
            Pg::INT8 => Value::Int(i64::from_sql(ty, raw)?),
            Pg::BYTEA => Value::Blob(raw.to_vec()),
            _ => Value::Text(String::from_utf8_lossy(raw).into_owned()),
        })
    }

    fn from_sql_null(_: &tokio_postgres::types::Type) -> Result<Self, BoxedError> {
        Ok(Value::Null)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

fn cells(row: &tokio_postgres::Row) -> Result<Cells, Failure> {
    (0..row.len()).map(|i| Ok(row.try_get(i)?)).collect()
}

/// One column of many rows, as an array.
fn arrays(columns: &[Column], rows: Vec<Cells>) -> Vec<Box<dyn ToSql + Sync>> {
    let count = rows.len();
    let mut turned: Vec<Vec<Value>> = columns.iter().map(|_| Vec::with_capacity(count)).collect();
    for row in rows {
        for (column, value) in turned.iter_mut().zip(row) {
            column.push(value);
        }
    }
    columns
        .iter()
        .zip(turned)
        .map(|((_, ty), values)| -> Box<dyn ToSql + Sync> {
            match ty {
                Type::Int => Box::new(values.iter().map(Value::int).collect::<Vec<_>>()),
                Type::Text => Box::new(values.into_iter().map(Value::into_text).collect::<Vec<_>>()),
                Type::Blob => Box::new(values.into_iter().map(Value::into_blob).collect::<Vec<_>>()),
            }
        })
        .collect()
}

/// `UNNEST($1::bigint[], ...) AS k (a, ...)`, or the same with other names.
fn unnest(columns: &[Column]) -> String {
    let arrays: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, (_, ty))| {
            let ty = match ty {
                Type::Int => "bigint",
                Type::Text => "text",
                Type::Blob => "bytea",
            };
            format!("${}::{ty}[]", i + 1)
        })
        .collect();
    format!("UNNEST({}) AS k ({})", arrays.join(", "), names(columns))
}

fn names(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn matching(alias: &str, keys: &[Column]) -> String {
    let pairs: Vec<String> = keys
        .iter()
        .map(|(name, _)| format!("{alias}.{name} = k.{name}"))
        .collect();
    pairs.join(" AND ")
}

fn bulk_sql(bulk: &Bulk) -> String {
    let (set, keys) = bulk.columns.split_at(bulk.columns.len() - bulk.keys);
    let from = unnest(bulk.columns);
    let table = bulk.table;
    match bulk.kind {
        BulkKind::Insert => format!(
            "INSERT INTO {table} ({}) SELECT * FROM {from} {}",
            names(bulk.columns),
            bulk.tail
        ),
        BulkKind::Update => {
            let set: Vec<String> = set.iter().map(|(name, _)| format!("{name} = k.{name}")).collect();
            format!(
                "UPDATE {table} x SET {} FROM {from} WHERE {}",
                set.join(", "),
                matching("x", keys)
            )
        }
        BulkKind::Delete => format!("DELETE FROM {table} x USING {from} WHERE {}", matching("x", keys)),
    }
}

impl Store for Postgres {
    fn begin(&mut self) -> Result<(), LedgerError> {
        self.with(|session, _| session.batch_execute("BEGIN"))?;
        self.in_transaction = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LedgerError> {
        self.with(|session, _| session.batch_execute("COMMIT"))?;
        self.in_transaction = false;
        Ok(())
    }

    fn rollback(&mut self) {
        if self.in_transaction && self.with(|session, _| session.batch_execute("ROLLBACK")).is_err() {
            self.session = None;
        }
        self.in_transaction = false;
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Cells>, LedgerError> {
        self.read(|session, statements| {
            let statement = prepared(session, statements, sql)?;
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
            let rows = session.query(statement, &values)?;
            rows.iter().map(cells).collect()
        })
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, LedgerError> {
        self.with(|session, statements| {
            let statement = prepared(session, statements, sql)?;
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
            session.execute(statement, &values)
        })
    }

    fn lookup(&mut self, lookup: &Lookup, keys: Vec<Cells>) -> Result<Vec<Cells>, LedgerError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {} FROM {} JOIN {} x ON {} WHERE true{}",
            lookup.select,
            unnest(lookup.keys),
            lookup.table,
            matching("x", lookup.keys),
            lookup.and
        );
        let arrays = arrays(lookup.keys, keys);
        self.read(|session, statements| {
            let statement = prepared(session, statements, &sql)?;
            let values: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a.as_ref()).collect();
            let rows = session.query(statement, &values)?;
            rows.iter().map(cells).collect()
        })
    }

    fn bulk(&mut self, bulk: &Bulk, rows: Vec<Cells>) -> Result<u64, LedgerError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let sql = bulk_sql(bulk);
        let arrays = arrays(bulk.columns, rows);
        self.with(|session, statements| {
            let statement = prepared(session, statements, &sql)?;
            let values: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a.as_ref()).collect();
            session.execute(statement, &values)
        })
    }

    fn script(&mut self, sql: &str) -> Result<(), LedgerError> {
        let sql = sql
            .replace("{id}", "BIGINT PRIMARY KEY")
            .replace("{blob}", "BYTEA")
            .replace("{clustered}", "");
        self.with(|session, _| session.batch_execute(&sql))
    }

    fn lock_schema(&mut self) -> Result<(), LedgerError> {
        // Any number, as long as every dbb uses the same one: "dbbledge" in ASCII.
        self.with(|session, _| session.batch_execute("SELECT pg_advisory_xact_lock(7233177810187183973)"))
    }

    fn has_tables(&mut self) -> Result<bool, LedgerError> {
        // From the catalogue, not by `to_regclass`: that may answer from a session's memory of what was
        // not there before it waited for the lock.
        let sql = "SELECT 1 FROM pg_class WHERE relname = 'meta' AND relkind = 'r' \
                   AND relnamespace = current_schema()::regnamespace";
        Ok(!self.query(sql, &[])?.is_empty())
    }

    fn size_bytes(&mut self) -> Result<u64, LedgerError> {
        let sql = "SELECT sum(pg_total_relation_size(to_regclass(t)))::bigint FROM UNNEST(ARRAY[ \
                   'meta', 'generations', 'words', 'dids', 'events', 'files', 'members', 'attempts', \
                   'counts', 'offsets']) AS t";
        let rows = self.query(sql, &[])?;
        let bytes = rows.first().and_then(|row| row.first()?.int());
        Ok(bytes.unwrap_or(0).max(0) as u64)
    }

    fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
        // The next one is told.
        self.session = None;
    }

    fn kept(&self) -> Option<Kept> {
        self.session.as_ref().map(Session::kept)
    }

    fn clock(&self) -> &'static str {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    }

    fn for_update(&self) -> &'static str {
        " FOR UPDATE"
    }
}
