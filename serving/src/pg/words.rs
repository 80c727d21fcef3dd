//! `SET`, `SHOW` and transactions: what clients say to get ready. Nothing is kept but how one connection wants its rows.

use crate::sql::functions::setting as setting_of;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast::{Expr, Set, Statement};
use futures::{Sink, SinkExt};
use pgwire::{
    api::{
        ClientInfo, Type,
        portal::Format,
        results::{DataRowEncoder, FieldInfo, QueryResponse, Response, Tag},
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{PgWireBackendMessage, response::TransactionStatus, startup::ParameterStatus},
    types::format::FormatOptions,
};
use std::{fmt::Debug, sync::Arc, time::Duration};

/// Where the time that a client allows itself is kept, in milliseconds.
const STATEMENT_TIMEOUT: &str = "statement_timeout";

/// The settings of which a client is told when they change, by their names there.
const REPORTED: [(&str, &str); 5] = [
    ("datestyle", "DateStyle"),
    ("intervalstyle", "IntervalStyle"),
    ("timezone", "TimeZone"),
    ("application_name", "application_name"),
    ("search_path", "search_path"),
];

/// The settings that are kept; any other may be set too, to no effect.
const KEPT: [&str; 8] = [
    STATEMENT_TIMEOUT,
    "datestyle",
    "intervalstyle",
    "timezone",
    "application_name",
    "search_path",
    "bytea_output",
    "extra_float_digits",
];

/// The time that the client allows itself.
pub(super) fn statement_timeout(client: &impl ClientInfo) -> Option<Duration> {
    let ms = client.metadata().get(STATEMENT_TIMEOUT)?.parse().ok()?;
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// `5000`, `5s`, `250ms`, `1min`, in milliseconds.
fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn wrong(state: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".into(), state.into(), message)))
}

/// Does what a statement of this kind says.
pub(super) async fn setting<C>(
    client: &mut C,
    statement: &Statement,
    format: &Format,
) -> PgWireResult<Response>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    match statement {
        Statement::Set(Set::SingleAssignment { variable, values, .. }) => {
            let value: Vec<String> = values.iter().map(text).collect();
            set(client, &variable.to_string().to_lowercase(), value.join(", ")).await
        }
        Statement::Set(Set::SetTimeZone { value, .. }) => set(client, "timezone", text(value)).await,
        // Transaction modes, roles, names: nothing depends on them.
        Statement::Set(_) => Ok(Response::Execution(Tag::new("SET"))),
        Statement::Reset(_) => {
            for name in [
                STATEMENT_TIMEOUT,
                "datestyle",
                "intervalstyle",
                "bytea_output",
                "extra_float_digits",
            ] {
                client.metadata_mut().remove(name);
            }
            Ok(Response::Execution(Tag::new("RESET")))
        }
        other => show(client, other, format),
    }
}

async fn set<C>(client: &mut C, name: &str, value: String) -> PgWireResult<Response>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let value = match name {
        STATEMENT_TIMEOUT => milliseconds(&value)
            .ok_or_else(|| {
                wrong(
                    "22023",
                    format!("`{value}` is no time; say `5000`, `250ms`, `5s` or `1min`"),
                )
            })?
            .to_string(),
        _ => value,
    };
    if !KEPT.contains(&name) {
        return Ok(Response::Execution(Tag::new("SET")));
    }
    client.metadata_mut().insert(name.to_owned(), value.clone());
    if let Some((_, reported)) = REPORTED.iter().find(|(known, _)| *known == name) {
        let status = ParameterStatus::new((*reported).to_owned(), value);
        client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
    }
    Ok(Response::Execution(Tag::new("SET")))
}

/// The value, without its quotes.
fn text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match value.clone().into_string() {
            Some(text) => text,
            None => value.to_string(),
        },
        other => other.to_string().trim_matches('"').to_owned(),
    }
}

/// The name of what is shown.
fn shown(statement: &Statement) -> String {
    match statement {
        Statement::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["time", "zone"] => "timezone".into(),
                ["transaction", "isolation", "level"] => "transaction_isolation".into(),
                _ => words.join("."),
            }
        }
        Statement::ShowCatalogs { .. } => "catalogs".into(),
        _ => "status".into(),
    }
}

/// The columns of what a statement of this kind gives: none, or one.
pub(super) fn columns(statement: &Statement) -> Schema {
    match statement {
        Statement::Set(_) | Statement::Reset(_) => Schema::empty(),
        other => Schema::new(vec![Field::new(shown(other), DataType::Utf8, false)]),
    }
}

fn show(client: &impl ClientInfo, statement: &Statement, format: &Format) -> PgWireResult<Response> {
    let name = shown(statement);
    let options = FormatOptions::from_client_metadata(client.metadata());
    let set = client.metadata().get(&name);
    let value = match (name.as_str(), set) {
        ("server_version" | "server_version_num" | "transaction_isolation" | "transaction_read_only", _)
        | (_, None) => match setting_of(&name) {
            Some(value) => value.to_owned(),
            None => formats(&name, &options)
                .ok_or_else(|| wrong("42704", format!("there is no setting `{name}` here")))?,
        },
        (_, Some(value)) => value.clone(),
    };
    let field = FieldInfo::new(name, None, None, Type::TEXT, format.format_for(0));
    let fields = Arc::new(vec![field]);
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    encoder.encode_field(&Some(value))?;
    let row = encoder.take_row();
    let mut response = QueryResponse::new(fields, futures::stream::iter([Ok(row)]));
    response.set_command_tag("SHOW");
    Ok(Response::Query(response))
}

/// How rows are written, and what else a client may set.
fn formats(name: &str, options: &FormatOptions) -> Option<String> {
    Some(match name {
        "catalogs" => "dbb".to_owned(),
        STATEMENT_TIMEOUT => "0".to_owned(),
        "datestyle" => options.date_style.clone(),
        "intervalstyle" => options.interval_style.clone(),
        "bytea_output" => options.bytea_output.clone(),
        "extra_float_digits" => options.extra_float_digits.to_string(),
        _ => return None,
    })
}

/// There are no transactions; clients are told what they wait for.
pub(super) fn transaction(client: &impl ClientInfo, statement: &Statement) -> Response {
    match (statement, client.transaction_status()) {
        (Statement::StartTransaction { .. }, TransactionStatus::Idle) => {
            Response::TransactionStart(Tag::new("BEGIN"))
        }
        (Statement::StartTransaction { .. }, _) => Response::Execution(Tag::new("BEGIN")),
        (Statement::Commit { .. }, TransactionStatus::Idle | TransactionStatus::Transaction) => {
            Response::TransactionEnd(Tag::new("COMMIT"))
        }
        _ => Response::TransactionEnd(Tag::new("ROLLBACK")),
    }
}

/// After an error, a transaction takes nothing but its end.
pub(super) fn not_aborted(client: &impl ClientInfo) -> PgWireResult<()> {
    if client.transaction_status() == TransactionStatus::Error {
        return Err(wrong(
            "25P02",
            "current transaction is aborted, commands ignored until end of transaction block".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_are_read_with_their_units() {
        let read = ["5000", "250ms", "5s", "5 s", "1min", "2h"].map(milliseconds);
        assert_eq!(read, [5000, 250, 5000, 5000, 60_000, 7_200_000].map(Some));
        assert_eq!(
            ["", "-5", "5 parsecs", "99999999999999999999s"].map(milliseconds),
            [None; 4]
        );
        assert_eq!(milliseconds("18446744073709551615s"), None);
    }
}
