//! Functions that are asked what they could make before they make it.
//!
//! ```text
//!   arguments --most that could come of them--> within the statement's bounds? --> the library's function
//! ```
//!
//! What a function makes is nobody's account while it is made: `replace` of letters by words, three times within itself,
//! makes gigabytes of a line. So the functions whose answer, or whose work, can be more than their arguments are asked for
//! an upper bound first; patterns are compiled within a bound before they are used.

mod measure;
mod patterns;

use super::{SqlError, watch};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    error::Result,
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        interval_arithmetic::Interval,
        sort_properties::{ExprProperties, SortProperties},
    },
};
use measure::{longest, most, series, total};
use std::sync::Arc;

/// Most comparisons of letters that one call of `levenshtein` may make: of all its rows together.
const COMPARISONS: u64 = 20_000_000;

/// Most bytes that one call of a function may work through which does much for each: of all its rows together.
const LABOUR: u64 = 4 << 20;

/// What a function makes of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Makes {
    /// At most what it is given, all together.
    Sum,
    /// The same, in one loop that does much for each of them.
    Labour,
    /// The first, each letter of which may become the argument at this place.
    EachLetter(usize),
    /// The first, as often as the second says.
    Times,
    /// A text as long as the second says.
    Letters,
    /// A list of the first, as long as the second says.
    Elements,
    /// From the first to the second.
    Series,
    /// Little, by comparing each letter, or element, of the first with each of the second.
    Compared,
    /// At most what it is given, by a pattern, the second.
    Matches,
    /// Each letter may become the third, by a pattern, the second.
    Replaces,
    /// Nothing but the first, once it is a pattern that may be used on the second.
    Pattern,
    /// As [`Makes::Pattern`], of `like`.
    Like,
}

/// The functions of which one asks first.
fn makes(name: &str) -> Option<Makes> {
    Some(match name {
        "replace" => Makes::EachLetter(2),
        "array_to_string" | "to_char" => Makes::EachLetter(1),
        "repeat" => Makes::Times,
        "lpad" | "rpad" => Makes::Letters,
        "array_repeat" | "array_resize" => Makes::Elements,
        "range" | "generate_series" | "gen_series" => Makes::Series,
        "levenshtein" | "array_has_any" | "array_has_all" | "btrim" | "ltrim" | "rtrim" => Makes::Compared,
        "regexp_like" | "regexp_match" | "regexp_count" | "regexp_instr" => Makes::Matches,
        "regexp_replace" => Makes::Replaces,
        PATTERN => Makes::Pattern,
        LIKE => Makes::Like,
        "translate" | "initcap" | "reverse" | "string_to_array" | "array_replace" | "array_replace_n"
        | "array_replace_all" | "array_union" | "array_intersect" | "array_except" | "array_distinct"
        | "array_sort" | "array_reverse" | "arrays_zip" | "map" | "encode" | "decode" => Makes::Labour,
        "concat" | "concat_ws" | "overlay" | "lower" | "upper" | "make_array" | "array_append"
        | "array_prepend" | "array_concat" | "flatten" | JOINED => Makes::Sum,
        _ => return None,
    })
}

/// The function that looks at the pattern of an operator.
const PATTERN: &str = "checked_pattern";
/// The function that looks at the pattern of `like`.
const LIKE: &str = "checked_like";
/// The operator `||` of texts, as a function.
const JOINED: &str = "text_concat";

/// A function, and what it makes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Guarded {
    inner: Arc<ScalarUDF>,
    makes: Makes,
}

impl Guarded {
    /// `function`, which is asked first if it is one of those.
    pub(super) fn of(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        match makes(function.name()) {
            Some(makes) if !function.inner().is::<Self>() => Arc::new(ScalarUDF::new_from_impl(Self {
                inner: function,
                makes,
            })),
            _ => function,
        }
    }

    fn too_much(&self, what: String, most: u64) -> SqlError {
        SqlError::TooComplex {
            state: "54001",
            message: format!(
                "`{}` would {what} for one batch of rows, and {most} are the most; ask for fewer or shorter ones",
                self.name()
            ),
        }
    }

