//! Whole files through the reader of replays: every format, any number of readers, and damage.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow::{
    array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder},
    datatypes::Int32Type,
};
use dbb_events::{Micros, decode_record};
use dbb_sources::{
    SourceError,
    replay::{Block, End, Input, Kind, Queue, Reader},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

fn captured() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/rucio-events")
}

fn text_of(name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let file = File::open(captured().join(name)).unwrap();
    GzDecoder::new(file).read_to_end(&mut text).unwrap();
    text
}

fn input(path: impl Into<PathBuf>, kind: Kind) -> Input {
    Input {
        path: path.into(),
        kind,
    }
}

fn events(path: impl Into<PathBuf>) -> Input {
    input(path, Kind::Event)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1000))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn lines_of(text: &[u8]) -> Vec<&str> {
    std::str::from_utf8(text).unwrap().lines().collect()
}

/// One line as it was read: file, position, number, bytes.
type Found = (String, u64, Option<u64>, Vec<u8>);

#[derive(Default)]
struct All {
    lines: Vec<Found>,
    ends: Vec<(String, End)>,
    errors: Vec<SourceError>,
}

fn read(queue: &Arc<Queue>) -> All {
    let (mut reader, mut buffer, mut all) = (Reader::new(queue.clone()), Vec::new(), All::default());
    loop {
        match reader.next_block(&mut buffer) {
            Ok(Some(block)) => take(&block, &buffer, &mut all),
            Ok(None) => break,
            Err(error) => {
                assert!(error.is_partial(), "{error}");
                all.errors.push(error);
            }
        }
    }
    all.lines.sort();
    all
}

fn take(block: &Block, text: &[u8], all: &mut All) {
    let file = Path::new(&*block.file).file_name().unwrap().display().to_string();
    if let Some(end) = block.end {
        assert!(text.is_empty());
        return all.ends.push((file, end));
    }
    for line in block.lines(text) {
        all.lines
            .push((file.clone(), line.offset, line.number, line.bytes.to_vec()));
    }
}

fn bodies(read: &All) -> Vec<&str> {
    read.lines
        .iter()
        .map(|line| std::str::from_utf8(&line.3).unwrap())
        .collect()
}

fn told(error: &SourceError) -> String {
    format!("{error}: {}", error.source().unwrap())
}

#[test]
fn every_captured_file_is_read_once_as_what_it_is() {
    let at = Some(Micros(7));
    let folder = captured();
    let mut inputs = vec![events(&folder)];
    for night in ["a", "b", "c"] {
        let file = |what: &str| folder.join(format!("night-{night}-{what}.ndjson.gz"));
        inputs.push(input(file("replica-journal"), Kind::Journal));
        inputs.push(input(file("snapshot-mid"), Kind::Listing { at: None }));
        inputs.push(input(file("snapshot-end"), Kind::Listing { at: None }));
    }
    inputs.push(input(
        folder.join("night-c-list-replicas.ndjson.gz"),
        Kind::Listing { at },
    ));
    let queue = Queue::open(&inputs, 0, 1).unwrap();
    let (mut reader, mut buffer) = (Reader::new(queue.clone()), Vec::new());
    let (mut counts, mut ends, mut recorded) = (BTreeMap::new(), 0, 0);
    while let Some(block) = reader.next_block(&mut buffer).unwrap() {
        ends += u64::from(block.end == Some(End::Whole));
        let name = Path::new(&*block.file).file_name().unwrap().display().to_string();
        for line in block.lines(&buffer) {
            *counts.entry((block.kind, name.clone())).or_insert(0) += 1;
            recorded += u64::from(decode_record(line.bytes).topic.is_some());
        }
    }
    let count = |kind: Kind, name: &str| counts.get(&(kind, format!("{name}.gz"))).copied();
    assert_eq!(count(Kind::Event, "night-a-events.ndjson"), Some(7511));
    assert_eq!(count(Kind::Event, "night-b-events.ndjson"), Some(3525));
    assert_eq!(count(Kind::Event, "night-c-events.ndjson"), Some(1424));
    assert_eq!(count(Kind::Event, "night-c-elastic-bulk.ndjson"), Some(2848));
    assert_eq!(count(Kind::Journal, "night-a-replica-journal.ndjson"), Some(7223));
    assert_eq!(
        count(Kind::Listing { at: None }, "night-a-snapshot-end.ndjson"),
        Some(2191)
    );
    assert_eq!(
        count(Kind::Listing { at }, "night-c-list-replicas.ndjson"),
        Some(138)
    );
    // Each file once: the folder's README too, and nothing as two things.
    assert_eq!(counts.len(), fs::read_dir(&folder).unwrap().count());
    assert_eq!((queue.files(), ends, recorded), (counts.len(), 10, 68));
    assert_eq!(queue.bytes_read(), queue.bytes());
}

