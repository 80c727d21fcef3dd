//! What a statement may be: a question, or one of the few words by which clients get ready to ask.

use super::{SqlError, pin::REPLICAS};
use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, Select, SetExpr, Statement, Visit, Visitor};
use std::ops::ControlFlow;

/// A statement that may run.
#[derive(Debug, Clone)]
pub enum Allowed {
    /// It is answered with rows: a query, `VALUES`, `EXPLAIN`, or `SHOW` of tables or columns.
    Query(Statement),
    /// It reads or sets something of the connection.
    Setting(Statement),
    /// It begins or ends a transaction, of which there are none: each statement sees its own epoch.
    Transaction(Statement),
    /// It is answered with this word, and nothing happens.
    Nothing(&'static str),
}

impl Allowed {
    /// Whether `statement` may run.
    ///
    /// # Errors
    ///
    /// It is no query: [`SqlError::NotAQuery`] or [`SqlError::NotServed`].
    pub fn from_statement(statement: Statement) -> Result<Self, SqlError> {
        let allowed = match &statement {
            Statement::Query(_)
            | Statement::ShowTables { .. }
            | Statement::ShowColumns { .. }
            | Statement::ExplainTable { .. } => Self::Query,
            Statement::Explain {
                statement: explained, ..
            } if matches!(**explained, Statement::Query(_)) => Self::Query,
            Statement::Set(_)
            | Statement::Reset(_)
            | Statement::ShowVariable { .. }
            | Statement::ShowStatus { .. }
            | Statement::ShowCatalogs { .. } => Self::Setting,
            Statement::StartTransaction { .. } | Statement::Commit { .. } | Statement::Rollback { .. } => {
                Self::Transaction
            }
            Statement::Discard { .. } => return Ok(Self::Nothing("DISCARD")),
            Statement::Deallocate { .. } => return Ok(Self::Nothing("DEALLOCATE")),
            Statement::UNLISTEN { .. } => return Ok(Self::Nothing("UNLISTEN")),
            Statement::Savepoint { .. } => return Ok(Self::Nothing("SAVEPOINT")),
            Statement::ReleaseSavepoint { .. } => return Ok(Self::Nothing("RELEASE")),
            Statement::Declare { .. } | Statement::Fetch { .. } => {
                return Err(SqlError::NotServed(
                    "cursors are not served: rows are sent as they are made, so ask for them all".into(),
                ));
            }
            other => return Err(not_a_query(other)),
        };
        match statement.visit(&mut OnlyQueries) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(allowed(statement)),
        }
    }

    /// True when it names the view that is published only for those who ask.
    pub(super) fn names_replicas(statement: &Statement) -> bool {
        let named = statement.visit(&mut NamesReplicas);
        named.is_break()
    }
}

/// The first words of `statement`, which say what it is and nothing of what it is about.
fn not_a_query(statement: &Statement) -> SqlError {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let what = match words.as_slice() {
        [verb @ ("CREATE" | "DROP" | "ALTER"), of, ..] => format!("{verb} {of}"),
        [verb, ..] => (*verb).to_owned(),
        [] => "this".to_owned(),
    };
    SqlError::NotAQuery { what }
}

/// A query may hide a change: in a common table expression, or by where it puts its rows.
struct OnlyQueries;

