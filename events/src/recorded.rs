//! Recorded lines: `{"topic", "key", "value"}` as Kafka tools write them, or the body alone.

use crate::{depth::too_deep, mark::unmarked, scalar::Scalar};
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use sonic_rs::LazyValue;
use std::borrow::Cow;

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// The topic it was published to, where the line says.
    pub topic: Option<Cow<'a, str>>,
    /// The body; owned only where it was a JSON string with escapes.
    pub body: Cow<'a, [u8]>,
}

/// Takes the topic and the body out of one line (its end may be there or not; a byte order mark goes).
///
/// A line that is not such a record *is* the body, sound or not: [`crate::decode`] says what is wrong.
/// `value` may be the body as a string, or the body itself.
pub fn decode_record(line: &[u8]) -> Recorded<'_> {
    let line = unmarked(line);
    recorded(line).unwrap_or(Recorded {
        topic: None,
        body: Cow::Borrowed(line),
    })
}

fn recorded(line: &[u8]) -> Option<Recorded<'_>> {
    // A body has no such key, so a recording of bare bodies is parsed once, not twice.
    memmem::find(line, br#""topic""#)?;
    let text = std::str::from_utf8(line).ok()?;
    if too_deep(text).is_some() {
        return None;
    }
    let line: Line<'_> = sonic_rs::from_str(text).ok()?;
    if line.event_type.is_some() {
        return None;
    }
    let Scalar::Text(topic) = line.topic? else {
        return None;
    };
    let raw = line.value?.as_raw_cow();
    let body = match raw {
        Cow::Borrowed(raw) => unquoted(raw)?,
        Cow::Owned(raw) => Cow::Owned(unquoted(&raw)?.into_owned()),
    };
    Some(Recorded {
        topic: Some(topic),
        body,
    })
}

/// The text of a JSON string; other JSON as it stands.
fn unquoted(json: &str) -> Option<Cow<'_, [u8]>> {
    if !json.starts_with('"') {
        return Some(Cow::Borrowed(json.as_bytes()));
    }
    match sonic_rs::from_str(json).ok()? {
        Scalar::Text(Cow::Borrowed(text)) => Some(Cow::Borrowed(text.as_bytes())),
        Scalar::Text(Cow::Owned(text)) => Some(Cow::Owned(text.into_bytes())),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    topic: Option<Scalar<'a>>,
    #[serde(borrow)]
    value: Option<LazyValue<'a>>,
    event_type: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> (Option<String>, String) {
        let recorded = decode_record(line.as_bytes());
        let body = String::from_utf8_lossy(&recorded.body).into_owned();
        (recorded.topic.map(Cow::into_owned), body)
    }

    #[test]
    fn the_value_of_a_record_is_the_body() {
        let body = r#"{"event_type":"open","created_at":"2026-11-21 19:14:49"}"#.to_owned();
        let quoted = serde_json::Value::from(body.as_str()).to_string();
        let topic = Some("RAL-raw".to_owned());
        for line in [
            format!(r#"{{"topic":"RAL-raw","key":"message","value":{quoted}}}"#),
            format!(r#"{{"topic":"RAL-raw","value":{body},"offset":3}}"#),
            format!(" {{\"value\": {body}, \"topic\": \"RAL-raw\"}} \r\n"),
        ] {
            assert_eq!(split(&line), (topic.clone(), body.clone()), "{line}");
        }
        assert_eq!(
            split(r#"{"topic":"t","value":"plain"}"#),
            (Some("t".into()), "plain".into())
        );
    }

    #[test]
    fn any_other_line_is_the_body_itself() {
        for line in [
            "",
            "{",
            r#"{"event_type":"open","payload":{"topic":"x","value":"y"}}"#,
            r#"{"event_type":"open","topic":"x","value":"y"}"#,
            r#"{"topic":"t"}"#,
            r#"{"topic":null,"value":"{}"}"#,
            r#"{"topic":7,"value":"{}"}"#,
            r#"{"topic":"t","topic":"u","value":"{}"}"#,
            r#"{"topic":"t","value":"{}""#,
        ] {
            assert_eq!(split(line), (None, line.to_owned()), "{line}");
        }
    }
}
