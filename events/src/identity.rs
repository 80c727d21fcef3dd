//! Identity: what two deliveries of one event have in common, since Hermes gives them no number.
//!
//! ```text
//!   request      (request-id, type)                     one request goes through each state once
//!   deletion     (scope, name, rse, type, created_at)   there is no request; a retry has its own time
//!   own id       (id, type)                             only Elastic bodies and old captures have one
//!   else         the body, keys sorted, no white space  all there is
//!   unreadable   the bytes                              all there is
//! ```
//!
//! The first that applies. The order matters: each service of Hermes has its own `id` for one event, so a request
//! read from Elastic and from Kafka is the same only by its request. `created_at` of the two may differ by
//! microseconds, so a deletion read from both is two; nobody reads both live.

use crate::{Event, EventId, Glimpse};
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

impl Event<'_> {
    /// The identity of this event, which was read from `body`.
    pub fn identity(&self, body: &[u8]) -> EventId {
        self.glimpse().identity(body)
    }
}

impl Glimpse<'_> {
    /// The identity of the event, which was read from `body`. For requests and deletions nothing is allocated.
    pub fn identity(&self, body: &[u8]) -> EventId {
        let kind = self.event_type.as_str().as_bytes();
        if self.event_type.is_request()
            && let Some(request) = self.request_id
        {
            return hash("request", &[request.as_bytes(), kind]);
        }
        if self.event_type.is_deletion()
            && let (Some(scope), Some(name), Some(rse)) = (self.scope, self.name, self.rse)
        {
            let at = self.created_at.0.to_le_bytes();
            return hash(
                "deletion",
                &[scope.as_bytes(), name.as_bytes(), rse.as_bytes(), kind, &at],
            );
        }
        if let Some(id) = self.id {
            return hash("id", &[id.as_bytes(), kind]);
        }
        match serde_json::from_slice::<Value>(crate::unmarked(body)) {
            Ok(value) => {
                let mut canonical = Vec::with_capacity(body.len());
                write_canonical(&value, &mut canonical);
                hash("body", &[&canonical])
            }
            Err(_) => EventId::of_bytes(body),
        }
    }
}

impl EventId {
    /// The identity of bytes that could not be read as an event.
    pub fn of_bytes(body: &[u8]) -> Self {
        hash("bytes", &[body])
    }
}

/// Each field is preceded by its length, so that no two lists of fields look alike, whatever is in them.
fn hash(basis: &str, fields: &[&[u8]]) -> EventId {
    // Hashing one short piece is several times faster than hashing it in parts.
    let mut buffer = [0u8; 256];
    let whole = gather(basis, fields, &mut buffer).map(xxh3_128);
    EventId(whole.unwrap_or_else(|| {
        let mut hasher = Xxh3::new();
        hasher.update(basis.as_bytes());
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hasher.digest128()
    }))
}

/// What is hashed, where it fits into `buffer`.
fn gather<'b>(basis: &str, fields: &[&[u8]], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut end = 0;
    let mut put = |bytes: &[u8]| {
        buffer.get_mut(end..end + bytes.len())?.copy_from_slice(bytes);
        end += bytes.len();
        Some(())
    };
    put(basis.as_bytes())?;
    for field in fields {
        put(&(field.len() as u64).to_le_bytes())?;
        put(field)?;
    }
    buffer.get(..end)
}

/// JSON with sorted keys and no white space. Sorted here, because whether the parser's map keeps the order
/// of the text is a feature that any crate in a build can turn on. Its depth is bounded by the parser's.
fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            write_list(b"{}", entries, out, |(key, value), out| {
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                write_canonical(value, out);
            });
        }
        Value::Array(values) => write_list(b"[]", values, out, write_canonical),
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

