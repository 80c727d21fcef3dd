//! A plan in which every function and operator asks before it makes much.
//!
//! ```text
//!   a || b || c         text_concat(a, b, c)               asked like a function
//!   a ~ b               a ~ checked_pattern(b, a)          unless b is a constant, which is looked at here
//!   overlay(.. placing) the function that is asked         where the planner took the library's own
//!   array_agg(..) over  refused: it would be a list for each row, of all rows
//! ```

use super::{
    SqlError,
    guarded::{Guarded, Joined, Pattern},
};
use arrow::datatypes::DataType;
use datafusion::{
    common::tree_node::{Transformed, TreeNode},
    error::Result,
    logical_expr::{
        BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, WindowFunctionDefinition,
        expr::{Like, ScalarFunction, WindowFunction},
        expr_rewriter::NamePreserver,
        utils::merge_schema,
    },
};
use std::sync::Arc;

/// Aggregates whose answer is as long as what they aggregate.
const GATHERING: [&str; 2] = ["array_agg", "string_agg"];
/// Aggregates that go over all that they have gathered each time they are asked.
const LABORIOUS: [&str; 7] = [
    "median",
    "percentile_cont",
    "quantile_cont",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
];

/// `plan`, hardened.
///
/// # Errors
///
/// A pattern in it is too complex, or a function is not served where it is.
pub(super) fn harden(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let schema = merge_schema(&node.inputs());
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let done = expression.transform_up(|part| {
                refuse_window(&part)?;
                Ok(match part {
                    Expr::BinaryExpr(BinaryExpr {
                        left,
                        op: Operator::StringConcat,
                        right,
                    }) if is_text(&left, &schema) && is_text(&right, &schema) => {
                        Transformed::yes(joined(*left, *right))
                    }
                    Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_match(op) => {
                        let right = checked(*right, &left, false)?;
                        Transformed::yes(Expr::BinaryExpr(BinaryExpr {
                            left,
                            op,
                            right: Box::new(right),
                        }))
                    }
                    Expr::Like(like) => Transformed::yes(Expr::Like(Like {
                        pattern: Box::new(checked(*like.pattern, &like.expr, true)?),
                        ..like
                    })),
                    Expr::SimilarTo(like) => Transformed::yes(Expr::SimilarTo(Like {
                        pattern: Box::new(checked(*like.pattern, &like.expr, false)?),
                        ..like
                    })),
                    Expr::ScalarFunction(ScalarFunction { func, args }) => {
                        Transformed::yes(call(Guarded::of(func), args))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(done.update_data(|expression| name.restore(expression)))
        })
    })?;
    Ok(done.data)
}

/// One call for all of `a || b || c`: hundreds of calls within each other are planned in minutes.
fn joined(left: Expr, right: Expr) -> Expr {
    let mut parts = parts_of(left);
    parts.extend(parts_of(right));
    call(Joined::function(), parts)
}

fn parts_of(side: Expr) -> Vec<Expr> {
    match side {
        Expr::ScalarFunction(ScalarFunction { func, args }) if Joined::is(&func) => args,
        other => vec![other],
    }
}

fn call(func: Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func, args })
}

fn is_match(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch
    )
}

/// No list, no bytes: their `||` are other functions.
fn is_text(expression: &Expr, schema: &datafusion::common::DFSchema) -> bool {
    expression.get_type(schema).is_ok_and(|of| {
        !matches!(
            of,
            DataType::List(_)
                | DataType::LargeList(_)
                | DataType::ListView(_)
                | DataType::FixedSizeList(..)
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
    })
}

fn checked(pattern: Expr, text: &Expr, is_like: bool) -> Result<Expr> {
    if let Expr::Literal(constant, _) = &pattern {
        Pattern::judge(constant, is_like)?;
        return Ok(pattern);
    }
    let function = if is_like {
        Pattern::like()
    } else {
        Pattern::regular()
    };
    Ok(call(function, vec![pattern, text.clone()]))
}

fn refuse_window(part: &Expr) -> Result<()> {
    let Expr::WindowFunction(window) = part else {
        return Ok(());
    };
    let WindowFunction { fun, params } = &**window;
    let WindowFunctionDefinition::AggregateUDF(aggregate) = fun else {
        return Ok(());
    };
    let name = aggregate.name();
    let frame = &params.window_frame;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let runs = !params.order_by.is_empty() || !whole;
    let laborious = LABORIOUS.contains(&name) || params.distinct;
    if GATHERING.contains(&name) || (laborious && runs) {
        let what = format!(
            "`{name}` as a running window is not served, for it would go over all rows for each of them; use `group by`, \
             or a window without `order by`"
        );
        return Err(SqlError::NotServed(what).into());
    }
    Ok(())
}
