//! How many tables a statement reads, once every `with` query stands where it is named.
//!
//! ```text
//!   with a as (select * from t, t), b as (select * from a, a) select * from b, b      8 times t
//! ```
//!
//! Each of these lines doubles what has to be planned, so forty of them would never be.

use super::SqlError;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement, Visit, Visitor};
use std::{collections::HashMap, ops::ControlFlow};

/// Most tables, each as often as it is read.
pub(super) const TABLES: usize = 100;

/// Whether `statement` reads at most [`TABLES`].
///
/// # Errors
///
/// It reads more.
pub(super) fn judge_tables(statement: &Statement) -> Result<(), SqlError> {
    let mut tables = Tables::default();
    // It goes on to the end.
    let _ = statement.visit(&mut tables);
    let read = tables
        .open
        .iter()
        .fold(0usize, |sum, read| sum.saturating_add(*read));
    if read > TABLES {
        return Err(SqlError::TooComplex {
            state: "54001",
            message: format!(
                "the statement is too complex: it may read at most {TABLES} tables, each counted as often as it is read, \
                 also by way of `with`; ask in parts"
            ),
        });
    }
    Ok(())
}

/// Counts, for each query that is open, what was read in it so far.
#[derive(Debug)]
struct Tables {
    open: Vec<usize>,
    /// The names of `with` queries that have not been visited, by where they are.
    named: HashMap<*const Query, String>,
    /// What each `with` query reads. Of two with one name, the greater.
    reads: HashMap<String, usize>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            open: vec![0],
            named: HashMap::new(),
            reads: HashMap::new(),
        }
    }
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = cte.alias.name.value.to_lowercase();
            self.named.insert(&raw const *cte.query, name);
        }
        self.open.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let read = self.open.pop().unwrap_or_default();
        if let Some(name) = self.named.remove(&(&raw const *query)) {
            let known = self.reads.entry(name).or_default();
            *known = read.max(*known);
        }
        if let Some(outer) = self.open.last_mut() {
            *outer = outer.saturating_add(read);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [one] => one.as_ident().map(|name| name.value.to_lowercase()),
            _ => None,
        };
        let read = name
            .and_then(|name| self.reads.get(&name).copied())
            .unwrap_or(0)
            .max(1);
        if let Some(open) = self.open.last_mut() {
            *open = open.saturating_add(read);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    fn judged(sql: &str) -> Result<(), SqlError> {
        let statement = PostgresCompatibilityParser::new().parse(sql).unwrap().remove(0);
        judge_tables(&statement)
    }

    fn doubling(times: usize) -> String {
        let mut sql = "with q0 as (select 1 from t)".to_owned();
        for n in 1..=times {
            sql += &format!(", q{n} as (select 1 from q{}, Q{} x)", n - 1, n - 1);
        }
        sql + &format!(" select 1 from q{times}")
    }

    #[test]
    fn queries_that_name_each_other_are_counted_as_often_as_they_are_read() {
        judged(&doubling(4)).unwrap();
        for times in [6, 40, 90] {
            let error = judged(&doubling(times)).unwrap_err();
            assert_eq!(error.state(), "54001");
            assert!(error.to_string().contains("100 tables"), "{error}");
        }
    }

    #[test]
    fn tables_joined_by_commas_are_counted_too() {
        judged(&format!("select 1 from t{}", ", t".repeat(98))).unwrap();
        judged(&format!("select 1 from t{}", ", t".repeat(1000))).unwrap_err();
    }
}
