//! Whatever the bytes, decoding answers: an event or one sentence.

#![no_main]

use dbb_events::{EventId, Micros, decode, decode_record, salvage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let recorded = decode_record(line);
    let body = &recorded.body;
    match decode(body) {
        Ok(event) => {
            assert_eq!(event.identity(body), event.identity(body));
            assert_eq!(Micros::parse(&event.created_at.to_string()), Some(event.created_at));
            let _ = (event.did_or_implied(recorded.topic.as_deref()), event.rse(), event.url());
            let _ = (event.payload.kind(), event.payload.adler32(), event.payload.landed_at());
            if let Ok(Some(sidecar)) = event.payload.sidecar() {
                // What is passed on is read again by the worker.
                let json = sidecar.json.into_owned();
                assert!(dbb_events::Sidecar::parse(&json).is_ok_and(|again| again.uuid == sidecar.uuid));
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let _ = (salvage(body), EventId::of_bytes(body));
        }
    }
});
