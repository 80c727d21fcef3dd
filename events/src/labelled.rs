//! Labelled: an event with labels in its payload, in the envelope that sites have always been sent.
//!
//! ```text
//!   body, labels --> {"event_type", "payload": { as it was, labels }, "created_at"}
//! ```
//!
//! What is there stays byte for byte, and labels are written as Python's `json.dumps` does: so the record is the same
//! that the filter between Hermes and the sites used to make. The envelope has three keys, whatever it had before.

use crate::mark::unmarked;
use serde_json::Value;
use sonic_rs::{JsonValueTrait, LazyValue};
use std::{borrow::Cow, sync::Arc};

/// The body with `labels` at the end of the payload, or in the place of fields of the same names.
///
/// `None` where the body is no event, or its payload no object.
pub fn with_labels(body: &[u8], labels: &[(Arc<str>, &Value)]) -> Option<bytes::Bytes> {
    let body = unmarked(body);
    let envelope = Envelope::of(body)?;
    let payload = envelope.payload.as_raw_str();
    let inside = payload.strip_suffix('}')?;
    let mut out =
        Vec::with_capacity(body.len() + 64 + labels.iter().map(|(_, value)| room(value)).sum::<usize>());
    let before = envelope.is_usual.then(|| place(body, payload)).flatten();
    match before {
        Some(at) => out.extend_from_slice(&body[..at]),
        None => {
            let event_type = envelope.event_type.to_ascii_lowercase();
            out.extend_from_slice(b"{\"event_type\": ");
            write_text(&event_type, &mut out);
            out.extend_from_slice(b", \"payload\": ");
        }
    }
    let is_new = |name: &str| !contains(inside, name);
    if labels.iter().all(|(name, _)| is_new(name)) {
        out.extend_from_slice(inside.as_bytes());
        let mut first = inside.trim_end().ends_with('{');
        for (name, value) in labels {
            write_field(name, |out| write(value, out), &mut first, &mut out);
        }
        out.push(b'}');
    } else {
        write_over(payload, labels, &mut out)?;
    }
    match before {
        Some(at) => out.extend_from_slice(&body[at + payload.len()..]),
        None => {
            out.extend_from_slice(b", \"created_at\": ");
            out.extend_from_slice(envelope.created_at.as_raw_str().as_bytes());
            out.push(b'}');
        }
    }
    Some(out.into())
}

/// The three fields of an envelope.
struct Envelope<'a> {
    event_type: Cow<'a, str>,
    payload: LazyValue<'a>,
    created_at: LazyValue<'a>,
    /// It has these fields alone, each once, and the type in lower case.
    is_usual: bool,
}

impl<'a> Envelope<'a> {
    fn of(body: &'a [u8]) -> Option<Self> {
        let (mut event_type, mut payload, mut created_at) = (None, None, None);
        let mut fields = 0;
        for field in sonic_rs::to_object_iter(body) {
            let (key, value) = field.ok()?;
            fields += 1;
            match key.as_ref() {
                "event_type" => event_type = Some(value),
                "payload" => payload = Some(value),
                "created_at" => created_at = Some(value),
                _ => {}
            }
        }
        let event_type: Cow<'a, str> = Cow::Owned(event_type?.as_str()?.to_owned());
        let is_usual = fields == 3 && !event_type.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(Self {
            event_type,
            payload: payload?,
            created_at: created_at?,
            is_usual,
        })
    }
}

/// Where `part` is in `body`, if it was borrowed from it.
fn place(body: &[u8], part: &str) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    (body.get(at..at.checked_add(part.len())?)? == part.as_bytes()).then_some(at)
}

/// True if a field may have this name: some text that is this name in quotation marks is there, or an escape.
fn contains(inside: &str, name: &str) -> bool {
    let found = |at: usize| inside.as_bytes().get(at.wrapping_sub(1)) == Some(&b'"');
    memchr::memmem::find_iter(inside.as_bytes(), name.as_bytes()).any(found)
}

