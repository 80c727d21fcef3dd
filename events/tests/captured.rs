//! Every captured event is understood: counts by type, identities, and the same facts from two services.

use dbb_events::{DecodeError, Event, EventId, EventType, Kind, Micros, decode, decode_record};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::File,
    io::Read,
};

type Tested = Result<(), Box<dyn Error>>;

fn capture(name: &str) -> Result<String, Box<dyn Error>> {
    let path = format!(
        "{}/../tests/data/rucio-events/{name}.ndjson.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    Ok(text)
}

/// The table of the data's README: a type and its count in nights a, b and c.
const COUNTS: &[(&str, [usize; 3])] = &[
    ("transfer-queued", [2146, 959, 349]),
    ("transfer-submitted", [2074, 923, 326]),
    ("transfer-done", [1780, 795, 276]),
    ("deletion-done", [737, 393, 121]),
    ("transfer-failed", [234, 116, 49]),
    ("rule_progress", [87, 53, 108]),
    ("rule_ok", [77, 41, 45]),
    ("datasetlock_ok", [66, 35, 34]),
    ("detach", [23, 67, 21]),
    ("deletion-not-found", [55, 34, 21]),
    ("deletion-failed", [45, 24, 4]),
    ("transfer-submission_failed", [48, 10, 11]),
    ("create_dts", [28, 20, 18]),
    ("close", [29, 16, 18]),
    ("transfer-lost", [38, 4, 0]),
    ("register_cnt", [12, 8, 8]),
    ("erase", [8, 6, 5]),
    ("lost", [14, 3, 0]),
    ("erase_cnt", [4, 6, 3]),
    ("incomplete", [0, 6, 3]),
    ("open", [3, 4, 2]),
    ("create_cnt", [3, 2, 2]),
];

#[test]
fn every_captured_event_is_decoded_and_known_by_name() -> Tested {
    for (night, (name, distinct)) in [
        ("night-a-events", 7511),
        ("night-b-events", 3440),
        ("night-c-events", 1424),
    ]
    .into_iter()
    .enumerate()
    {
        let text = capture(name)?;
        let (mut counts, mut ids) = (BTreeMap::new(), BTreeSet::new());
        for line in text.lines() {
            let event = decode(line.as_bytes()).map_err(|error| format!("{name}: {error}: {line}"))?;
            assert!(!matches!(event.event_type, EventType::Other(_)), "{line}");
            *counts.entry(event.event_type.as_str().to_owned()).or_default() += 1;
            ids.insert(event.identity(line.as_bytes()));
        }
        let wanted: BTreeMap<String, usize> = COUNTS
            .iter()
            .map(|(kind, counts)| (kind.to_string(), counts[night]))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counts, wanted, "{name}");
        assert_eq!(ids.len(), distinct, "{name}");
    }
    Ok(())
}

#[test]
fn every_fact_in_the_text_is_in_the_event() -> Tested {
    for line in capture("night-b-events")?.lines() {
        let (event, json) = (
            decode(line.as_bytes())?,
            serde_json::from_str::<serde_json::Value>(line)?,
        );
        let payload = &event.payload;
        for (key, found) in [
            ("scope", &payload.scope),
            ("name", &payload.name),
            ("rse", &payload.rse),
            ("dst-rse", &payload.dst_rse),
            ("src-rse", &payload.src_rse),
            ("dst-url", &payload.dst_url),
            ("src-url", &payload.src_url),
            ("url", &payload.url),
            ("request-id", &payload.request_id),
            ("previous-request-id", &payload.previous_request_id),
            ("rule-id", &payload.rule_id),
            ("dataset", &payload.dataset),
            ("datasetScope", &payload.dataset_scope),
            ("childname", &payload.child_name),
            ("child_name", &payload.child_name),
            ("did_type", &payload.did_type),
            ("activity", &payload.activity),
            ("account", &payload.account),
            ("checksum-adler", &payload.checksum_adler),
            ("checksum-md5", &payload.checksum_md5),
            ("reason", &payload.reason),
            ("protocol", &payload.protocol),
            ("created_at", &payload.created_at),
            ("queued_at", &payload.queued_at),
            ("submitted_at", &payload.submitted_at),
            ("started_at", &payload.started_at),
            ("transferred_at", &payload.transferred_at),
            ("expired_at", &payload.expired_at),
        ] {
            if let Some(value) = json["payload"].get(key) {
                assert_eq!(value.as_str(), found.as_deref(), "{key} in {line}");
            }
        }
        for key in ["bytes", "file-size"] {
            if let Some(bytes) = json["payload"].get(key).and_then(|value| value.as_f64()) {
                assert_eq!(payload.bytes, Some(bytes as u64), "{line}");
            }
        }
        // The two parsers may differ in the last bit of a fraction.
        let seconds = json["payload"].get("duration").and_then(|value| value.as_f64());
        assert_eq!(payload.duration_seconds.is_some(), seconds.is_some(), "{line}");
        if let (Some(found), Some(wanted)) = (payload.duration_seconds, seconds) {
            assert!((found - wanted).abs() < 1e-9, "{line}");
        }
        let shown = event.created_at.to_string().replace('T', " ").replace('Z', "");
        assert!(
            json["created_at"]
                .as_str()
                .is_some_and(|text| shown.starts_with(text)),
            "{shown} in {line}"
        );
        assert!(payload.transferred_at.is_none() || payload.landed_at().is_some());
    }
    Ok(())
}

