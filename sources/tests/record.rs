//! Records written to files: each once, whatever ends the program, and read back as they were.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{Micros, Place, Received, decode_record};
use dbb_sources::{
    Partition, SourceError,
    record::{RecordFormat, RecordSettings, Recorder},
    replay::{Input, Kind, Queue, Reader},
};
use std::{fs, path::Path, time::Duration};

fn settings(folder: &Path, format: RecordFormat, max_file_bytes: u64) -> RecordSettings {
    RecordSettings {
        folder: folder.to_owned(),
        format,
        max_file_bytes,
        max_file_age: Duration::from_secs(3600),
    }
}

fn open(folder: &Path) -> Recorder {
    Recorder::open(settings(folder, RecordFormat::Ndjson, u64::MAX)).unwrap()
}

fn body(partition: i32, offset: u64) -> String {
    format!(
        "{{\"event_type\": \"open\",\n \"n\": \"{partition}/{offset} \\u00e9 é \\\"{}\\\"\"}}",
        "x".repeat((offset % 50) as usize)
    )
}

fn record(partition: i32, offset: u64) -> Received {
    Received {
        place: Place {
            stream: "A-raw".into(),
            partition,
            offset,
            line: None,
        },
        topic: Some("A-raw".into()),
        appended_at: Some(Micros(1_700_000_000_000_000 + offset as i64)),
        marks: None,
        body: body(partition, offset).into(),
    }
}

/// The bodies of all complete files, and the topics they are from.
fn replayed(folder: &Path) -> Vec<String> {
    let input = Input {
        path: folder.to_owned(),
        kind: Kind::Event,
    };
    let mut reader = Reader::new(Queue::open(&[input], 0, 1).unwrap());
    let (mut buffer, mut bodies) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block(&mut buffer).unwrap() {
        for line in block.lines(&buffer) {
            let recorded = decode_record(line.bytes);
            bodies.push(String::from_utf8(recorded.body.into_owned()).unwrap());
        }
    }
    bodies.sort();
    bodies
}

fn bodies(partition: i32, offsets: std::ops::Range<u64>) -> Vec<String> {
    offsets.map(|offset| body(partition, offset)).collect()
}

fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort();
    bodies
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    sorted(names.filter(|name| !name.starts_with('.')).collect())
}

#[test]
fn what_is_recorded_is_read_back_in_both_formats() {
    for format in [RecordFormat::Ndjson, RecordFormat::Parquet] {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::open(settings(folder.path(), format, 20_000)).unwrap();
        let mut moved = 0;
        for offset in 10..6000 {
            assert!(recorder.write(&record(0, offset)).unwrap());
            assert!(recorder.write(&record(1, offset)).unwrap());
            moved += u64::from(recorder.rotate().unwrap().is_some());
        }
        assert!(recorder.complete().unwrap().is_some());
        assert!(
            moved > 0 && files(folder.path()).len() as u64 == moved + 1,
            "{moved}"
        );
        let mut wanted = [bodies(0, 10..6000), bodies(1, 10..6000)].concat();
        if format == RecordFormat::Parquet {
            // A line end in a body is white space between its tokens.
            wanted.iter_mut().for_each(|body| *body = body.replace('\n', " "));
        }
        assert_eq!(replayed(folder.path()), sorted(wanted), "{format:?}");
        assert_eq!((recorder.records(), recorder.not_text()), (2 * 5990, 0));
    }
}

#[test]
fn a_line_tells_where_the_record_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = open(folder.path());
    let mut odd = record(3, 8);
    odd.body = bytes::Bytes::from_static(b"{\"a\": \"\xff\"}");
    let mut bare = record(0, 0);
    bare.topic = None;
    for record in [record(3, 7), odd, bare] {
        recorder.write(&record).unwrap();
    }
    recorder.complete().unwrap();
    assert_eq!(recorder.not_text(), 1);
    let packed = fs::read(folder.path().join("events-00000001.ndjson.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let value = serde_json::to_string(&body(3, 7)).unwrap();
    assert_eq!(
        lines[0],
        format!(
            "{{\"topic\":\"A-raw\",\"partition\":3,\"offset\":7,\
             \"appended_at\":\"2023-11-14T22:13:20.000007Z\",\"value\":{value}}}"
        )
    );
    assert!(lines[1].ends_with(r#""value":"{\"a\": \"\ufffd\"}"}"#) || lines[1].contains('\u{fffd}'));
    assert_eq!(lines[2], body(0, 0).replace('\n', " "));
}

#[test]
fn a_restart_goes_on_where_complete_files_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let partition = Partition {
        stream: "A-raw".into(),
        partition: 0,
    };
    let mut recorder = open(path);
    let id = recorder.id().to_owned();
    assert!(recorder.is_new() && recorder.offsets().is_empty());
    (0..100).for_each(|offset| assert!(recorder.write(&record(0, offset)).unwrap()));
    recorder.complete().unwrap();
    (100..150).for_each(|offset| assert!(recorder.write(&record(0, offset)).unwrap()));
    // Killed: the second file was never complete.
    drop(recorder);
    assert!(path.join(".events-00000002.ndjson.zst.part").exists());

    let mut recorder = open(path);
    assert!(!path.join(".events-00000002.ndjson.zst.part").exists());
    assert_eq!((recorder.id(), recorder.is_new()), (id.as_str(), false));
    assert_eq!(recorder.offsets()[&partition], 100);
    // The source goes back further than that.
    let written = (90..200).filter(|offset| recorder.write(&record(0, *offset)).unwrap());
    assert_eq!(written.count(), 100);
    let offsets = recorder.complete().unwrap().unwrap();
    assert_eq!(offsets[&partition], 200);
    drop(recorder);

    // Killed after the position has moved, before the file had its name.
    let (name, part) = ("events-00000002.ndjson.zst", ".events-00000002.ndjson.zst.part");
    fs::rename(path.join(name), path.join(part)).unwrap();
    let recorder = open(path);
    assert_eq!(recorder.offsets(), offsets);
    assert_eq!(replayed(path), sorted(bodies(0, 0..200)));
    assert_eq!(files(path), ["events-00000001.ndjson.zst", name]);
}

#[test]
fn one_recorder_writes_to_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = Recorder::open(settings(folder.path(), RecordFormat::Ndjson, 1));
    let error = second.unwrap_err();
    assert!(matches!(error, SourceError::Configuration(_)), "{error}");
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).id(), _first.id());

    fs::write(other.path().join(".position.json"), "{").unwrap();
    let error = Recorder::open(settings(other.path(), RecordFormat::Ndjson, 1)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(".position.json"), "{cause}");
}
