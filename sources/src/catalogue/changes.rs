//! Changes: what PostgreSQL's logical replication says of the table `replicas`, as rows of the replica journal.
//!
//! In:    messages of the output plug-in `pgoutput`, each with its position in the write-ahead log.
//! Out:   journal rows, one JSON object each: the form of a recorded journal.
//! State: the columns of the table, and the time of the open transaction.
//!
//! The time of a row is that of its transaction's commit: the order in which one replica really changed.

use super::rses::Rses;
use pg_walstream::{LogicalReplicationMessage as Message, LogicalReplicationParser, RelationInfo, TupleData};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Seconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_2000: i64 = 946_684_800;

/// What a replica is told by.
const KEY: [&str; 3] = ["scope", "name", "rse_id"];

/// Why changes cannot be followed any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangesError {
    #[error("a message could not be read: {0}")]
    Message(String),
    #[error("the table `replicas` was truncated")]
    Truncated,
    #[error("the publication has no column `{0}`")]
    NoColumn(&'static str),
}

pub(super) struct Changes {
    parser: LogicalReplicationParser,
    /// The published tables of this name, by their numbers.
    relations: HashMap<u32, RelationInfo>,
    committed_at: i64,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self {
            parser: LogicalReplicationParser::with_protocol_version(1),
            relations: HashMap::new(),
            committed_at: 0,
        }
    }

    /// The journal rows that the message at `lsn` tells: none, one, or two where a file or its place got another name.
    pub(super) fn rows(
        &mut self,
        lsn: u64,
        message: Vec<u8>,
        rses: &mut Rses<'_>,
    ) -> Result<Vec<Value>, ChangesError> {
        let message = self
            .parser
            .parse_wal_message_bytes(message.into())
            .map_err(|e| ChangesError::Message(e.to_string()))?
            .message;
        let mut before = None;
        let (op, relation, tuple) = match message {
            Message::Begin { timestamp, .. } => {
                self.committed_at = timestamp;
                return Ok(Vec::new());
            }
            Message::Relation {
                relation_id,
                namespace,
                relation_name,
                replica_identity,
                columns,
            } => {
                if relation_name.as_ref() == "replicas" {
                    let table =
                        RelationInfo::new(relation_id, namespace, relation_name, replica_identity, columns);
                    self.relations.insert(relation_id, table);
                }
                return Ok(Vec::new());
            }
            Message::Insert { relation_id, tuple } => ("I", relation_id, tuple),
            Message::Update {
                relation_id,
                old_tuple,
                new_tuple,
                ..
            } => {
                before = old_tuple;
                ("U", relation_id, new_tuple)
            }
            Message::Delete {
                relation_id,
                old_tuple,
                ..
            } => ("D", relation_id, old_tuple),
            Message::Truncate { relation_ids, .. }
                if relation_ids.iter().any(|id| self.relations.contains_key(id)) =>
            {
                return Err(ChangesError::Truncated);
            }
            _ => return Ok(Vec::new()),
        };
        let Some(relation) = self.relations.get(&relation) else {
            return Ok(Vec::new());
        };
        let at = at(self.committed_at);
        let mut row = |op, tuple: &TupleData| {
            let text = |name| text(relation, tuple, name);
            let needed = |name| text(name).ok_or(ChangesError::NoColumn(name));
            let mut row = json!({
                "seq": lsn,
                "at": at,
                "op": op,
                "scope": needed("scope")?,
                "name": needed("name")?,
                "rse": rses.name(&needed("rse_id")?),
                "old_state": Value::Null,
                "new_state": Value::Null,
            });
            if op != "D" {
                row["new_state"] = needed("state")?.into();
                row["bytes"] = text("bytes").and_then(|bytes| bytes.parse::<u64>().ok()).into();
                row["adler32"] = text("adler32").into();
            }
            Ok(row)
        };
        let mut rows = Vec::with_capacity(2);
        // PostgreSQL tells the old key where an update changes it, or all of the old row: what had it is gone.
        if let Some(before) = before
            && KEY
                .iter()
                .any(|name| text(relation, &before, name) != text(relation, &tuple, name))
        {
            rows.push(row("D", &before)?);
            rows.push(row("I", &tuple)?);
        } else {
            rows.push(row(op, &tuple)?);
        }
        Ok(rows)
    }
}

fn text(relation: &RelationInfo, tuple: &TupleData, name: &str) -> Option<String> {
    let place = relation
        .columns
        .iter()
        .position(|column| column.name.as_ref() == name)?;
    tuple.get_column(place)?.as_string()
}

/// A time of PostgreSQL, microseconds since 2000, as text.
fn at(micros: i64) -> String {
    dbb_events::Micros(micros.saturating_add(EPOCH_2000 * 1_000_000)).to_string()
}
