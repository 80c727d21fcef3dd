//! A row as the body that Hermes would have sent, with the message's id.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// What a row says.
#[derive(Debug)]
pub(super) struct Row {
    /// `f2b04f0e-…`.
    pub(super) id: String,
    pub(super) event_type: String,
    /// JSON; `nolimit` where it was too long for its column.
    pub(super) payload: String,
    pub(super) payload_nolimit: Option<String>,
    /// With six digits of a fraction.
    pub(super) created_at: Option<String>,
}

/// The body.
pub(super) fn body(row: &Row) -> Vec<u8> {
    let payload = match &row.payload_nolimit {
        Some(long) if row.payload == "nolimit" => long,
        _ => &row.payload,
    };
    // What is no JSON is kept as a text, of which decoding says that it is no payload.
    let payload = match serde_json::from_str::<IgnoredAny>(payload) {
        Ok(IgnoredAny) => payload.clone(),
        Err(_) => Value::from(payload.as_str()).to_string(),
    };
    // As Python writes times: no fraction where it is zero.
    let created_at = row
        .created_at
        .as_deref()
        .map(|at| at.strip_suffix(".000000").unwrap_or(at));
    format!(
        "{{\"event_type\": {}, \"payload\": {payload}, \"created_at\": {}, \"id\": {}}}",
        Value::from(row.event_type.to_lowercase()),
        json!(created_at),
        Value::from(row.id.replace('-', "")),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_events::decode;

    fn row() -> Row {
        Row {
            id: "f2b04f0e-6f2b-4b38-a7a3-2d5b2f0b3c11".into(),
            event_type: "CLOSE".into(),
            payload: r#"{"scope": "raw", "name": "é"}"#.into(),
            payload_nolimit: None,
            created_at: Some("2026-11-21 19:14:49.000000".into()),
        }
    }

    #[test]
    fn a_row_becomes_what_hermes_sends_and_its_id() {
        assert_eq!(
            String::from_utf8(body(&row())).unwrap(),
            "{\"event_type\": \"close\", \"payload\": {\"scope\": \"raw\", \"name\": \"é\"}, \
             \"created_at\": \"2026-11-21 19:14:49\", \"id\": \"f2b04f0e6f2b4b38a7a32d5b2f0b3c11\"}"
        );
    }

    #[test]
    fn a_long_payload_is_where_rucio_puts_it() {
        let mut row = row();
        row.payload_nolimit = Some(r#"{"scope": "long"}"#.into());
        row.payload = "nolimit".into();
        let body = body(&row);
        assert_eq!(decode(&body).unwrap().payload.scope.as_deref(), Some("long"));
    }

    #[test]
    fn a_payload_that_is_no_json_breaks_nothing_but_its_own_event() {
        let mut row = row();
        row.payload = r#"{}, "event_type": "transfer-done""#.into();
        let body = body(&row);
        let error = decode(&body).unwrap_err().to_string();
        assert!(error.contains("payload"), "{error}");
    }
}
