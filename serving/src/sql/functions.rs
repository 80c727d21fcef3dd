//! Functions of PostgreSQL that clients call to find their way, and that nobody else brings.

use super::{running::Running, watch};
use arrow::{
    array::{ArrayRef, BooleanArray, StringArray, cast::AsArray, new_null_array},
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf},
    scalar::ScalarValue,
};
use std::sync::Arc;

/// What clients take for the version of PostgreSQL: they ask what such a version understands.
pub(crate) const SERVER_VERSION: &str = "15.0";

/// All of them.
pub(super) fn all(running: &Arc<Running>) -> Vec<ScalarUDF> {
    vec![
        create_udf(
            "pg_backend_pid",
            Vec::new(),
            DataType::Int32,
            Volatility::Stable,
            Arc::new(|_| Ok(ColumnarValue::Scalar(ScalarValue::Int32(Some(watch::pid()))))),
        ),
        told("pg_cancel_backend", running, Running::cancel),
        told("pg_terminate_backend", running, Running::terminate),
        create_udf(
            "version",
            Vec::new(),
            DataType::Utf8,
            Volatility::Stable,
            Arc::new(|_| {
                let version = format!("PostgreSQL {SERVER_VERSION} (dbb {})", env!("CARGO_PKG_VERSION"));
                Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(version))))
            }),
        ),
        create_udf(
            "current_setting",
            vec![DataType::Utf8],
            DataType::Utf8,
            Volatility::Stable,
            Arc::new(current_setting),
        ),
        // Nothing has a comment.
        nothing("obj_description", vec![DataType::Int64, DataType::Utf8]),
        nothing("col_description", vec![DataType::Int64, DataType::Int64]),
        nothing("shobj_description", vec![DataType::Int64, DataType::Utf8]),
    ]
}

/// The value of a setting; of one that is not known, nothing.
pub(crate) fn setting(name: &str) -> Option<&'static str> {
    Some(match name {
        "server_version" => SERVER_VERSION,
        "server_version_num" => "150000",
        "search_path" => "public",
        "timezone" => "Etc/UTC",
        "client_encoding" | "server_encoding" => "UTF8",
        "standard_conforming_strings" | "integer_datetimes" => "on",
        "transaction_read_only" | "default_transaction_read_only" => "on",
        "transaction_isolation" | "default_transaction_isolation" => "read committed",
        "max_identifier_length" => "63",
        "application_name" => "",
        _ => return None,
    })
}

fn current_setting(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let names = ColumnarValue::values_to_arrays(arguments)?;
    let values: StringArray = names[0]
        .as_string::<i32>()
        .iter()
        .map(|name| name.and_then(|name| setting(&name.to_lowercase())))
        .collect();
    if matches!(arguments, [ColumnarValue::Scalar(_)]) {
        let value = ScalarValue::try_from_array(&values, 0)?;
        return Ok(ColumnarValue::Scalar(value));
    }
    Ok(ColumnarValue::Array(Arc::new(values) as ArrayRef))
}

/// A function that tells connections, by their numbers, what to do; true where there is such a connection.
fn told(name: &str, running: &Arc<Running>, tell: fn(&Running, i32) -> bool) -> ScalarUDF {
    let running = Arc::clone(running);
    let answer = move |arguments: &[ColumnarValue]| {
        let pids = ColumnarValue::values_to_arrays(arguments)?;
        let told: BooleanArray = pids[0]
            .as_primitive::<Int64Type>()
            .iter()
            .map(|pid| pid.map(|pid| i32::try_from(pid).is_ok_and(|pid| tell(&running, pid))))
            .collect();
        if matches!(arguments, [ColumnarValue::Scalar(_)]) {
            let told = ScalarValue::try_from_array(&told, 0)?;
            return Ok(ColumnarValue::Scalar(told));
        }
        Ok(ColumnarValue::Array(Arc::new(told) as ArrayRef))
    };
    create_udf(
        name,
        vec![DataType::Int64],
        DataType::Boolean,
        // What it does must be done once for each row, and not while it is planned.
        Volatility::Volatile,
        Arc::new(answer),
    )
}

fn nothing(name: &str, arguments: Vec<DataType>) -> ScalarUDF {
    let answer = |arguments: &[ColumnarValue]| {
        let rows = arguments.iter().find_map(|argument| match argument {
            ColumnarValue::Array(array) => Some(array.len()),
            ColumnarValue::Scalar(_) => None,
        });
        Ok(match rows {
            Some(rows) => ColumnarValue::Array(new_null_array(&DataType::Utf8, rows)),
            None => ColumnarValue::Scalar(ScalarValue::Utf8(None)),
        })
    };
    create_udf(
        name,
        arguments,
        DataType::Utf8,
        Volatility::Stable,
        Arc::new(answer),
    )
}
