//! Whatever the bytes, decoding answers.

use dbb_events::{DecodeError, EventId, decode, decode_record, salvage, wire::Wire};
use proptest::prelude::*;
use std::{error::Error, fs::File, io::Read, sync::OnceLock};

/// A few captured events of each size and form.
fn samples() -> &'static [String] {
    static SAMPLES: OnceLock<Vec<String>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut lines = Vec::new();
        for name in ["night-b-events", "night-c-elastic-bulk", "rubin-topic-sample"] {
            let path = format!(
                "{}/../tests/data/rucio-events/{name}.ndjson.gz",
                env!("CARGO_MANIFEST_DIR")
            );
            let mut text = String::new();
            if let Ok(file) = File::open(path) {
                let _ = flate2::read::GzDecoder::new(file).read_to_string(&mut text);
            }
            lines.extend(text.lines().step_by(37).map(str::to_owned));
        }
        lines
    })
}

/// Everything that is done with a line, whatever it is.
fn use_line(line: &[u8]) {
    let recorded = decode_record(line);
    two_parsers_agree(&recorded.body);
    let _ = salvage(&recorded.body);
    match decode(&recorded.body) {
        Ok(event) => {
            event.identity(&recorded.body);
            let _ = (
                event.did_or_implied(recorded.topic.as_deref()),
                event.rse(),
                event.url(),
            );
            let _ = (event.payload.kind(), event.payload.sidecar());
            let _ = (event.payload.adler32(), event.payload.landed_at());
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(
                !sentence.is_empty() && sentence.len() < 400 && !sentence.ends_with('.'),
                "{sentence}"
            );
            EventId::of_bytes(&recorded.body);
        }
    }
}

/// The fast parser takes as JSON what the well-known one does, and reads the same from it.
fn two_parsers_agree(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let (fast, known) = (
        sonic_rs::from_str::<Wire<'_>>(text),
        serde_json::from_str::<Wire<'_>>(text),
    );
    match (fast, known) {
        (Ok(mut fast), Ok(mut known)) => {
            // They may differ in the last bit of a fraction.
            (fast.payload.duration_seconds, known.payload.duration_seconds) = (None, None);
            assert_eq!(fast, known, "{text}");
        }
        (fast, known) => assert_eq!(fast.is_ok(), known.is_ok(), "{text}"),
    }
}

#[test]
fn every_start_of_an_event_is_cut_short() -> Result<(), Box<dyn Error>> {
    assert!(samples().len() > 150);
    for line in samples()
        .iter()
        .step_by(10)
        .filter(|line| !line.contains("\"index\""))
    {
        for end in 1..line.len() {
            let found = decode(&line.as_bytes()[..end]);
            assert_eq!(
                found,
                Err(DecodeError::Truncated { bytes: end }),
                "{}",
                &line[..end]
            );
        }
        let marked = [b"\xef\xbb\xbf", &line.as_bytes()[..line.len() - 1]].concat();
        let bytes = marked.len();
        assert_eq!(decode(&marked), Err(DecodeError::Truncated { bytes }), "{line}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use_line(&bytes);
    }

    #[test]
    fn arbitrary_json_like_text(text in r#"[\[\]{}",:0-9a-z\\ .eE+-]{0,120}"#) {
        use_line(text.as_bytes());
    }

    #[test]
    fn real_events_with_bytes_changed(
        at in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut bytes = at.get(samples()).as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        use_line(&bytes);
    }

    #[test]
    fn real_events_with_values_changed(
        at in any::<prop::sample::Index>(),
        token in any::<prop::sample::Index>(),
        value in prop::sample::select(vec!["null", "\"None\"", "-1", "1e999", "[]", "{}", "\"\"", "true", "9999999999999999999999", "[[{}]]"]),
    ) {
        let line = at.get(samples());
        let colons: Vec<usize> = line.match_indices(": ").map(|(at, _)| at + 2).collect();
        let start = colons.get(token.index(colons.len().max(1))).copied().unwrap_or(0);
        let end = line[start..].find([',', '}']).map_or(line.len(), |end| start + end);
        use_line(format!("{}{value}{}", &line[..start], &line[end..]).as_bytes());
    }
}
