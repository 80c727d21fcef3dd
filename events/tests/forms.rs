//! The forms that no capture has: events of 2023, events written again by hand, and what is no event.

use dbb_events::{
    DecodeError, EventType, Kind, Label, MAX_BODY_BYTES, Micros, Reason, decode, decode_record, salvage,
};
use std::error::Error;

type Tested = Result<(), Box<dyn Error>>;

/// In the manner of 2023: everything at once, each part seen in a capture of the time.
const OF_2023: &str = r#"{"id": "5d9b9b1ad4ac45e4bb0e1b4b7d1f5a11", "services": "kafka", "event_type": "transfer-done",
 "created_at": "datetime.datetime(2023, 9, 1, 12, 0, 1, 5)",
 "payload": {"activity": "User Subscriptions", "request-id": "8ae5f8f32afe4b509d782023a030fd8a", "duration": 4,
  "checksum-adler": "A89A1AD", "checksum-md5": "None", "file-size": 20957327, "bytes": 20957327, "guid": "None",
  "previous-request-id": "None", "protocol": "root", "scope": "test", "name": "visit/1.fits", "dataset": "None", "datasetScope": "None",
  "src-rse": "XRD1", "src-url": "root://xrd1:1094//rucio/test/visit/1.fits", "dst-rse": "XRD2",
  "dst-url": "root://xrd2:1095//rucio/test/visit/1.fits", "reason": "", "created_at": "2023-09-01 11:59:01", "submitted_at": "None",
  "transferred_at": "2023-09-01 12:00:00", "vo": "None", "rubin_butler": 1,
  "rubin_sidecar": {"id": "95fb898e-a577-5690-8e9c-b1d180f220b0",
   "datasetType": {"name": "visitSummary", "storageClass": "ExposureCatalog", "dimensions": {"names": ["instrument", "visit"]}},
   "dataId": {"dataId": {"instrument": "HSC", "visit": 1228}}, "run": "HSC/runs/1"}}}"#;

#[test]
fn an_event_of_2023_is_read_as_one_of_today() -> Tested {
    let event = decode(OF_2023.as_bytes())?;
    assert_eq!(event.event_type, EventType::TransferDone);
    assert_eq!(event.created_at, Micros(1_693_569_601_000_005));
    assert_eq!(event.id.as_deref(), Some("5d9b9b1ad4ac45e4bb0e1b4b7d1f5a11"));
    let payload = &event.payload;
    for none in [
        &payload.checksum_md5,
        &payload.previous_request_id,
        &payload.dataset,
        &payload.dataset_scope,
        &payload.submitted_at,
        &payload.vo,
    ] {
        assert_eq!(*none, None);
    }
    assert_eq!(payload.adler32().as_deref(), Some("0a89a1ad"));
    assert_eq!(payload.reason.as_deref(), Some(""));
    assert_eq!(payload.bytes, Some(20_957_327));
    assert_eq!(payload.duration_seconds, Some(4.0));
    assert_eq!(payload.landed_at(), Micros::parse("2023-09-01 12:00:00"));
    assert_eq!(payload.rubin_butler, Some(Label::Integer(1)));
    assert_eq!(payload.kind()?, Some(Kind::DataProduct));
    let sidecar = payload.sidecar()?.ok_or("no sidecar")?;
    assert_eq!(sidecar.dataset_type.as_deref(), Some("visitSummary"));
    assert_eq!(sidecar.run.as_deref(), Some("HSC/runs/1"));
    let json: serde_json::Value = serde_json::from_str(&sidecar.json)?;
    assert_eq!(
        json["datasetType"]["dimensions"],
        serde_json::json!(["instrument", "visit"])
    );
    assert_eq!(json["dataId"]["dataId"]["visit"], 1228);
    Ok(())
}

