//! Columns: the arrays that the rows of a view become. `None` is a value that is not told.

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, TimeUnit},
};
use dbb_events::Micros;
use std::sync::Arc;

const UTC: &str = "+00:00";

/// The type of a time: microseconds, UTC.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// A column of text.
pub(crate) fn texts<S: AsRef<str>>(values: impl Iterator<Item = S>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// A column of text, where it is told.
pub(crate) fn told_texts<S: AsRef<str>>(values: impl Iterator<Item = Option<S>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// A column of whole numbers.
pub(crate) fn numbers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// A column of whole numbers, where they are told.
pub(crate) fn told_numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

/// A column of seconds, from milliseconds, where they are told.
pub(crate) fn told_seconds(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(
        values
            .map(|ms| ms.map(|ms| f64::from(ms) / 1000.0))
            .collect::<Float64Array>(),
    )
}

/// A column of times.
pub(crate) fn times(values: impl Iterator<Item = Micros>) -> ArrayRef {
    told_times(values.map(Some))
}

/// A column of times, where they are told.
pub(crate) fn told_times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(
        values
            .map(|at| at.map(|at| at.0))
            .collect::<TimestampMicrosecondArray>()
            .with_timezone(UTC),
    )
}

/// Words in one text, between commas.
pub(crate) fn joined<W: ToString>(words: impl IntoIterator<Item = W>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    words.join(",")
}