/// What an event says, without what each service has for itself: its id and its time.
fn facts(mut event: Event<'_>) -> String {
    event.id = None;
    event.created_at = Micros::default();
    format!("{event:?}")
}

#[test]
fn elastic_bodies_tell_the_same_facts() -> Tested {
    let (kafka, elastic) = (capture("night-c-events")?, capture("night-c-elastic-bulk")?);
    let mut wanted = Vec::new();
    for line in kafka.lines() {
        wanted.push(facts(decode(line.as_bytes())?));
    }
    let (mut found, mut actions, mut ids) = (Vec::new(), 0, 0);
    for line in elastic.lines() {
        match decode(line.as_bytes()) {
            Err(DecodeError::BulkAction) => actions += 1,
            event => {
                let event = event?;
                ids += usize::from(event.id.is_some());
                found.push(facts(event));
            }
        }
    }
    assert_eq!((actions, ids), (1424, 1424));
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
    Ok(())
}

#[test]
fn a_request_read_from_two_services_is_one_event() -> Tested {
    let ids = |text: &str| -> BTreeSet<EventId> {
        text.lines()
            .filter_map(|line| Some((line, decode(line.as_bytes()).ok()?)))
            .filter(|(_, event)| event.event_type.is_request())
            .map(|(line, event)| event.identity(line.as_bytes()))
            .collect()
    };
    let (kafka, elastic) = (
        ids(&capture("night-c-events")?),
        ids(&capture("night-c-elastic-bulk")?),
    );
    assert_eq!(kafka.len(), 349 + 326 + 276 + 49 + 11);
    assert_eq!(kafka, elastic);
    Ok(())
}

#[test]
fn a_recorded_topic_gives_topics_kinds_and_sidecars() -> Tested {
    let text = capture("rubin-topic-sample")?;
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        let recorded = decode_record(line.as_bytes());
        let event = decode(&recorded.body)?;
        let (rse, did) = (event.rse().ok_or("no RSE")?, event.did().ok_or("no DID")?);
        assert_eq!(
            recorded.topic.as_deref(),
            Some(format!("{rse}-{}", did.scope).as_str())
        );
        let kind = event.payload.kind()?.ok_or("no kind")?;
        let sidecar = event.payload.sidecar()?;
        assert_eq!(sidecar.is_some(), kind.needs_sidecar(), "{line}");
        if let Some(sidecar) = &sidecar {
            assert!(sidecar.run.is_some() && sidecar.dataset_type.is_some());
            assert_eq!(
                event.payload.rubin_sidecar.as_deref(),
                Some(sidecar.json.as_ref())
            );
        }
        // Without scope and name, topic and URL tell the same.
        let mut early = event.clone();
        (early.payload.scope, early.payload.name) = (None, None);
        assert_eq!(early.did(), None);
        assert_eq!(
            early.did_or_implied(recorded.topic.as_deref()),
            Some(did.clone()),
            "{line}"
        );
        assert_eq!(early.did_or_implied(None), None);
        *kinds.entry(kind).or_insert(0) += 1;
    }
    assert_eq!(kinds.values().sum::<i32>(), 68);
    assert!(
        kinds.contains_key(&Kind::RawFile) && kinds.contains_key(&Kind::DataProduct),
        "{kinds:?}"
    );
    Ok(())
}
