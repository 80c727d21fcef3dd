//! The scanner against the decoder: whatever it takes, decode takes, and both find the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{Glimpse, decode, decode_record, glimpse, scan, unmarked};
use proptest::prelude::*;
use std::{fs::File, io::Read, sync::OnceLock};

const CAPTURES: [&str; 5] = [
    "night-a-events",
    "night-b-events",
    "night-c-events",
    "night-c-elastic-bulk",
    "rubin-topic-sample",
];

fn captured(name: &str) -> Vec<String> {
    let path = format!(
        "{}/../tests/data/rucio-events/{name}.ndjson.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Bodies of every form: some captured ones of each type, and some that were built.
fn samples() -> &'static [String] {
    static SAMPLES: OnceLock<Vec<String>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut bodies: Vec<String> = CAPTURES
            .iter()
            .flat_map(|name| captured(name).into_iter().step_by(41))
            .map(|line| String::from_utf8(decode_record(line.as_bytes()).body.into_owned()).unwrap())
            .collect();
        bodies.extend(BUILT.iter().map(|body| (*body).to_owned()));
        bodies
    })
}

/// What the captures do not have, each refused or passed on by one line of the scanner.
const BUILT: &[&str] = &[
    r#"{"event_type":"transfer-failed","payload":{"request-id":"r","scope":"a","name":"b","dst-rse":"R","bytes":7,"file-size":7,"reason":"TRANSFER [110] Connection timed out \"after\" 300 s\n\u00e9"},"created_at":"2026-11-21 19:14:49"}"#,
    r#"{"event_type":"deletion-failed","payload":{"scope":"a","name":"b","rse":"R","rse_id":"0fb5","url":null,"duration":1.5e-05,"reason":"None","unknown":true,"chunk":17},"created_at":"2026-11-21T19:14:49.5Z"}"#,
    r#"{ "id" : "x" , "event_type" : "LOST" , "services":"elastic","payload" : { "scope" : "a", "name":"b\/c", "dataset_name":"d", "dataset_scope":"a" }, "created_at":"2026-11-21 19:14:49" } "#,
    r#"{"event_type":"rule_progress","payload":{"scope":"a","name":"b","rule_id":"8c7369b6f0724464a9ff9a9a63e453ca","progress":10,"length":3},"created_at":"2026-11-21 19:14:49"}"#,
    r#"{"event_type":"open","payload":"nolimit","created_at":"2026-11-21 19:14:49"}"#,
    r#"{"event_type":"open","payload":{},"created_at":"2026-11-21 19:14:49"}"#,
    r#"{"event_type":"Open\u0041","payload":{"name":"é","name":"ü"},"payload":{"scope":"a","name":null},"created_at":"2026-11-21 19:14:49"}"#,
    r#"{"event_type":"open","payload":{"rubin_butler":1,"rubin_sidecar":{"id":"x","a":[1,{"b":2}]},"checksum-adler":"A89A1AD"},"created_at":"2026-11-21 19:14:49"}"#,
];

/// The rule itself. True if the body was scanned.
fn as_decoded(body: &[u8]) -> bool {
    let Some(scanned) = scan(body) else {
        return false;
    };
    let shown = String::from_utf8_lossy(body);
    match decode(body) {
        Ok(event) => {
            assert_eq!(scanned, event.glimpse(), "{shown}");
            assert_eq!(scanned.identity(body), event.identity(body), "{shown}");
        }
        Err(error) => panic!("scanned, but {error}: {shown}"),
    }
    assert_eq!(&*decode_record(body).body, unmarked(body), "{shown}");
    true
}

#[test]
fn every_captured_event_is_scanned_and_found_as_decoded() {
    let (mut scanned, mut all) = (0, 0);
    for name in CAPTURES {
        for line in captured(name) {
            let body = decode_record(line.as_bytes()).body.into_owned();
            // The action lines of the bulk, and sums of bytes that are floats.
            let unusual = line.contains("\"index\"") || line.to_lowercase().contains("\"close\"");
            assert_eq!(as_decoded(&body), !unusual, "{line}");
            all += 1;
            scanned += usize::from(!unusual);
        }
    }
    assert!(all > 15_000 && scanned > 13_000, "{scanned} of {all}");
}