#[test]
fn the_integer_label_needs_a_sidecar() -> Tested {
    let body = r#"{"event_type":"transfer-done","payload":{"rubin_butler":1,"rubin_sidecar":""},"created_at":"2024-01-01 00:00:00"}"#;
    let refused = decode(body.as_bytes())?.payload.kind();
    assert_eq!(refused, Err(DecodeError::UnknownKind { word: "1".into() }));
    Ok(())
}

#[test]
fn an_event_written_again_by_hand_needs_no_more_than_it_has() -> Tested {
    let body = r#"{"event_type":"transfer-done","payload":{"name":"a/1.fits","scope":"dp","dataset":"d","datasetScope":"dp",
        "dst-rse":"IN2P3_BUTLER_DISK","dst-url":"davs://h:443/butler_disk/dp/a/1.fits","rubin_butler":"zip_file","rubin_sidecar":""},
        "created_at":"2025-03-01 10:00:00"}"#;
    let event = decode(body.as_bytes())?;
    assert_eq!(event.payload.kind()?, Some(Kind::ZipFile));
    assert_eq!(event.payload.sidecar()?, None);
    assert_eq!((event.payload.bytes, event.payload.adler32()), (None, None));
    assert_eq!(
        event.did().map(|did| did.to_string()).as_deref(),
        Some("dp:a/1.fits")
    );
    // With neither type nor envelope time it is still known for what it is.
    let bare = r#"{"payload":{"created_at":"2025-03-01 10:00:00","dst-rse":"R","dst-url":"davs://h/dp//a/1.fits","rubin_butler":"dim_file"}}"#;
    let event = decode(bare.as_bytes())?;
    assert_eq!(event.event_type, EventType::TransferDone);
    assert_eq!(Some(event.created_at), Micros::parse("2025-03-01 10:00:00"));
    let implied = event.did_or_implied(Some("usdf.R-dp"));
    assert_eq!(implied.map(|did| did.to_string()).as_deref(), Some("dp:a/1.fits"));
    assert_eq!(event.did_or_implied(Some("other")), None);
    // A second writing has the same content and another key: one event.
    let again = body.replace(": ", ":").replace("\n        ", " ");
    assert_ne!(again, body);
    assert_eq!(
        decode(body.as_bytes())?.identity(body.as_bytes()),
        decode(again.as_bytes())?.identity(again.as_bytes())
    );
    Ok(())
}