impl Visitor for OnlyQueries {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        match &*query.body {
            SetExpr::Insert(change)
            | SetExpr::Update(change)
            | SetExpr::Delete(change)
            | SetExpr::Merge(change) => ControlFlow::Break(not_a_query(change)),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
        match &select.into {
            Some(_) => ControlFlow::Break(SqlError::NotAQuery {
                what: "SELECT INTO".into(),
            }),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<SqlError> {
        ControlFlow::Continue(())
    }
}

struct NamesReplicas;

impl Visitor for NamesReplicas {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let last = relation.0.last().and_then(|part| part.as_ident());
        match last {
            Some(name) if name.value.eq_ignore_ascii_case(REPLICAS) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    fn allowed(sql: &str) -> Result<Allowed, SqlError> {
        let mut statements = PostgresCompatibilityParser::new().parse(sql).unwrap();
        assert_eq!(statements.len(), 1, "{sql}");
        Allowed::from_statement(statements.remove(0))
    }

    #[test]
    fn questions_are_allowed() {
        for sql in [
            "select 1",
            "values (1), (2)",
            "with a as (select 1 as n) select n from a union all select 2",
            "explain select 1",
            "explain analyze select 1",
            "show tables",
            "(select 1) union (select 2) order by 1 limit 1",
        ] {
            assert!(matches!(allowed(sql), Ok(Allowed::Query(_))), "{sql}");
        }
    }

    #[test]
    fn what_clients_say_before_they_ask_is_allowed() {
        for sql in [
            "set datestyle = 'ISO'",
            "show search_path",
            "set extra_float_digits = 3",
            "reset all",
        ] {
            assert!(matches!(allowed(sql), Ok(Allowed::Setting(_))), "{sql}");
        }
        for sql in [
            "begin",
            "begin transaction read only",
            "commit",
            "rollback",
            "end",
        ] {
            assert!(matches!(allowed(sql), Ok(Allowed::Transaction(_))), "{sql}");
        }
        for sql in ["discard all", "deallocate all", "savepoint a"] {
            assert!(matches!(allowed(sql), Ok(Allowed::Nothing(_))), "{sql}");
        }
    }

    #[test]
    fn every_change_is_refused_however_it_is_put() {
        for (sql, what) in [
            ("create table t (a int)", "CREATE TABLE"),
            ("create table t as select 1", "CREATE TABLE"),
            ("create view v as select 1", "CREATE VIEW"),
            ("drop table rse_usage", "DROP TABLE"),
            ("alter table rse_usage add column a int", "ALTER TABLE"),
            ("insert into rse_usage values (1)", "INSERT"),
            ("update rse_usage set files = 0", "UPDATE"),
            ("delete from rse_usage", "DELETE"),
            ("truncate rse_usage", "TRUNCATE"),
            ("copy rse_usage to '/tmp/stolen'", "COPY"),
            ("copy (select 1) to stdout", "COPY"),
            ("copy rse_usage from stdin", "COPY"),
            ("select * into t from rse_usage", "SELECT INTO"),
            (
                "with a as (delete from rse_usage returning *) select * from a",
                "DELETE",
            ),
            (
                "with a as (insert into rse_usage values (1) returning *) select * from a",
                "INSERT",
            ),
            ("explain insert into rse_usage values (1)", "EXPLAIN"),
            ("explain analyze delete from rse_usage", "EXPLAIN"),
            ("prepare p as delete from rse_usage", "PREPARE"),
            ("execute p", "EXECUTE"),
            ("grant select on rse_usage to everyone", "GRANT"),
            (
                "create function f() returns int language sql as 'select 1'",
                "CREATE FUNCTION",
            ),
            ("call f()", "CALL"),
            ("vacuum", "VACUUM"),
        ] {
            match allowed(sql) {
                Err(error @ SqlError::NotAQuery { .. }) => {
                    assert_eq!(error.state(), "25006");
                    assert!(error.to_string().starts_with(what), "{sql}: {error}");
                }
                other => panic!("{sql}: {other:?}"),
            }
        }
    }

    #[test]
    fn replicas_are_noticed_wherever_they_are_named() {
        for (sql, named) in [
            ("select * from replicas", true),
            ("select * from dbb.public.REPLICAS r", true),
            ("select 1 where exists (select 1 from replicas)", true),
            ("with a as (select * from replicas) select 1 from a", true),
            ("explain select * from replicas", true),
            ("select 'replicas' from rse_usage", false),
        ] {
            let Ok(Allowed::Query(statement)) = allowed(sql) else {
                panic!("{sql}");
            };
            assert_eq!(Allowed::names_replicas(&statement), named, "{sql}");
        }
    }
}