fn write_list<T>(
    brackets: &[u8; 2],
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(brackets[0]);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(brackets[1]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::decode;

    fn id(body: &str) -> EventId {
        decode(body.as_bytes()).unwrap().identity(body.as_bytes())
    }

    #[test]
    fn a_request_is_known_by_its_id_and_state() {
        let kafka = r#"{"event_type":"transfer-done","payload":{"request-id":"r1","scope":"a"},"created_at":"2026-11-21 19:14:49"}"#;
        let elastic = r#"{"id":"77","created_at":"2026-11-21T19:14:49.000003","event_type":"transfer-done","payload":{"request-id":"r1"}}"#;
        assert_eq!(id(kafka), id(elastic));
        assert_ne!(id(kafka), id(&kafka.replace("-done", "-failed")));
        assert_ne!(id(kafka), id(&kafka.replace("r1", "r2")));
    }

    #[test]
    fn a_deletion_is_known_by_replica_type_and_time() {
        let one = r#"{"event_type":"deletion-done","payload":{"scope":"a","name":"b","rse":"R","duration":1.5},"created_at":"2026-11-21 19:14:49"}"#;
        assert_eq!(id(one), id(&one.replace("1.5", "2.5")));
        for (from, to) in [
            ("\"a\"", "\"c\""),
            ("\"b\"", "\"c\""),
            ("\"R\"", "\"S\""),
            ("n-done", "n-failed"),
            ("14:49", "14:50"),
        ] {
            assert_ne!(id(one), id(&one.replace(from, to)), "{from}");
        }
        // Moving a character over a border of two fields makes another replica.
        let (left, right) = (
            one.replace("\"a\"", "\"ab\"").replace("\"b\"", "\"c\""),
            one.replace("\"b\"", "\"bc\""),
        );
        assert_ne!(id(&left), id(&right));
    }

    #[test]
    fn two_serialisations_of_one_event_are_one_event() {
        let body = r#"{"event_type":"close","payload":{"scope":"a","name":"é\n","bytes":7.0,"events":[1,{"y":1,"x":null}]},"created_at":"2026-11-21 19:14:49"}"#;
        let other = r#" { "created_at" : "2026-11-21 19:14:49", "payload": {"bytes": 7.0, "name": "\u00e9\u000a", "events": [1, {"x":null, "y":1}],
            "scope":"a"}, "event_type":"close" } "#;
        assert_eq!(id(body), id(other));
        assert_ne!(id(body), id(&body.replace("7.0", "8.0")));
        let with_id = body.replacen('{', r#"{"id":"x","#, 1);
        assert_eq!(id(&with_id), id(&with_id.replace("7.0", "8.0")));
    }

    #[test]
    fn a_long_identity_is_hashed_like_a_short_one() {
        for length in [1, 200, 223, 224, 225, 600, 4000] {
            let (long, kind) = (vec![b'x'; length], b"transfer-done".as_slice());
            let mut bytes = b"request".to_vec();
            for field in [long.as_slice(), kind] {
                bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
                bytes.extend_from_slice(field);
            }
            assert_eq!(
                hash("request", &[&long, kind]),
                EventId(xxh3_128(&bytes)),
                "{length}"
            );
        }
    }

    #[test]
    fn unreadable_bytes_are_known_by_themselves() {
        assert_eq!(EventId::of_bytes(b"\xff"), EventId::of_bytes(b"\xff"));
        assert_ne!(EventId::of_bytes(b"\xff"), EventId::of_bytes(b"\xfe"));
    }

    #[test]
    fn identities_never_change_between_releases() {
        // They are stored in ledgers: a change here makes every event of the past a new one.
        let request = r#"{"event_type":"transfer-done","payload":{"request-id":"r1"},"created_at":"2026-11-21 19:14:49"}"#;
        assert_eq!(id(request).to_string(), "327eb2335accfbcda68527e303927cb6");
        let other =
            r#"{"event_type":"open","payload":{"scope":"a","name":"b"},"created_at":"2026-11-21 19:14:49"}"#;
        assert_eq!(id(other).to_string(), "5e999aa647fb7790c39268b5ad44c0ba");
        assert_eq!(
            EventId::of_bytes(b"").to_string(),
            "21c8f3d8bac1b05a7b13436b4552a414"
        );
    }
}