    fn ask(&self, arguments: &ScalarFunctionArgs) -> Result<(), SqlError> {
        let (args, rows) = (&arguments.args, arguments.number_rows);
        let all = || {
            args.iter()
                .fold(0u64, |sum, argument| sum.saturating_add(total(argument, rows)))
        };
        let of = |at: usize, measure: fn(&ColumnarValue, usize) -> u64| {
            args.get(at).map_or(0, |a| measure(a, rows))
        };
        let rows_of = |bytes: u64| bytes.saturating_mul(rows.max(1) as u64);
        let bytes = match self.makes {
            Makes::Sum => all(),
            Makes::Labour => {
                let bytes = all();
                if bytes > LABOUR {
                    return Err(self.too_much(format!("work through {bytes} bytes"), LABOUR));
                }
                bytes
            }
            Makes::EachLetter(with) => {
                let letters = of(0, total).saturating_add(rows as u64);
                letters.saturating_mul(of(with, longest).saturating_add(1))
            }
            Makes::Times => of(0, total).saturating_mul(of(1, most)),
            Makes::Letters => rows_of(of(1, most).saturating_mul(4)),
            Makes::Elements => {
                let (element, count) = if self.name() == "array_resize" {
                    (2, 1)
                } else {
                    (0, 1)
                };
                let one = of(element, longest).max(8);
                all().saturating_add(rows_of(of(count, most).saturating_mul(one)))
            }
            Makes::Series => series(args, rows).unwrap_or_else(all),
            Makes::Compared => {
                let compared = of(0, total).saturating_mul(of(1, longest).max(1));
                if compared > COMPARISONS && args.len() > 1 {
                    let what = format!("compare {compared} letters with each other");
                    return Err(self.too_much(what, COMPARISONS));
                }
                all()
            }
            Makes::Matches => {
                patterns::judge(args.get(1), of(0, total))?;
                all()
            }
            Makes::Replaces => {
                patterns::judge(args.get(1), of(0, total))?;
                let letters = of(0, total).saturating_add(rows as u64);
                letters.saturating_mul(of(2, longest).saturating_add(1))
            }
            Makes::Pattern => {
                patterns::judge(args.first(), of(1, total))?;
                of(0, total)
            }
            Makes::Like => {
                patterns::judge_like(of(0, longest), of(1, total))?;
                of(0, total)
            }
        };
        watch::will_make(self.name(), bytes)
    }
}

impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.ask(&arguments)?;
        self.inner.invoke_with_args(arguments)
    }

    // Nothing is made simpler here: what comes of it may be the function itself, unasked.

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }
}

/// A pattern of `~` or `like`, and the text that it is for: the pattern, if it may be used.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    name: &'static str,
    signature: Signature,
}

impl Pattern {
    /// Of `~` and its like.
    pub(super) fn regular() -> Arc<ScalarUDF> {
        Self::function(PATTERN)
    }

    /// Of `like`.
    pub(super) fn like() -> Arc<ScalarUDF> {
        Self::function(LIKE)
    }

    fn function(name: &'static str) -> Arc<ScalarUDF> {
        let signature = Signature::any(2, Volatility::Immutable);
        Guarded::of(Arc::new(ScalarUDF::new_from_impl(Self { name, signature })))
    }

    /// Whether a constant may be a pattern on whatever text.
    ///
    /// # Errors
    ///
    /// It is too long, or too much when compiled.
    pub(super) fn judge(constant: &datafusion::scalar::ScalarValue, is_like: bool) -> Result<(), SqlError> {
        let Some(text) = constant.try_as_str().flatten() else {
            return Ok(());
        };
        if is_like {
            return patterns::judge_like(text.len() as u64, u64::MAX);
        }
        patterns::judge(Some(&ColumnarValue::Scalar(constant.clone())), u64::MAX)
    }
}

impl ScalarUDFImpl for Pattern {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Utf8))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pattern = arguments.args.into_iter().next();
        pattern.ok_or_else(|| SqlError::Failed("a pattern is missing".into()).into())
    }
}

/// `||` of texts, of all of them: null if one is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Joined(Signature);

impl Joined {
    pub(super) fn function() -> Arc<ScalarUDF> {
        Guarded::of(Arc::new(ScalarUDF::new_from_impl(Self(Signature::user_defined(
            Volatility::Immutable,
        )))))
    }

    /// Whether `function` is it, asked or not.
    pub(super) fn is(function: &ScalarUDF) -> bool {
        function.name() == JOINED
    }
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        JOINED
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Utf8))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let text = if types.contains(&DataType::LargeUtf8) {
            DataType::LargeUtf8
        } else {
            DataType::Utf8
        };
        Ok(vec![text; types.len()])
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let parts = ColumnarValue::values_to_arrays(&arguments.args)?;
        let mut parts = parts.into_iter();
        let first = parts
            .next()
            .ok_or_else(|| SqlError::Failed("`||` has two sides".into()))?;
        let joined = parts.try_fold(first, |joined, part| {
            arrow::compute::kernels::concat_elements::concat_elements_dyn(&joined, &part)
        })?;
        let scalar = arguments
            .args
            .iter()
            .all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        if scalar {
            let value = datafusion::scalar::ScalarValue::try_from_array(&joined, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(joined))
    }
}
