//! Values of parameters in binary form: whether each is as long as its type says, judged before the library reads it.
//!
//! Out: an error of the statement, `22P03`. A message with such a value is well-formed, so the connection goes on.

use pgwire::{
    api::{Type, portal::Portal, results::FieldFormat},
    error::{ErrorInfo, PgWireError, PgWireResult},
};

/// Judges the values of `portal`; `decided` are the types of parameters whose types the client has not named.
pub(super) fn judge<S: Clone>(portal: &Portal<S>, decided: &[Type]) -> PgWireResult<()> {
    let named = &portal.statement.parameter_types;
    for (at, value) in portal.parameters.iter().enumerate() {
        let named = named.get(at).and_then(Option::as_ref);
        let (Some(kind), Some(value)) = (named.or(decided.get(at)), value) else {
            continue;
        };
        if portal.parameter_format.format_for(at) != FieldFormat::Binary {
            continue;
        }
        if let Err(wrong) = fits(kind, value) {
            let message = format!(
                "the value of parameter ${} is no binary {}: {wrong}",
                at + 1,
                kind.name()
            );
            let info = ErrorInfo::new("ERROR".into(), "22P03".into(), message);
            return Err(PgWireError::UserError(Box::new(info)));
        }
    }
    Ok(())
}

fn fits(kind: &Type, value: &[u8]) -> Result<(), String> {
    if let Some(element) = element(kind) {
        return array(&element, value);
    }
    match size(kind) {
        Some(bytes) if bytes != value.len() => Err(format!("{} bytes instead of {bytes}", value.len())),
        _ if *kind == Type::NUMERIC => numeric(value),
        _ if *kind == Type::INTERVAL => interval(value),
        _ => Ok(()),
    }
}

/// Bytes of each value of a type that has a fixed size.
fn size(kind: &Type) -> Option<usize> {
    Some(match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME | Type::MONEY => 8,
        Type::INTERVAL | Type::UUID => 16,
        _ => return None,
    })
}

fn element(kind: &Type) -> Option<Type> {
    Some(match *kind {
        Type::BOOL_ARRAY => Type::BOOL,
        Type::CHAR_ARRAY => Type::CHAR,
        Type::INT2_ARRAY => Type::INT2,
        Type::INT4_ARRAY => Type::INT4,
        Type::INT8_ARRAY => Type::INT8,
        Type::FLOAT4_ARRAY => Type::FLOAT4,
        Type::FLOAT8_ARRAY => Type::FLOAT8,
        Type::NUMERIC_ARRAY => Type::NUMERIC,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY | Type::NAME_ARRAY => Type::TEXT,
        Type::BYTEA_ARRAY => Type::BYTEA,
        Type::TIMESTAMP_ARRAY => Type::TIMESTAMP,
        Type::TIMESTAMPTZ_ARRAY => Type::TIMESTAMPTZ,
        Type::DATE_ARRAY => Type::DATE,
        Type::TIME_ARRAY => Type::TIME,
        Type::INTERVAL_ARRAY => Type::INTERVAL,
        Type::UUID_ARRAY => Type::UUID,
        Type::OID_ARRAY => Type::OID,
        Type::MONEY_ARRAY => Type::MONEY,
        _ => return None,
    })
}

/// Dimensions, whether there are nulls, the type; each dimension with its first index; each value with its length.
fn array(element: &Type, value: &[u8]) -> Result<(), String> {
    let mut left = value;
    let cut = || "it ends too early".to_owned();
    let dimensions = number(&mut left).ok_or_else(cut)?;
    left = left.get(8..).ok_or_else(cut)?;
    if dimensions > 6 {
        return Err(format!("{dimensions} dimensions"));
    }
    let mut values = u64::from(dimensions > 0);
    for _ in 0..dimensions {
        let length = number(&mut left).ok_or_else(cut)?;
        values = values.saturating_mul(length.into());
        left = left.get(4..).ok_or_else(cut)?;
    }
    // What reads it takes memory for all of them at once.
    if values.saturating_mul(4) > left.len() as u64 {
        return Err(format!("{values} values in {} bytes", left.len()));
    }
    for _ in 0..values {
        let length = number(&mut left).ok_or_else(cut)?;
        if length != u32::MAX {
            let (one, rest) = left.split_at_checked(length as usize).ok_or_else(cut)?;
            fits(element, one)?;
            left = rest;
        }
    }
    match left.len() {
        0 => Ok(()),
        more => Err(format!("{more} bytes too many")),
    }
}