#[test]
fn the_format_is_that_of_the_bytes_and_makes_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let text = text_of("night-c-events.ndjson.gz");
    let lines = lines_of(&text);
    let half: usize = lines[..700].iter().map(|line| line.len() + 1).sum();
    let (one, two) = text.split_at(half);
    let mut shared = StringDictionaryBuilder::<Int32Type>::new();
    lines.iter().for_each(|line| shared.append_value(line));
    let strings: ArrayRef = Arc::new(StringArray::from(lines.clone()));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&lines));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..lines.len() as i64));
    let files: [(&str, Vec<u8>); 7] = [
        ("plain.gz", text.clone()),
        ("gzip.txt", gzip(&text)),
        // Files put together are one file.
        ("two.json", [gzip(one), gzip(two)].concat()),
        (
            "zstd",
            [
                zstd::encode_all(one, 1).unwrap(),
                zstd::encode_all(two, 1).unwrap(),
            ]
            .concat(),
        ),
        (
            "value",
            parquet(vec![("offset", numbers.clone()), ("value", strings)]),
        ),
        ("body", parquet(vec![("body", bytes), ("offset", numbers)])),
        ("event", parquet(vec![("event", Arc::new(shared.finish()))])),
    ];
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let queue = Queue::open(&[events(&path)], 0, 1).unwrap();
        let all = read(&queue);
        assert_eq!(bodies(&all), lines, "{name}");
        assert!(all.errors.is_empty() && all.ends.is_empty());
        let numbers: Vec<Option<u64>> = all.lines.iter().map(|line| line.2).collect();
        assert_eq!(numbers, (1..=lines.len() as u64).map(Some).collect::<Vec<_>>());
        assert!(queue.bytes_read() > queue.bytes() / 2 && queue.bytes_read() <= queue.bytes());
    }
}

#[test]
fn any_number_of_readers_and_processes_reads_each_line_once() {
    let folder = tempfile::tempdir().unwrap();
    let night = text_of("night-a-events.ndjson.gz");
    // Three segments and a bit, the last line without its end.
    let large: Vec<u8> = (0..5).flat_map(|_| night.clone()).collect();
    let large = &large[..large.len() - 1];
    assert!(large.len() > 3 * 8 * 1024 * 1024, "{}", large.len());
    fs::write(folder.path().join("large"), large).unwrap();
    fs::write(folder.path().join("packed"), gzip(&night)).unwrap();
    fs::write(folder.path().join("small"), b"\n\none\r\n \ntwo\n").unwrap();
    fs::write(folder.path().join("empty"), b"").unwrap();
    fs::write(folder.path().join(".hidden"), b"three\n").unwrap();
    fs::create_dir(folder.path().join("below")).unwrap();
    fs::write(folder.path().join("below/four"), b"four").unwrap();

    let inputs = [events(folder.path())];
    let alone = read(&Queue::open(&inputs, 0, 1).unwrap());
    assert_eq!(alone.lines.len(), 6 * 7511 + 3);
    let mut offset = 0;
    let mut lines = alone.lines.iter();
    assert_eq!(
        lines.next().unwrap(),
        &("four".into(), 0, Some(1), b"four".to_vec())
    );
    for line in lines_of(large) {
        let (file, at, _, bytes) = lines.next().unwrap();
        assert_eq!(
            (file.as_str(), *at, bytes.as_slice()),
            ("large", offset, line.as_bytes())
        );
        offset += line.len() as u64 + 1;
    }
    let small: Vec<&Found> = lines.filter(|line| line.0 == "small").collect();
    assert_eq!(small[0], &("small".into(), 2, Some(3), b"one\r".to_vec()));
    assert_eq!(small[1], &("small".into(), 9, Some(5), b"two".to_vec()));

    for (processes, readers) in [(1, 4), (2, 1), (3, 2)] {
        let mut together = Vec::new();
        let mut bytes = 0;
        for process in 0..processes {
            let queue = Queue::open(&inputs, process, processes).unwrap();
            bytes += queue.bytes();
            let threads: Vec<_> = (0..readers)
                .map(|_| {
                    let queue = queue.clone();
                    thread::spawn(move || read(&queue).lines)
                })
                .collect();
            let lines: Vec<Found> = threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect();
            assert!(
                !lines.is_empty(),
                "process {process} of {processes} has its share"
            );
            together.extend(lines);
        }
        together.sort();
        assert!(
            together == alone.lines,
            "{processes} processes, {readers} readers"
        );
        assert_eq!(bytes, Queue::open(&inputs, 0, 1).unwrap().bytes());
    }
}