#[test]
fn a_payload_may_be_absent() -> Tested {
    for payload in [
        "",
        r#","payload":null"#,
        r#","payload":"nolimit""#,
        r#","payload":{}"#,
    ] {
        let body = format!(r#"{{"event_type":"CLOSE","created_at":"2025-03-01T10:00:00"{payload}}}"#);
        let event = decode(body.as_bytes())?;
        assert_eq!(event.event_type, EventType::Close);
        assert_eq!(event.payload, Default::default());
        assert_eq!(
            (event.did(), event.rse(), event.payload.kind()?),
            (None, None, None)
        );
    }
    Ok(())
}

#[test]
fn an_unknown_type_and_unknown_fields_are_carried() -> Tested {
    let body = r#"{"event_type":"REPLICA-MOVED","x":[{"y":[]}],"created_at":"2025-03-01 10:00:00.1","payload":{"new":{"deep":[1]},"scope":"a"}}"#;
    let event = decode(body.as_bytes())?;
    assert_eq!(event.event_type.as_str(), "replica-moved");
    assert_eq!(event.payload.scope.as_deref(), Some("a"));
    Ok(())
}

#[test]
fn of_repeated_keys_the_last_counts() -> Tested {
    let body = r#"{"event_type":"open","event_type":"close","created_at":"2025-03-01 10:00:00","payload":{"scope":"a","scope":"b","bytes":1,"file-size":2}}"#;
    let event = decode(body.as_bytes())?;
    assert_eq!(event.event_type, EventType::Close);
    assert_eq!(
        (event.payload.scope.as_deref(), event.payload.bytes),
        (Some("b"), Some(2))
    );
    Ok(())
}

#[test]
fn escapes_are_undone() -> Tested {
    let body = r#"{"\u0065vent_type":"\u006fpen","created_at":"2025-03-01 10:00:00","payload":{"na\u006de":"a\"\u00e9\ud83d\ude00"}}"#;
    let event = decode(body.as_bytes())?;
    assert_eq!(event.event_type, EventType::Open);
    assert_eq!(event.payload.name.as_deref(), Some("a\"é😀"));
    Ok(())
}

fn refused(body: &[u8]) -> String {
    match decode(body) {
        Ok(event) => format!("decoded: {event:?}"),
        Err(error) => format!("{}: {error}", error.reason()),
    }
}

#[test]
fn a_wrong_type_names_the_field_and_both_types() {
    let event = |fields: &str, payload: &str| {
        format!(
            r#"{{"event_type":"open","created_at":"2025-03-01 10:00:00",{fields}"payload":{{{payload}}}}}"#
        )
    };
    for (body, wanted) in [
        (
            event("", r#""bytes":"12""#),
            "field `payload.bytes` is a string, not an integer from 0",
        ),
        (
            event("", r#""bytes":-1"#),
            "field `payload.bytes` is an integer, not an integer from 0",
        ),
        (
            event("", r#""bytes":1.5"#),
            "field `payload.bytes` is a number with a fraction, not an integer from 0",
        ),
        (
            event("", r#""bytes":18446744073709551615"#),
            "field `payload.bytes` is an integer, not an integer from 0",
        ),
        (
            event("", r#""scope":7"#),
            "field `payload.scope` is an integer, not a string",
        ),
        (
            event("", r#""dst-url":["a"]"#),
            "field `payload.dst-url` is an array, not a string",
        ),
        (
            event("", r#""rubin_butler":true"#),
            "field `payload.rubin_butler` is a boolean, not a string",
        ),
        (
            event("", r#""rubin_sidecar":[{}]"#),
            "field `payload.rubin_sidecar` is an array, not a string",
        ),
        (
            event("", r#""progress":"half""#),
            "field `payload.progress` is a string, not an integer",
        ),
        (
            event("", r#""duration":"4""#),
            "field `payload.duration` is a string, not a number",
        ),
        (event(r#""id":{},"#, ""), "field `id` is an object, not a string"),
        (
            event(r#""event_type":1,"#, ""),
            "field `event_type` is an integer, not a string",
        ),
        (
            event(r#""created_at":1,"#, ""),
            "field `created_at` is an integer, not a string",
        ),
        (
            event(r#""created_at":"now","#, ""),
            "field `created_at` is `now`, not a time such as 2026-11-21 19:14:49.938629",
        ),
        (
            event(r#""payload":"x","#, ""),
            "field `payload` is a string, not an object",
        ),
        (
            event(r#""payload":[1],"#, ""),
            "field `payload` is an array, not an object",
        ),
        (
            event(r#""payload":3,"#, ""),
            "field `payload` is a number, not an object",
        ),
        (
            r#"{"event_type":"open","payload":{}}"#.into(),
            "field `created_at` is missing",
        ),
        (
            r#"{"created_at":"2025-03-01 10:00:00"}"#.into(),
            "field `event_type` is missing",
        ),
    ] {
        assert_eq!(refused(body.as_bytes()), format!("bad_field: {wanted}"), "{body}");
    }
}

#[test]
fn what_is_readable_of_a_refused_event_is_salvaged() -> Tested {
    let body = br#"{"event_type":"transfer-done","created_at":"2025-03-01 10:00:00","payload":{"bytes":"x","scope":"a","name":"b","dst-rse":"R"}}"#;
    assert!(decode(body).is_err());
    let event = salvage(body).ok_or("nothing salvaged")?;
    assert_eq!(event.payload.bytes, None);
    assert_eq!(event.did().map(|did| did.to_string()).as_deref(), Some("a:b"));
    assert!(salvage(b"[]").is_none() && salvage(br#"{"index":{}}"#).is_none() && salvage(b"\xff").is_none());
    Ok(())
}

#[test]
fn an_unknown_kind_is_named() -> Tested {
    let body = r#"{"event_type":"transfer-done","payload":{"rubin_butler":"tarball"},"created_at":"2024-01-01 00:00:00"}"#;
    let error = decode(body.as_bytes())?.payload.kind().err().ok_or("accepted")?;
    assert_eq!(error.reason(), Reason::UnknownKind);
    assert!(error.to_string().contains("`tarball`"), "{error}");
    Ok(())
}

#[test]
fn what_is_no_event_says_what_it_is() {
    for (body, wanted) in [
        (&b""[..], "the body is empty"),
        (b" \n", "the body is empty"),
        (b"[]", "the body is an array, not an object"),
        (b"\"x\"", "the body is a string, not an object"),
        (b"null", "the body is null, not an object"),
        (b"true", "the body is a boolean, not an object"),
        (b"1.5", "the body is a number, not an object"),
        (b"-3", "the body is a number, not an object"),
        (
            b"{\"a\": \xff}",
            "the body is not UTF-8: byte 6 begins no character",
        ),
        (b"{\"event_type\": \"op", "the JSON is cut short after 18 bytes"),
        (
            b"{'event_type': 'open'}",
            "the body is not JSON: key must be a string near byte 2",
        ),
        (b"{}{}", "the body is not JSON: trailing characters near byte 3"),
        (
            b"{\n\"a\": nope}",
            "the body is not JSON: expected ident near byte 9",
        ),
    ] {
        assert_eq!(
            refused(body),
            format!("unreadable: {wanted}"),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn a_megabyte_is_refused_unread() {
    let name = "x".repeat(MAX_BODY_BYTES);
    let body = format!(
        r#"{{"event_type":"open","created_at":"2025-03-01 10:00:00","payload":{{"name":"{name}"}}}}"#
    );
    assert_eq!(
        refused(body.as_bytes()),
        format!(
            "unreadable: the body has {} bytes, more than the 524288 an event may have",
            body.len()
        )
    );
    let fits = body.replacen('x', "", 0).replace(&"x".repeat(100), "");
    assert!(decode(fits.as_bytes()).is_ok());
}

#[test]
fn the_action_line_of_a_bulk_request_is_known_for_what_it_is() {
    for line in [r#"{ "index":{ } }"#, r#"{"create":{"_index":"rucio"}}"#] {
        assert_eq!(decode(line.as_bytes()), Err(DecodeError::BulkAction));
    }
    for line in [r#"{"index":1}"#, r#"{"index":{},"x":1}"#, "{}"] {
        assert_eq!(
            decode(line.as_bytes()),
            Err(DecodeError::Missing { field: "event_type" })
        );
    }
}

#[test]
fn depth_does_not_break_anything() {
    for depth in [30, 31, 100, 1_000, 200_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            // As large as a body may be, and larger.
            let depth = depth.min(MAX_BODY_BYTES / (open.len() + close.len()) - 100);
            let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let start = r#"{"event_type":"open","created_at":"2025-03-01 10:00:00","#;
            let skipped = format!(r#"{start}"x":{nest}}}"#);
            let sidecar = format!(r#"{start}"payload":{{"rubin_sidecar":{nest}}}}}"#);
            let sidecar_text = format!(r#"{start}"payload":{{"rubin_sidecar":{nest:?}}}}}"#);
            let record = format!(r#"{{"topic":"t","value":{nest}}}"#);
            let deep = depth > 31;
            assert_eq!(
                refused(skipped.as_bytes()).contains("more than 32 levels deep"),
                deep,
                "{depth}"
            );
            for body in [&nest, &skipped, &sidecar, &sidecar_text, &record] {
                let recorded = decode_record(body.as_bytes());
                if let Ok(event) = decode(&recorded.body) {
                    event.identity(&recorded.body);
                    let _ = event.payload.sidecar();
                }
            }
        }
    }
}