/// The payload's fields one by one, each label in the place of a field of its name, the others at the end.
fn write_over(payload: &str, labels: &[(Arc<str>, &Value)], out: &mut Vec<u8>) -> Option<()> {
    let mut written = vec![false; labels.len()];
    let mut first = true;
    out.push(b'{');
    for field in sonic_rs::to_object_iter(payload) {
        let (key, value) = field.ok()?;
        match labels.iter().position(|(name, _)| **name == *key) {
            // A dictionary keeps one of them.
            Some(at) if written[at] => {}
            Some(at) => {
                written[at] = true;
                write_field(&key, |out| write(labels[at].1, out), &mut first, out);
            }
            None => {
                let raw = value.as_raw_str();
                write_field(&key, |out| out.extend_from_slice(raw.as_bytes()), &mut first, out);
            }
        }
    }
    for ((name, value), written) in labels.iter().zip(written) {
        if !written {
            write_field(name, |out| write(value, out), &mut first, out);
        }
    }
    out.push(b'}');
    Some(())
}

fn write_field(name: &str, value: impl FnOnce(&mut Vec<u8>), first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(first) {
        out.extend_from_slice(b", ");
    }
    write_text(name, out);
    out.extend_from_slice(b": ");
    value(out);
}

/// About as many bytes as a value takes.
fn room(value: &Value) -> usize {
    64 + value.as_str().map_or(64, |text| text.len() + text.len() / 4)
}

/// A value as `json.dumps` writes it.
fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => write_text(text, out),
        Value::Array(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(b", ");
                }
                write(value, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut first = true;
            out.push(b'{');
            for (name, value) in fields {
                write_field(name, |out| write(value, out), &mut first, out);
            }
            out.push(b'}');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

/// Text in ASCII: all else is escaped, as two halves where one does not do.
fn write_text(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let escape = |unit: u16, out: &mut Vec<u8>| {
        out.extend_from_slice(b"\\u");
        out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(unit >> shift & 15)]));
    };
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' '..='\u{7f}' => out.push(character as u8),
            other => {
                let mut units = [0; 2];
                other
                    .encode_utf16(&mut units)
                    .iter()
                    .for_each(|unit| escape(*unit, out));
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn labelled(body: &str, labels: &[(&str, Value)]) -> String {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| (Arc::from(*name), value))
            .collect();
        String::from_utf8(with_labels(body.as_bytes(), &labels).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_is_there_stays_byte_for_byte() {
        let body = r#"{"event_type": "transfer-done", "payload": {"scope": "raw",  "duration": 1e3}, "created_at": "t"}"#;
        let sidecar = r#"{"id":"é/😀"}"#;
        let labels = [
            ("rubin_butler", json!("raw_file")),
            ("rubin_sidecar", json!(sidecar)),
        ];
        assert_eq!(
            labelled(body, &labels),
            r#"{"event_type": "transfer-done", "payload": {"scope": "raw",  "duration": 1e3, "rubin_butler": "raw_file", "rubin_sidecar": "{\"id\":\"\u00e9/\ud83d\ude00\"}"}, "created_at": "t"}"#
        );
        assert_eq!(labelled(body, &[]), body);
    }

    #[test]
    fn the_envelope_has_three_keys_and_the_type_in_lower_case() {
        let body =
            r#"{"id":"7","services":"kafka","created_at":"t","event_type":"TRANSFER-DONE","payload":{ }}"#;
        assert_eq!(
            labelled(body, &[("rubin_butler", json!("zip_file"))]),
            r#"{"event_type": "transfer-done", "payload": { "rubin_butler": "zip_file"}, "created_at": "t"}"#
        );
    }

    #[test]
    fn a_label_takes_the_place_of_a_field_of_its_name() {
        let body = r#"{"event_type": "transfer-done", "payload": {"rubin_butler": null, "name": "rubin_sidecar", "a": [1, {"b": 2}]}, "created_at": "t"}"#;
        let labels = [("rubin_butler", json!("dim_file")), ("rubin_sidecar", json!(""))];
        assert_eq!(
            labelled(body, &labels),
            r#"{"event_type": "transfer-done", "payload": {"rubin_butler": "dim_file", "name": "rubin_sidecar", "a": [1, {"b": 2}], "rubin_sidecar": ""}, "created_at": "t"}"#
        );
    }

    #[test]
    fn what_is_no_event_takes_no_labels() {
        for body in [
            "",
            "7",
            "[]",
            "{}",
            r#"{"event_type": "a", "payload": "nolimit", "created_at": "t"}"#,
        ] {
            assert_eq!(with_labels(body.as_bytes(), &[]), None, "{body}");
        }
    }
}
