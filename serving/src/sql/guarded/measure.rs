//! How long arguments are.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit},
};
use datafusion::logical_expr::ColumnarValue;

/// Bytes of `argument` in all of its `rows`; a constant is in each of them.
pub(super) fn total(argument: &ColumnarValue, rows: usize) -> u64 {
    match argument {
        ColumnarValue::Array(array) => of_array(array),
        ColumnarValue::Scalar(_) => longest(argument, rows).saturating_mul(rows.max(1) as u64),
    }
}

/// Bytes of the longest of its values.
pub(super) fn longest(argument: &ColumnarValue, _: usize) -> u64 {
    match argument {
        ColumnarValue::Scalar(value) => match value.try_as_str() {
            Some(text) => text.map_or(0, str::len) as u64,
            None => value.to_array().map_or(0, |array| of_array(&array)),
        },
        ColumnarValue::Array(array) => {
            lengths(array).map_or_else(|| of_array(array), |all| all.max().unwrap_or(0))
        }
    }
}

/// The length of each text.
fn lengths(array: &ArrayRef) -> Option<Box<dyn Iterator<Item = u64> + '_>> {
    let length = |text: Option<&str>| text.map_or(0, str::len) as u64;
    Some(match array.data_type() {
        DataType::Utf8 => Box::new(array.as_string::<i32>().iter().map(length)),
        DataType::LargeUtf8 => Box::new(array.as_string::<i64>().iter().map(length)),
        DataType::Utf8View => Box::new(array.as_string_view().iter().map(length)),
        _ => return None,
    })
}

fn of_array(array: &ArrayRef) -> u64 {
    if let Some(lengths) = lengths(array) {
        return lengths.fold(0, u64::saturating_add);
    }
    let bytes = array.to_data().get_slice_memory_size();
    bytes.unwrap_or_else(|_| array.get_array_memory_size()) as u64
}

/// The greatest of its numbers; 0 when none is.
pub(super) fn most(argument: &ColumnarValue, _: usize) -> u64 {
    numbers(argument)
        .map_or(0, |numbers| numbers.into_iter().flatten().max().unwrap_or(0))
        .try_into()
        .unwrap_or(0)
}

fn array(argument: &ColumnarValue) -> Option<ArrayRef> {
    match argument {
        ColumnarValue::Array(array) => Some(array.clone()),
        ColumnarValue::Scalar(value) => value.to_array().ok(),
    }
}

fn numbers(argument: &ColumnarValue) -> Option<Vec<Option<i64>>> {
    let array = cast(&array(argument)?, &DataType::Int64).ok()?;
    Some(array.as_primitive::<Int64Type>().iter().collect())
}

/// Numbers, or the microseconds of times.
fn places(argument: &ColumnarValue) -> Option<Vec<Option<i64>>> {
    let array = array(argument)?;
    let array = match array.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?
        }
        _ => array,
    };
    let array = cast(&array, &DataType::Int64).ok()?;
    Some(array.as_primitive::<Int64Type>().iter().collect())
}

/// As [`places`], of steps; of an interval, the least that it can be.
fn steps(argument: &ColumnarValue) -> Option<Vec<Option<i64>>> {
    let array = array(argument)?;
    if !matches!(array.data_type(), DataType::Interval(_)) {
        return numbers(argument);
    }
    let array = cast(&array, &DataType::Interval(IntervalUnit::MonthDayNano)).ok()?;
    let day = 23 * 3_600_000_000i64;
    let micros = |step: <IntervalMonthDayNanoType as arrow::datatypes::ArrowPrimitiveType>::Native| {
        (i64::from(step.months) * 28 * day)
            .saturating_add(i64::from(step.days).saturating_mul(day))
            .saturating_add(step.nanoseconds / 1000)
    };
    let all = array.as_primitive::<IntervalMonthDayNanoType>().iter();
    Some(all.map(|step| step.map(micros)).collect())
}

/// Bytes of all the numbers from the first argument, or 0, to the second, by the third, or 1.
pub(super) fn series(arguments: &[ColumnarValue], rows: usize) -> Option<u64> {
    let one = vec![Some(1)];
    let zero = vec![Some(0)];
    let (from, to, by) = match arguments {
        [to] => (zero, places(to)?, one),
        [from, to] => (places(from)?, places(to)?, one),
        [from, to, by] => (places(from)?, places(to)?, steps(by)?),
        _ => return None,
    };
    let at = |values: &[Option<i64>], row: usize| {
        values
            .get(row.min(values.len().saturating_sub(1)))
            .copied()
            .flatten()
    };
    let constant = [&from, &to, &by].iter().all(|values| values.len() == 1);
    let different = if constant { 1 } else { rows };
    let mut elements = 0u64;
    for row in 0..different {
        let (Some(from), Some(to), Some(by)) = (at(&from, row), at(&to, row), at(&by, row)) else {
            continue;
        };
        let span = from.abs_diff(to);
        elements = elements.saturating_add(span / by.unsigned_abs().max(1) + 1);
    }
    let times = if constant { rows.max(1) as u64 } else { 1 };
    Some(elements.saturating_mul(times).saturating_mul(8))
}
