//! Coded: keys and values in few bytes.

use super::Damaged;
use serde::{Serialize, de::DeserializeOwned};

/// The bytes of `value`, whose type is one that can always be written; what could not be is no bytes, which nobody
/// takes for a value.
pub(crate) fn encoded<V: Serialize + ?Sized>(value: &V) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

/// The value of `bytes`, all of them, in a row of `kind`.
pub(crate) fn decoded<V: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<V, Damaged> {
    whole(kind, postcard::take_from_bytes(bytes))
}

/// What was read, if nothing is left over.
pub(crate) fn whole<V>(kind: &'static str, read: postcard::Result<(V, &[u8])>) -> Result<V, Damaged> {
    match read {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(Damaged {
            kind,
            reason: format!("{} bytes too many", rest.len()),
        }),
        Err(error) => Err(Damaged {
            kind,
            reason: error.to_string(),
        }),
    }
}