/// Number of digits of four, weight, sign, scale; the digits.
fn numeric(value: &[u8]) -> Result<(), String> {
    match value {
        [high, low, _, _, _, _, _, _, digits @ ..] => {
            let declared = usize::from(u16::from_be_bytes([*high, *low]));
            if digits.len() == declared * 2 {
                return Ok(());
            }
            Err(format!("{} bytes of {declared} digits of four", digits.len()))
        }
        _ => Err(format!("{} bytes", value.len())),
    }
}

/// Microseconds, days, months. What is done with it counts in nanoseconds.
fn interval(value: &[u8]) -> Result<(), String> {
    let micros = value.first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
    match micros.and_then(|micros| micros.checked_mul(1000)) {
        Some(_) => Ok(()),
        None => Err("longer than 292 years".into()),
    }
}

fn number(left: &mut &[u8]) -> Option<u32> {
    let (number, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_is_as_long_as_its_type_says() {
        for (kind, bytes) in [
            (Type::INTERVAL, 16),
            (Type::INT8, 8),
            (Type::DATE, 4),
            (Type::BOOL, 1),
            (Type::UUID, 16),
        ] {
            for length in 0..20 {
                assert_eq!(
                    fits(&kind, &vec![0; length]).is_ok(),
                    length == bytes,
                    "{kind}: {length}"
                );
            }
        }
        assert_eq!(
            fits(&Type::INTERVAL, &[0; 3]).unwrap_err(),
            "3 bytes instead of 16"
        );
        assert!(fits(&Type::INTERVAL, &[0x7f; 16]).is_err());
        assert!(fits(&Type::TEXT, b"any").is_ok());
    }

    #[test]
    fn an_array_holds_as_many_values_as_it_declares() {
        let array = |dimensions: u32, values: u32, rest: &[u8]| {
            let head = [dimensions, 0, 23, values, 1].map(u32::to_be_bytes).concat();
            fits(&Type::INT4_ARRAY, &[&head[..], rest].concat())
        };
        let two = b"\x00\x00\x00\x04\x00\x00\x00\x01\xff\xff\xff\xff";
        assert_eq!(array(1, 2, two), Ok(()));
        assert_eq!(fits(&Type::INT4_ARRAY, &[0; 12]), Ok(()));
        for (dimensions, values, rest, why) in [
            (1, 3, &two[..], "it ends too early"),
            (1, 1, two, "4 bytes too many"),
            (1, u32::MAX >> 1, two, "2147483647 values in 12 bytes"),
            (1, u32::MAX, two, "4294967295 values in 12 bytes"),
            (1000, 2, two, "1000 dimensions"),
            (2, 1, two, "4 values in 4 bytes"),
            (1, 1, b"\x00\x00\x00\x02\x00\x01", "2 bytes instead of 4"),
        ] {
            assert_eq!(array(dimensions, values, rest).unwrap_err(), why);
        }
        assert!(fits(&Type::INT4_ARRAY, &[0; 11]).is_err());
    }

    #[test]
    fn a_number_has_the_digits_that_it_declares() {
        assert!(fits(&Type::NUMERIC, b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x2a").is_ok());
        for wrong in [
            &b""[..],
            b"\x00\x01\x00\x00\x00\x00\x00\x00",
            b"\xff\xff\x00\x00\x00\x00\x00\x00\x00\x2a",
        ] {
            assert!(fits(&Type::NUMERIC, wrong).is_err());
        }
    }
}
