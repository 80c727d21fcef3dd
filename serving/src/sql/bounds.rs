//! How large a plan may be before it is made better: what makes it better may make it larger first.
//!
//! ```text
//!   plan of the words --nodes, expressions, grouping sets, columns written out--> hardened --> optimiser
//! ```
//!
//! The optimiser writes a column that is computed in a subquery out wherever it is used, so `a + a as a`, forty subqueries
//! deep, is a billion terms. How long each would be is added up here without writing it.

use super::SqlError;
use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    error::Result,
    logical_expr::{Expr, GroupingSet, LogicalPlan},
};

/// Most nodes of a plan, subqueries and all.
const NODES: usize = 1500;
/// Most parts of all its expressions.
const EXPRESSIONS: usize = 25_000;
/// Most parts of one expression, with the columns that it uses written out.
const WRITTEN_OUT: u64 = 20_000;
/// Most sets by which one query groups.
const GROUPING_SETS: usize = 128;

/// Whether `plan` is within all of these.
///
/// # Errors
///
/// It is too large; the limit is named.
pub(super) fn judge_plan(plan: &LogicalPlan) -> Result<()> {
    count(plan)?;
    written_out(plan).map(drop)
}

fn too_large(what: &str, most: impl std::fmt::Display) -> SqlError {
    SqlError::TooComplex {
        state: "54001",
        message: format!(
            "the statement is too complex: its plan may have at most {most} {what}; ask in parts"
        ),
    }
}

/// Ends at the first that is too many: a plan may name the same part very often.
fn count(plan: &LogicalPlan) -> Result<()> {
    let (mut nodes, mut expressions) = (0, 0);
    plan.apply_with_subqueries(|node| {
        nodes += 1;
        if nodes > NODES {
            return Err(too_large("nodes", NODES).into());
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                expressions += 1;
                if expressions > EXPRESSIONS {
                    return Err(too_large("expressions", EXPRESSIONS).into());
                }
                if let Expr::GroupingSet(sets) = part
                    && sets_of(sets) > GROUPING_SETS
                {
                    return Err(too_large("grouping sets", GROUPING_SETS).into());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

fn sets_of(sets: &GroupingSet) -> usize {
    match sets {
        GroupingSet::Cube(of) => u32::try_from(of.len())
            .ok()
            .and_then(|of| 1usize.checked_shl(of))
            .unwrap_or(usize::MAX),
        GroupingSet::Rollup(of) => of.len() + 1,
        GroupingSet::GroupingSets(sets) => sets.len(),
    }
}

/// How many parts each column of `plan` has when it is written out.
fn written_out(plan: &LogicalPlan) -> Result<Vec<u64>> {
    let inputs = plan.inputs();
    let mut below = Vec::new();
    for input in &inputs {
        below.push(written_out(input)?);
    }
    let parts = |expression: &Expr| -> Result<u64> {
        let mut parts = 0u64;
        expression.apply(|part| {
            let more = match part {
                Expr::Column(column) => inputs
                    .iter()
                    .zip(&below)
                    .find_map(|(input, parts)| {
                        let at = input.schema().maybe_index_of_column(column)?;
                        parts.get(at).copied()
                    })
                    .unwrap_or(1),
                _ => 1,
            };
            parts = parts.saturating_add(more);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if parts > WRITTEN_OUT {
            let what = "parts in an expression whose columns are written out";
            return Err(too_large(what, WRITTEN_OUT).into());
        }
        Ok(parts)
    };
    let mut own = Vec::new();
    plan.apply_expressions(|expression| {
        expression.apply(|part| {
            // What a subquery computes is written out too.
            if let Expr::ScalarSubquery(subquery) = part {
                written_out(&subquery.subquery)?;
            }
            if let Expr::Exists(exists) = part {
                written_out(&exists.subquery.subquery)?;
            }
            if let Expr::InSubquery(within) = part {
                written_out(&within.subquery.subquery)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        own.push(parts(expression)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    let columns = plan.schema().fields().len();
    let mut passed: Vec<u64> = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => own,
        LogicalPlan::Window(_) => below.concat().into_iter().chain(own).collect(),
        LogicalPlan::Union(_) => {
            let widest = |at: usize| below.iter().filter_map(|parts| parts.get(at)).max();
            (0..columns).map(|at| widest(at).copied().unwrap_or(1)).collect()
        }
        _ => below.concat(),
    };
    if passed.len() != columns {
        // Columns that are made anew, left out or put elsewhere: as long as the longest.
        let longest = passed.iter().copied().max().unwrap_or(1);
        passed = vec![longest; columns];
    }
    Ok(passed)
}
