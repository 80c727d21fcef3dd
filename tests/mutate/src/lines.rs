//! Lines: whatever stands in a file or a topic, reading it answers, with an event, a row or one sentence.

use crate::{Target, dice::Dice};
use dbb_events::{
    EventId, Message, Micros, Sidecar, decode, decode_record, journal::decode_journal,
    listing::decode_listing, salvage, scan,
};
use flate2::read::GzDecoder;
use std::io::{BufRead, BufReader};

const FILES: [(&str, &[u8]); 6] = [
    (
        "events",
        include_bytes!("../../data/rucio-events/night-b-events.ndjson.gz"),
    ),
    (
        "bulk",
        include_bytes!("../../data/rucio-events/night-c-elastic-bulk.ndjson.gz"),
    ),
    (
        "topic",
        include_bytes!("../../data/rucio-events/rubin-topic-sample.ndjson.gz"),
    ),
    (
        "journal",
        include_bytes!("../../data/rucio-events/night-b-replica-journal.ndjson.gz"),
    ),
    (
        "snapshot",
        include_bytes!("../../data/rucio-events/night-b-snapshot-mid.ndjson.gz"),
    ),
    (
        "replicas",
        include_bytes!("../../data/rucio-events/night-c-list-replicas.ndjson.gz"),
    ),
];
/// Lines of each file.
const LINES: usize = 100;

pub(crate) fn target() -> Target {
    let lines =
        |(_, file): (&str, &'static [u8])| BufReader::new(GzDecoder::new(file)).split(b'\n').flatten();
    Target {
        seeds: FILES
            .into_iter()
            .flat_map(|file| lines(file).take(LINES))
            .collect(),
        takes: |line, _: &mut Dice| takes(line),
    }
}

fn takes(line: &[u8]) -> bool {
    let recorded = decode_record(line);
    let body = &recorded.body;
    let event = decode(body);
    match &event {
        Ok(event) => {
            assert_eq!(event.identity(body), event.identity(body));
            assert_eq!(
                Micros::parse(&event.created_at.to_string()),
                Some(event.created_at)
            );
            let _ = (
                event.did_or_implied(recorded.topic.as_deref()),
                event.rse(),
                event.url(),
            );
            if let Ok(Some(sidecar)) = event.payload.sidecar() {
                // What is passed on is read again by the worker.
                let json = sidecar.json.into_owned();
                assert!(Sidecar::parse(&json).is_ok_and(|again| again.uuid == sidecar.uuid));
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let _ = (salvage(body), EventId::of_bytes(body));
        }
    }
    let body = body.trim_ascii();
    if let Some(scanned) = scan(body) {
        assert!(
            decode(body).is_ok_and(|event| event.glimpse() == scanned),
            "scanned, and not decoded alike"
        );
    }
    let _ = Message::decode(line);
    event.is_ok() | decode_journal(line).is_ok() | decode_listing(line).is_ok()
}