#[test]
fn of_a_damaged_file_what_is_before_the_damage_counts_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = text_of("night-c-events.ndjson.gz");
    let lines = lines_of(&text);
    let path = |name: &str| folder.path().join(name);
    let packed = gzip(&text);
    fs::write(path("gzip"), &packed[..packed.len() / 2]).unwrap();
    let packed = zstd::encode_all(text.as_slice(), 1).unwrap();
    fs::write(path("zstd"), &packed[..packed.len() * 2 / 3]).unwrap();
    let strings: ArrayRef = Arc::new(StringArray::from(lines.clone()));
    let rows = parquet(vec![("value", strings.clone())]);
    fs::write(path("rows"), &rows[..rows.len() / 2]).unwrap();
    fs::write(
        path("other"),
        parquet(vec![("text", strings.clone()), ("at", strings)]),
    )
    .unwrap();
    let number: ArrayRef = Arc::new(Int64Array::from_iter_values([1]));
    fs::write(path("numbers"), parquet(vec![("body", number)])).unwrap();
    fs::write(path("good"), &text).unwrap();

    let all = read(&Queue::open(&[events(folder.path())], 0, 1).unwrap());
    let of = |name: &str| -> Vec<&str> {
        let found = all.lines.iter().filter(|line| line.0 == name);
        found.map(|line| std::str::from_utf8(&line.3).unwrap()).collect()
    };
    assert_eq!(of("good"), lines);
    for name in ["gzip", "zstd"] {
        let count = of(name).len();
        assert!(count > 300 && count < 1300, "{name}: {count}");
        // Whole lines only.
        assert_eq!(of(name), lines[..count], "{name}");
    }
    let wanted = [
        ("gzip", "; the rest of it is lost"),
        ("zstd", "; the rest of it is lost"),
        ("rows", "; nothing of it is read"),
        (
            "other",
            "no column `value`, `body` or `event` that would hold the events; its columns are text, at; nothing",
        ),
        (
            "numbers",
            "column `body` is Int64, not text or bytes; nothing of it is read",
        ),
    ];
    assert_eq!(all.errors.len(), wanted.len());
    for (name, sentence) in wanted {
        let path = path(name).display().to_string();
        let error = all
            .errors
            .iter()
            .map(told)
            .find(|error| error.contains(&path))
            .unwrap();
        assert!(error.contains(sentence), "{error}");
        if of(name).len() > 1 {
            let place = format!("line {}: ", of(name).len() + 1);
            assert!(error.contains(&place) && error.contains("at byte "), "{error}");
        }
    }
}

#[test]
fn a_parquet_file_with_any_damage_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let text = text_of("night-c-events.ndjson.gz");
    let lines: Vec<&str> = lines_of(&text)[..1200].to_vec();
    let strings: ArrayRef = Arc::new(StringArray::from(lines.clone()));
    let rows = parquet(vec![("value", strings)]);
    let mut errors = 0;
    let places = (0..300)
        .map(|n| n * rows.len() / 300)
        .chain(rows.len() - 700..rows.len());
    for place in places {
        let mut damaged = rows.clone();
        damaged[place] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let all = read(&Queue::open(&[events(&path)], 0, 1).unwrap());
        errors += all.errors.len();
        assert!(all.lines.len() <= 1200 || !all.errors.is_empty());
    }
    assert!(errors > 200, "{errors}");
}

#[test]
fn the_end_of_a_journal_and_of_a_listing_is_told_and_whether_it_is_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let packed = gzip(&text_of("night-c-snapshot-end.ndjson.gz"));
    fs::write(path("whole"), &packed).unwrap();
    fs::write(path("cut"), &packed[..packed.len() / 2]).unwrap();
    fs::write(path("events"), b"{}\n").unwrap();
    fs::write(path("empty"), b"").unwrap();
    let inputs = [
        input(path("whole"), Kind::Journal),
        events(folder.path()),
        input(path("cut"), Kind::Listing { at: None }),
        input(path("empty"), Kind::Listing { at: None }),
    ];
    let all = read(&Queue::open(&inputs, 0, 1).unwrap());
    let ends: BTreeSet<(&str, bool)> = all
        .ends
        .iter()
        .map(|(file, end)| (file.as_str(), *end == End::Whole))
        .collect();
    assert_eq!(
        ends,
        BTreeSet::from([("whole", true), ("cut", false), ("empty", true)])
    );
    assert_eq!((all.errors.len(), all.ends.len()), (1, 3));

    let twice = [
        inputs[0].clone(),
        input(path("whole"), Kind::Listing { at: None }),
    ];
    let error = Queue::open(&twice, 0, 1).unwrap_err();
    assert!(error.to_string().contains("is given as two things"), "{error}");
    let error = Queue::open(&[events(path("nowhere"))], 0, 1).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

