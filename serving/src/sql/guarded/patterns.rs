//! Patterns that may be used: few, short, and small when compiled, the smaller the longer the text.

use super::super::SqlError;
use arrow::{
    array::{Array, AsArray},
    datatypes::DataType,
};
use datafusion::logical_expr::ColumnarValue;
use regex::RegexBuilder;
use std::collections::BTreeSet;

/// Most bytes of one pattern.
const BYTES: usize = 4096;
/// Most different patterns for one batch of rows.
const DIFFERENT: usize = 256;
/// Most bytes of them together.
const ALL_BYTES: usize = 64 << 10;
/// Most bytes of a compiled pattern that is looked for in more than [`LITTLE_TEXT`] bytes.
const SMALL: usize = 512 << 10;
/// Most bytes of any compiled pattern.
const LARGE: usize = 2 << 20;
/// Text in which a large pattern may be looked for, in bytes.
const LITTLE_TEXT: u64 = 1 << 20;

/// Most bytes of a `like` pattern times bytes of the text: the first may be looked at for each of the second.
const LIKE_LOOKS: u64 = 16 << 20;

/// Whether `patterns` may be looked for in so many bytes of text.
///
/// # Errors
///
/// They are too long, too many, or too much when compiled.
pub(super) fn judge(patterns: Option<&ColumnarValue>, text: u64) -> Result<(), SqlError> {
    let mut different = BTreeSet::new();
    match patterns {
        None => {}
        Some(ColumnarValue::Scalar(value)) => different.extend(value.try_as_str().flatten()),
        Some(ColumnarValue::Array(array)) => match array.data_type() {
            DataType::Utf8 => different.extend(array.as_string::<i32>().iter().flatten()),
            DataType::LargeUtf8 => different.extend(array.as_string::<i64>().iter().flatten()),
            DataType::Utf8View => different.extend(array.as_string_view().iter().flatten()),
            _ => {}
        },
    }
    if different.len() > DIFFERENT || different.iter().map(|pattern| pattern.len()).sum::<usize>() > ALL_BYTES
    {
        return Err(refused(format!(
            "at most {DIFFERENT} different patterns of {ALL_BYTES} bytes together for one batch of rows"
        )));
    }
    let most = if text > LITTLE_TEXT { SMALL } else { LARGE };
    for pattern in different {
        if pattern.len() > BYTES {
            return Err(refused(format!("at most {BYTES} bytes of a pattern")));
        }
        // What is no pattern is told by whoever uses it.
        let compiled = RegexBuilder::new(pattern).size_limit(most).build();
        if let Err(regex::Error::CompiledTooBig(_)) = compiled {
            return Err(refused(format!(
                "at most {most} bytes of a compiled pattern, for so long a text"
            )));
        }
    }
    Ok(())
}

/// Whether a `like` pattern of so many bytes may be looked for in so many bytes of text.
///
/// # Errors
///
/// It is too long.
pub(super) fn judge_like(bytes: u64, text: u64) -> Result<(), SqlError> {
    let most = if text > LITTLE_TEXT { BYTES / 4 } else { BYTES };
    if bytes > most as u64 {
        return Err(refused(format!(
            "at most {most} bytes of a pattern, for so long a text"
        )));
    }
    // Of a constant the text is not known; then its length alone counts.
    if text != u64::MAX && bytes.saturating_mul(text) > LIKE_LOOKS && bytes > 64 {
        return Err(refused(format!(
            "at most {} bytes of a pattern, for so long a text",
            (LIKE_LOOKS / text).max(64)
        )));
    }
    Ok(())
}

fn refused(what: String) -> SqlError {
    SqlError::TooComplex {
        state: "54001",
        message: format!("the pattern is too complex: there may be {what}; ask for a simpler one"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::scalar::ScalarValue;

    fn judged(pattern: &str, text: u64) -> Result<(), SqlError> {
        judge(Some(&ColumnarValue::Scalar(ScalarValue::from(pattern))), text)
    }

    #[test]
    fn the_longer_the_text_the_shorter_a_pattern_of_like_may_be() {
        judge_like(4000, 4000).unwrap();
        judge_like(64, 1 << 40).unwrap();
        let error = judge_like(1000, 1_000_000).unwrap_err();
        assert!(
            error.to_string().contains("at most 64 bytes of a pattern"),
            "{error}"
        );
    }

    #[test]
    fn patterns_that_are_bombs_are_refused_and_those_that_are_none_are_not_judged() {
        for pattern in ["^R[0-9]+_S", r"\w+/\d{8}/.*\.fits$", "(", "a{1,", ""] {
            judged(pattern, u64::MAX).unwrap();
        }
        for pattern in [
            "((a{100}){100}){100}".to_owned(),
            r"\pL{1000}".to_owned(),
            "a".repeat(5000),
        ] {
            let error = judged(&pattern, 10).unwrap_err();
            assert_eq!(error.state(), "54001");
        }
        assert!(
            judged(&"(".repeat(2000), 10).is_ok(),
            "nested too deep is no pattern"
        );
    }
}