#[test]
fn a_line_of_a_recording_is_not_taken_for_an_event() {
    for line in captured("rubin-topic-sample") {
        assert_eq!(scan(line.as_bytes()), None);
        let open = line.replacen('{', r#"{"created_at":"2026-11-21 19:14:49","#, 1);
        assert_eq!(scan(open.as_bytes()), None);
    }
}

#[test]
fn what_decode_refuses_is_not_scanned() {
    let sound = r#"{"event_type":"transfer-done","payload":{"activity":"x","request-id":"r","duration":5,"bytes":7,"retry-count":2,"scope":"a","staging":false,"url":null},"created_at":"2026-11-21 19:14:49"}"#;
    assert!(as_decoded(sound.as_bytes()));
    for (from, to) in [
        ("\"activity\":\"x\"", "\"activity\":5"),
        ("\"activity\":\"x\"", "\"activity\":true"),
        ("\"activity\":\"x\"", "\"activity\":\"\\x\""),
        ("\"activity\":\"x\"", "\"activity\":\"\\u12\""),
        ("\"activity\":\"x\"", "\"activity\":\"\\ud800\""),
        ("\"activity\":\"x\"", "\"activity\":\"\u{1}\""),
        ("\"duration\":5", "\"duration\":05"),
        ("\"duration\":5", "\"duration\":5."),
        ("\"duration\":5", "\"duration\":.5"),
        ("\"duration\":5", "\"duration\":1.2.3"),
        ("\"duration\":5", "\"duration\":1e999"),
        ("\"duration\":5", "\"duration\":\"5\""),
        ("\"duration\":5", "\"duration\":-"),
        ("\"duration\":5", "\"duration\":NaN"),
        ("\"bytes\":7", "\"bytes\":-7"),
        ("\"bytes\":7", "\"bytes\":7.5"),
        ("\"bytes\":7", "\"bytes\":\"7\""),
        ("\"bytes\":7", "\"bytes\":99999999999999999999"),
        ("\"retry-count\":2", "\"retry-count\":1.2.3"),
        ("\"retry-count\":2", "\"retry-count\":truth"),
        ("false", "falsy"),
        ("null", "nul"),
        (",\"scope\"", ",,\"scope\""),
        (",\"scope\"", " \"scope\""),
        ("null}", "null,}"),
        ("19:14:49\"}", "19:14:49\"}}"),
        ("19:14:49\"}", "19:14:49\"} x"),
        ("19:14:49\"}", "19:14:49\",}"),
        ("19:14:49\"}", "19:14:49\""),
        ("19:14:49", "99:14:49"),
        ("\"transfer-done\"", "7"),
        ("\"created_at\"", "\"at\""),
        ("\"event_type\"", "\"type\""),
    ] {
        let broken = sound.replacen(from, to, 1);
        assert_ne!(broken, sound, "{from}");
        assert!(decode(broken.as_bytes()).is_err(), "{broken}");
        assert_eq!(scan(broken.as_bytes()), None, "{broken}");
    }
    let mut no_text = sound.as_bytes().to_vec();
    no_text[50] = 0xff;
    assert_eq!(scan(&no_text), None);
}

#[test]
fn what_is_not_scanned_is_decoded_or_refused_by_name() {
    let close = r#"{"event_type":"close","payload":{"scope":"a","name":"b","bytes":7.0},"created_at":"2026-11-21 19:14:49"}"#;
    assert_eq!(scan(close.as_bytes()), None);
    assert_eq!(glimpse(close.as_bytes(), |glimpse| glimpse.bytes), Ok(Some(7)));
    let refused = glimpse(b"{\"event_type\":", |_: &Glimpse<'_>| ()).unwrap_err();
    assert_eq!(refused.to_string(), "the JSON is cut short after 14 bytes");
}

/// JSON that means something to the scanner, and what may stand where it does not belong.
fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\n",
            " ",
            "\n",
            "\t",
            "\u{1}",
            "é",
            "null",
            "\"None\"",
            "true",
            "0",
            "-1",
            "1.5",
            "1e5",
            "1e400",
            "12345678901234567890",
            "00",
            "\"bytes\":3,",
            "\"bytes\":3.0,",
            "\"payload\":{",
            "\"scope\":\"x\",",
            "\"name\":null,",
            "\"rse\":\"R\",",
            "\"activity\":1,",
            "\"x\":{},",
            "\"x\":[],",
            "\"reason\":\"a\\\"b\",",
            "\"created_at\":\"2026-11-21 19:14:49\",",
            "\"created_at\":\"None\",",
            "\"event_type\":\"OPEN\",",
            "\"id\":\"i\",",
            "\"duration\":-0.0,",
            "\"progress\":55,",
            "\"rubin_sidecar\":\"{}\",",
            "\"rubin_butler\":1,",
        ][..],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_mutated_body_is_scanned_only_as_decoded(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, token()), 1..4),
    ) {
        let mut body = which.get(samples()).clone().into_bytes();
        for (at, removed, added) in edits {
            let at = at.index(body.len() + 1);
            let end = (at + removed).min(body.len());
            body.splice(at..end, added.bytes());
        }
        as_decoded(&body);
    }

    #[test]
    fn a_body_cut_short_or_with_a_byte_changed_is_scanned_only_as_decoded(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = which.get(samples()).clone().into_bytes();
        let at = at.index(body.len());
        as_decoded(&body[..at]);
        body[at] = byte;
        as_decoded(&body);
    }

    #[test]
    fn any_tokens_are_scanned_only_as_decoded(tokens in prop::collection::vec(token(), 0..24)) {
        as_decoded(tokens.concat().as_bytes());
        let open = format!(r#"{{"event_type":"open","created_at":"2026-11-21 19:14:49","payload":{{{}}}}}"#, tokens.concat());
        as_decoded(open.as_bytes());
    }
}
