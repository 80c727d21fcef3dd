//! The little that the two databases have to do for the ledger: one SQL text serves both.
//!
//! ```text
//!   ledger --> SQL with $1, $2 ... and whole columns of values --> SQLite: one prepared statement a row
//!                                                              \-> PostgreSQL: one statement a batch (UNNEST)
//! ```

use crate::ledger::LedgerError;
use dbb_database::Kept;
use std::time::Duration;

/// One value in a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// The values of one row.
pub(crate) type Cells = Vec<Value>;

impl Value {
    /// Text as both databases take it: PostgreSQL has no zero character.
    pub(crate) fn text(text: &str) -> Self {
        if text.contains('\0') {
            Value::Text(text.replace('\0', "\u{fffd}"))
        } else {
            Value::Text(text.to_owned())
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn into_blob(self) -> Option<Vec<u8>> {
        match self {
            Value::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Blob(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// What a column holds, for the arrays PostgreSQL is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Text,
    Blob,
}

/// A column and its type.
pub(crate) type Column = (&'static str, Type);

/// A change of many rows at once.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) kind: BulkKind,
    pub(crate) table: &'static str,
    /// In the order of the cells; for an update or a deletion the last `keys` of them find the row.
    pub(crate) columns: &'static [Column],
    pub(crate) keys: usize,
    /// For an insertion: what follows the values, such as `ON CONFLICT ...`.
    pub(crate) tail: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BulkKind {
    Insert,
    Update,
    Delete,
}

/// A look-up of many rows by their keys.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// What is selected, over the table's alias `x`.
    pub(crate) select: &'static str,
    pub(crate) table: &'static str,
    pub(crate) keys: &'static [Column],
    /// A further condition, starting with ` AND `; may be empty.
    pub(crate) and: &'static str,
}

/// A connection to one database.
pub(crate) trait Store: Send {
    /// Fails if what is open is not any more what others would open.
    fn check_place(&mut self) -> Result<(), LedgerError> {
        Ok(())
    }
    /// Begins a transaction that will write.
    fn begin(&mut self) -> Result<(), LedgerError>;
    /// Ends it; on return everything in it survives a loss of power.
    fn commit(&mut self) -> Result<(), LedgerError>;
    /// Gives it up; never fails, because a connection that is lost has given it up already.
    fn rollback(&mut self);
    /// The rows that a query finds.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Cells>, LedgerError>;
    /// Runs one statement; the number of rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, LedgerError>;
    /// The rows with these keys, in any order.
    fn lookup(&mut self, lookup: &Lookup, keys: Vec<Cells>) -> Result<Vec<Cells>, LedgerError>;
    /// Changes many rows; the number changed.
    fn bulk(&mut self, bulk: &Bulk, rows: Vec<Cells>) -> Result<u64, LedgerError>;
    /// Runs statements that take no values, in the dialect of the schema's text.
    fn script(&mut self, sql: &str) -> Result<(), LedgerError>;
    /// Within a transaction: lets one process at a time make or change the tables.
    fn lock_schema(&mut self) -> Result<(), LedgerError>;
    /// True if the ledger's tables are there.
    fn has_tables(&mut self) -> Result<bool, LedgerError>;
    /// Bytes in use; room that pruning has freed for use again is not counted where the database can tell.
    fn size_bytes(&mut self) -> Result<u64, LedgerError>;
    /// The longest that a call may take from now on, outside of a transaction; 20 s before.
    fn set_limit(&mut self, limit: Duration);
    /// How the session with its server is kept; `None` without one.
    fn kept(&self) -> Option<Kept> {
        None
    }
    /// The time of the database in microseconds since 1970, as an expression.
    fn clock(&self) -> &'static str;
    /// What follows a `SELECT` that must hold its row until the transaction ends.
    fn for_update(&self) -> &'static str;
}