/// A pipe at `path`, and a thread that writes `content` into it.
fn piped(path: &Path, content: Vec<u8>) -> thread::JoinHandle<()> {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
    let path = path.to_owned();
    thread::spawn(move || fs::write(path, content).unwrap())
}

#[test]
fn a_pipe_that_is_named_is_read_whatever_comes_through_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = text_of("night-c-events.ndjson.gz");
    let contents = [
        ("plain", text.clone()),
        ("gzip", gzip(&text)),
        ("zstd", zstd::encode_all(&*text, 1).unwrap()),
    ];
    for (name, content) in contents {
        for kind in [Kind::Event, Kind::Journal, Kind::Listing { at: None }] {
            let path = folder.path().join(format!("{name} {kind:?}"));
            let writer = piped(&path, content.clone());
            let all = read(&Queue::open(&[input(&path, kind)], 0, 1).unwrap());
            writer.join().unwrap();
            assert_eq!(bodies(&all), lines_of(&text), "{name}");
            assert_eq!(all.lines[7].2, Some(8));
            assert_eq!(all.ends.len(), usize::from(kind != Kind::Event));
        }
    }
    let path = folder.path().join("rows");
    let strings: ArrayRef = Arc::new(StringArray::from(vec!["{}"]));
    let writer = piped(&path, parquet(vec![("value", strings)]));
    let all = read(&Queue::open(&[events(&path)], 0, 1).unwrap());
    writer.join().unwrap();
    assert!(all.lines.is_empty() && all.errors[0].to_string().contains("write it to a file"));
    // In a folder nobody has asked for it: it would be waited for, perhaps for ever.
    let all = read(&Queue::open(&[events(folder.path())], 0, 1).unwrap());
    assert_eq!(all.errors.len(), 10, "{:?}", all.errors);
}

#[test]
fn what_is_not_read_is_told_by_name_once_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = "{\"a\": 1}\n";
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(path("marked"), [b"\xff\xfe", &*wide].concat()).unwrap();
    fs::write(path("wide"), &wide).unwrap();
    fs::write(path("wide.gz"), gzip(&wide)).unwrap();
    fs::write(path("twice.gz"), gzip(&gzip(text.as_bytes()))).unwrap();
    fs::write(path("xz"), b"\xfd7zXZ\0\0\x04").unwrap();
    fs::write(path("good"), text).unwrap();
    std::os::unix::fs::symlink(folder.path(), path("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
    let all = read(&Queue::open(&[events(folder.path())], 0, 1).unwrap());
    assert_eq!(bodies(&all), ["{\"a\": 1}"]);
    for (name, what) in [
        ("marked", "UTF-16"),
        ("wide", "UTF-16LE"),
        ("wide.gz", "UTF-16LE"),
        ("twice.gz", "packed twice"),
        ("xz", "xz -d"),
        ("loop", "leads to"),
        ("dangling", "nowhere"),
    ] {
        let start = format!("`{}` ", path(name).display());
        let told: Vec<String> = all.errors.iter().map(ToString::to_string).collect();
        let told: Vec<&String> = told.iter().filter(|error| error.starts_with(&start)).collect();
        assert!(told.len() == 1 && told[0].contains(what), "{name}: {told:?}");
    }
    assert_eq!(all.errors.len(), 7);
    assert!(
        all.errors
            .iter()
            .all(|error| matches!(error, SourceError::LeftOut { .. }))
    );
}

#[test]
fn long_windows_are_read_and_what_is_behind_a_gzip_is_as_for_gzip() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let long = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/cases/zstd-long28/a.zst");
    let all = read(&Queue::open(&[events(long)], 0, 1).unwrap());
    assert_eq!((all.lines.len(), all.errors.len()), (3, 0), "{:?}", all.errors);

    let (one, two) = (gzip(b"one\n"), gzip(b"two\n"));
    for (name, parts, lines, errors) in [
        ("zeros", vec![&one[..], &[0; 512]], vec!["one"], 0),
        ("garbage", vec![&one, b"garbage"], vec!["one"], 1),
        ("padded", vec![&one, &[0; 100], &two], vec!["one", "two"], 0),
    ] {
        fs::write(path(name), parts.concat()).unwrap();
        let all = read(&Queue::open(&[input(path(name), Kind::Journal)], 0, 1).unwrap());
        assert_eq!(bodies(&all), lines, "{name}");
        assert_eq!(all.errors.len(), errors, "{name}");
        assert!(
            all.errors
                .iter()
                .all(|error| matches!(error, SourceError::Odd { .. }))
        );
        assert_eq!(all.ends, [(name.to_owned(), End::Whole)]);
    }
}
