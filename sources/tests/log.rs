//! The log source on real files: what it emits, where it resumes, what it survives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{Incarnation, Position, Received};
use dbb_sources::{
    Begin, Extent, Gap, LogSettings, OffsetStore, Offsets, Partition, Polled, Source, SourceError, log,
};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

#[derive(Default)]
struct Memory(Mutex<Offsets>);

impl OffsetStore for Memory {
    fn load(&self) -> Result<Offsets, String> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn store(&self, handled: &Offsets) -> Result<(), String> {
        self.0.lock().unwrap().extend(handled.clone());
        Ok(())
    }
}

fn open(settings: &LogSettings, workers: usize, store: &Arc<Memory>) -> Vec<Box<dyn Source>> {
    log::open(settings, 0..workers, workers, store.clone(), Extent::default()).unwrap()
}

fn once(paths: &[&Path]) -> LogSettings {
    LogSettings::of(paths.iter().map(|path| path.to_path_buf()))
}

/// Polls to the end; the records and the errors on the way.
fn drain(source: &mut Box<dyn Source>) -> (Vec<Received>, Vec<SourceError>) {
    let (mut batch, mut errors) = (Vec::new(), Vec::new());
    loop {
        let before = batch.len();
        match source.poll(&mut batch, 100) {
            Ok(Polled::Finished) => return (batch, errors),
            Ok(_) => assert!(batch.len() - before <= 100),
            Err(error) => {
                assert_eq!(batch.len(), before, "an error leaves the batch as it was");
                assert!(error.is_partial());
                errors.push(error);
            }
        }
    }
}

/// Polls a followed source until it has emitted `count` records.
fn follow(source: &mut Box<dyn Source>, count: usize) -> Vec<Received> {
    let (mut batch, start) = (Vec::new(), Instant::now());
    while batch.len() < count {
        source.poll(&mut batch, 100).unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "only {} of {count}: {:?}",
            batch.len(),
            bodies(&batch)
        );
        sleep(Duration::from_millis(5));
    }
    // Nothing comes that should not.
    for _ in 0..60 {
        source.poll(&mut batch, 100).unwrap();
        sleep(Duration::from_millis(5));
    }
    batch
}

fn bodies(batch: &[Received]) -> Vec<&str> {
    batch
        .iter()
        .map(|record| std::str::from_utf8(&record.body).unwrap())
        .collect()
}

fn places(batch: &[Received]) -> Vec<String> {
    batch
        .iter()
        .map(|record| format!("{} {}", record.place.offset, record.place.line.unwrap()))
        .collect()
}

fn append(path: &Path, text: &str) {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn handled(path: &Path, offset: u64) -> Offsets {
    let stream = path.display().to_string().into();
    Offsets::from([(Partition { stream, partition: 0 }, offset)])
}

#[test]
fn plain_gzip_and_zstd_are_told_by_their_content_and_read_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("b")).unwrap();
    fs::write(at("a.gz"), "{\"n\":1}\n\n  \n{\"n\":2}").unwrap();
    // Two members, the first of which ends in the middle of a line.
    fs::write(
        at("b/c.json"),
        [gzip("{\"n\":3}\n{\"n\""), gzip(":4}\n")].concat(),
    )
    .unwrap();
    fs::write(at("d.txt"), zstd::encode_all(&b"{\"n\":5}\n"[..], 3).unwrap()).unwrap();
    fs::write(at(".hidden"), "{\"n\":6}\n").unwrap();
    let (batch, errors) = drain(&mut open(&once(&[folder.path()]), 1, &Arc::default())[0]);
    assert!(errors.is_empty());
    assert_eq!(
        bodies(&batch),
        ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}", "{\"n\":5}"]
    );
    assert_eq!(places(&batch), ["0 1", "12 4", "0 1", "8 2", "0 1"]);
    assert_eq!(&*batch[2].place.stream, at("b/c.json").display().to_string());
}

#[test]
fn recorded_lines_give_their_topic_and_their_body() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(
        &path,
        "{\"topic\":\"T\",\"key\":null,\"value\":\"{\\\"n\\\":1}\"}\n{\"topic\":\"T\",\"value\":{\"n\":2}}\n",
    )
    .unwrap();
    let (batch, _) = drain(&mut open(&once(&[&path]), 1, &Arc::default())[0]);
    assert_eq!(bodies(&batch), ["{\"n\":1}", "{\"n\":2}"]);
    assert!(batch.iter().all(|record| record.topic.as_deref() == Some("T")));
}

#[test]
fn each_file_goes_to_one_worker() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..7 {
        fs::write(folder.path().join(format!("{n}")), format!("{n}\n")).unwrap();
    }
    let mut sources = open(&once(&[folder.path()]), 3, &Arc::default());
    let all: Vec<_> = sources.iter_mut().map(|source| drain(source).0).collect();
    assert_eq!(bodies(&all[0]), ["0", "3", "6"]);
    assert_eq!(bodies(&all[1]), ["1", "4"]);
    assert_eq!(bodies(&all[2]), ["2", "5"]);
}

#[test]
fn a_restart_emits_what_was_not_acked_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..5000)
        .map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(n % 700)))
        .collect();
    let text = lines.join("\n") + "\n";
    for (name, content) in [("plain", text.clone().into_bytes()), ("packed", gzip(&text))] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let store = Arc::<Memory>::default();
        let (first, _) = drain(&mut open(&once(&[&path]), 1, &store)[0]);
        assert_eq!(bodies(&first), lines);
        // Whether the next record's offset is told, or only that this one is done.
        for offset in [first[1234].place.offset, first[1233].place.offset + 1] {
            let mut source = open(&once(&[&path]), 1, &store);
            source[0].ack(&handled(&path, offset)).unwrap();
            let (rest, _) = drain(&mut open(&once(&[&path]), 1, &store)[0]);
            assert_eq!(rest, first[1234..]);
        }
    }
}

#[test]
fn a_damaged_file_is_named_after_its_good_lines_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..50_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let whole = gzip(&text);
    fs::write(folder.path().join("a"), &whole[..whole.len() / 2]).unwrap();
    let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
    fs::write(folder.path().join("c"), &zstd[..zstd.len() / 2]).unwrap();
    // Two bytes of rubbish after a whole one.
    fs::write(
        folder.path().join("d"),
        [gzip("{\"n\":\"d\"}\n"), vec![7, 7]].concat(),
    )
    .unwrap();
    fs::write(folder.path().join("b"), "{\"n\":\"b\"}\n").unwrap();
    let (batch, errors) = drain(&mut open(&once(&[folder.path()]), 1, &Arc::default())[0]);
    let of = |name: &str| {
        let mine = batch.iter().filter(|record| record.place.stream.ends_with(name));
        mine.map(|record| record.body.clone()).collect::<Vec<_>>()
    };
    for name in ["/a", "/c"] {
        let lines = of(name);
        assert!(
            lines.len() > 10_000 && lines.len() < 40_000,
            "{name}: {}",
            lines.len()
        );
        for (n, line) in lines.iter().enumerate() {
            assert_eq!(line, &format!("{{\"n\":{n}}}"));
        }
        let error = errors
            .iter()
            .find(|error| error.to_string().ends_with(&format!("{name}`")))
            .unwrap();
        let SourceError::File { source, .. } = error else {
            panic!("{error:?}")
        };
        assert!(
            source.to_string().contains(&format!("line {}", lines.len() + 1)),
            "{source}"
        );
    }
    assert_eq!(of("/b"), ["{\"n\":\"b\"}"]);
    assert_eq!(of("/d"), ["{\"n\":\"d\"}"]);
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn a_line_that_is_too_long_is_handed_on_by_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let long = "x".repeat(3_000_000);
    fs::write(&path, format!("one\n{long}\ntwo\n{long}")).unwrap();
    let settings = LogSettings {
        max_line_bytes: 2_000_000,
        ..once(&[&path])
    };
    let (batch, _) = drain(&mut open(&settings, 1, &Arc::default())[0]);
    let lengths: Vec<usize> = batch.iter().map(|record| record.body.len()).collect();
    assert_eq!(lengths, [3, 1024 * 1024, 3, 1024 * 1024]);
    assert_eq!(places(&batch), ["0 1", "4 2", "3000005 3", "3000009 4"]);
}

#[test]
fn a_followed_folder_gives_new_lines_and_new_files() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    append(&a, "one\ntw");
    let settings = LogSettings {
        follow: true,
        ..once(&[folder.path()])
    };
    let source = &mut open(&settings, 1, &Arc::default())[0];
    assert_eq!(bodies(&follow(source, 1)), ["one"]);
    append(&a, "o\nthree\n");
    append(&b, "four\n");
    let mut batch = follow(source, 3);
    batch.sort_by_key(|record| record.place.clone());
    assert_eq!(bodies(&batch), ["two", "three", "four"]);
    assert_eq!(places(&batch), ["4 2", "8 3", "0 1"]);
    // A member is appended to a compressed file.
    let c = folder.path().join("c");
    fs::write(&c, gzip("five\n")).unwrap();
    assert_eq!(bodies(&follow(source, 1)), ["five"]);
    File::options()
        .append(true)
        .open(&c)
        .unwrap()
        .write_all(&gzip("six\n"))
        .unwrap();
    assert_eq!(bodies(&follow(source, 1)), ["six"]);
}

#[test]
fn a_replaced_or_shortened_file_is_read_as_a_new_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (log, old) = (folder.path().join("log"), tempfile::tempdir().unwrap());
    append(&log, "one\ntwo\n");
    let settings = LogSettings {
        follow: true,
        ..once(&[folder.path()])
    };
    let store = Arc::<Memory>::default();
    let source = &mut open(&settings, 1, &store)[0];
    assert_eq!(bodies(&follow(source, 2)), ["one", "two"]);
    let moved: PathBuf = old.path().join("log.1");
    fs::rename(&log, &moved).unwrap();
    append(&log, "three\n");
    // Its writer does not know yet.
    append(&moved, "late\n");
    let mut batch = follow(source, 2);
    batch.sort_by_key(|record| record.body.clone());
    assert_eq!(bodies(&batch), ["late", "three"]);
    assert_eq!(*batch[1].place.stream, *format!("{}#2", log.display()));
    File::create(&log).unwrap();
    append(&log, "4\n");
    let batch = follow(source, 1);
    assert_eq!(bodies(&batch), ["4"]);
    assert_eq!(*batch[0].place.stream, *format!("{}#3", log.display()));
    // A restart goes on with the newest.
    let mut offsets = handled(&log, 8);
    offsets.extend(handled(Path::new(&format!("{}#3", log.display())), 2));
    source.ack(&offsets).unwrap();
    append(&log, "5\n");
    let batch = follow(&mut open(&settings, 1, &store)[0], 1);
    assert_eq!(bodies(&batch), ["5"]);
}

#[test]
fn read_from_the_beginning_a_file_says_how_much_of_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let store = Arc::new(Memory::default());
    let partition = Partition {
        stream: path.display().to_string().into(),
        partition: 0,
    };
    store.store(&Offsets::from([(partition.clone(), 8)])).unwrap();
    let extent = Extent {
        once: true,
        begin: Begin::Oldest,
    };
    let mut settings = once(&[&path]);
    settings.follow = true;
    let mut sources = log::open(&settings, 0..1, 1, store, extent).unwrap();
    assert!(!sources[0].caught_up());
    let (records, errors) = drain(&mut sources[0]);
    assert_eq!((records.len(), errors.len()), (3, 0));
    assert_eq!(sources[0].known_to(&partition), 8);
    assert!(sources[0].caught_up());
}

/// A followed source that begins where a checkpoint says, after `stored` was handled: its streams with their offsets.
fn resume(folder: &Path, stored: &[(&Path, u64)], named: &[(&Path, u64)]) -> Box<dyn Source> {
    let offsets = |of: &[(&Path, u64)]| -> Offsets {
        let streams = of
            .iter()
            .map(|(path, offset)| (path.display().to_string(), *offset));
        streams
            .map(|(stream, offset)| (stream_of(&stream), offset))
            .collect()
    };
    let store = Arc::new(Memory::default());
    store.store(&offsets(stored)).unwrap();
    let extent = Extent {
        once: true,
        begin: Begin::At(Arc::new(
            offsets(named)
                .into_iter()
                .map(|(partition, next)| (partition, Position::new(Incarnation::default(), next)))
                .collect(),
        )),
    };
    log::open(&once(&[folder]), 0..1, 1, store, extent)
        .unwrap()
        .remove(0)
}

fn stream_of(stream: &str) -> Partition {
    Partition {
        stream: stream.into(),
        partition: 0,
    }
}

#[test]
fn a_checkpoint_says_with_which_line_of_a_file_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    let (log, new) = (folder.path().join("a.ndjson"), folder.path().join("b.ndjson"));
    fs::write(&log, "one\ntwo\nthree\nfour\n").unwrap();
    fs::write(&new, "five\n").unwrap();
    let mut source = resume(folder.path(), &[(&log, 9)], &[(&log, 5)]);
    let partition = stream_of(&log.display().to_string());
    assert_eq!(
        source.begins(),
        Offsets::from([(partition.clone(), 5), (stream_of(&new.display().to_string()), 0)])
    );
    assert_eq!(bodies(&drain(&mut source).0), ["three", "four", "five"]);
    assert_eq!((source.known_to(&partition), source.take_gaps()), (9, Vec::new()));
    // Outcomes are durable before a checkpoint is.
    let mut source = resume(folder.path(), &[(&log, 1)], &[(&log, 9)]);
    assert_eq!(bodies(&drain(&mut source).0), ["four", "five"]);
    assert_eq!(source.known_to(&partition), 9);
}

#[test]
fn a_file_that_has_gone_or_was_cut_short_after_the_checkpoint_leaves_a_gap_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (short, gone) = (folder.path().join("a.ndjson"), folder.path().join("b.ndjson"));
    fs::write(&short, "anew\n").unwrap();
    let mut source = resume(
        folder.path(),
        &[(&short, 9), (&gone, 100)],
        &[(&short, 9), (&gone, 70)],
    );
    let gap = |path: &Path, from, to| Gap {
        partition: stream_of(&path.display().to_string()),
        from,
        to,
        records: None,
    };
    assert_eq!(source.take_gaps(), [gap(&short, 9, 9), gap(&gone, 70, 100)]);
    let (records, _) = drain(&mut source);
    assert_eq!(bodies(&records), ["anew"]);
    assert_eq!(*records[0].place.stream, *format!("{}#2", short.display()));
    // What had been read to its end is no gap when it is gone.
    let mut source = resume(folder.path(), &[(&gone, 70)], &[(&gone, 70)]);
    assert_eq!(source.take_gaps(), []);
}

/// A file of rows as a recording has them: topics, some of which are not known, and bodies.
fn rows(bodies: &[(Option<&str>, &str)]) -> Vec<u8> {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    let topics: ArrayRef = Arc::new(bodies.iter().map(|(topic, _)| *topic).collect::<StringArray>());
    let values: ArrayRef = Arc::new(
        bodies
            .iter()
            .map(|(_, body)| Some(*body))
            .collect::<StringArray>(),
    );
    let batch = RecordBatch::try_from_iter_with_nullable([("topic", topics, true), ("value", values, false)])
        .unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn rows_are_read_as_lines_are_with_their_topics_and_from_where_a_run_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let bodies_of: Vec<String> = (0..3000).map(|n| format!("{{\"n\": {n},\n\"m\": 1}}")).collect();
    let all: Vec<_> = bodies_of.iter().map(|body| (Some("T"), &**body)).collect();
    fs::write(&path, rows(&all)).unwrap();
    let store = Arc::<Memory>::default();
    let (first, errors) = drain(&mut open(&once(&[&path]), 1, &store)[0]);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(bodies(&first), bodies_of);
    assert!(first.iter().all(|record| record.topic.as_deref() == Some("T")));
    assert_eq!(places(&first[1233..1235]), ["1233 1234", "1234 1235"]);
    let mut source = open(&once(&[&path]), 1, &store);
    source[0].ack(&handled(&path, 1234)).unwrap();
    let (rest, _) = drain(&mut open(&once(&[&path]), 1, &store)[0]);
    assert_eq!(rest, first[1234..]);
    // Fewer rows than were read: another file of that name.
    fs::write(&path, rows(&[(None, "one"), (None, ""), (Some("T"), "two")])).unwrap();
    let (other, _) = drain(&mut open(&once(&[&path]), 1, &store)[0]);
    assert_eq!(
        (bodies(&other), places(&other)),
        (vec!["one", "two"], vec!["0 1".into(), "2 3".into()])
    );
    assert_eq!(*other[0].place.stream, *format!("{}#2", path.display()));
}

#[test]
fn a_file_of_rows_that_grows_is_read_once_it_is_whole_and_then_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let whole = rows(&[(None, "one"), (None, "two")]);
    fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let settings = LogSettings {
        follow: true,
        ..once(&[folder.path()])
    };
    let source = &mut open(&settings, 1, &Arc::default())[0];
    assert!(follow(source, 0).is_empty());
    append(&path, ""); // As it is: nothing new.
    File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(&whole[whole.len() - 9..])
        .unwrap();
    assert_eq!(bodies(&follow(source, 2)), ["one", "two"]);
    let more = rows(&[(None, "one"), (None, "two"), (None, "three, which is longer")]);
    assert!(more.len() > whole.len());
    fs::write(&path, more).unwrap();
    assert_eq!(bodies(&follow(source, 1)), ["three, which is longer"]);
}

#[test]
fn a_followed_file_is_what_it_turns_out_to_be_when_it_has_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let packed = gzip("one\ntwo\n");
    fs::write(&path, &packed[..1]).unwrap();
    let settings = LogSettings {
        follow: true,
        ..once(&[folder.path()])
    };
    let source = &mut open(&settings, 1, &Arc::default())[0];
    assert!(follow(source, 0).is_empty());
    File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(&packed[1..])
        .unwrap();
    assert_eq!(bodies(&follow(source, 2)), ["one", "two"]);
}

#[test]
fn marks_are_no_part_of_a_body_and_other_encodings_and_links_are_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), "\u{feff}{\"n\":1}\n{\"n\":2}\n").unwrap();
    fs::write(at("b"), "\u{feff}\n\u{feff}{\"topic\":\"T\",\"value\":\"{}\"}\n").unwrap();
    fs::write(
        at("c"),
        "{}\n"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<u8>>(),
    )
    .unwrap();
    fs::write(at("d"), b"BZh91AY&SY").unwrap();
    std::os::unix::fs::symlink(folder.path(), at("e")).unwrap();
    let (batch, errors) = drain(&mut open(&once(&[folder.path()]), 1, &Arc::default())[0]);
    assert_eq!(bodies(&batch), ["{\"n\":1}", "{\"n\":2}", "{}"]);
    assert_eq!(batch[2].topic.as_deref(), Some("T"));
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (name, what) in [("c", "UTF-16BE"), ("d", "bzip2"), ("e", "leads to")] {
        let start = format!("`{}` ", at(name).display());
        assert!(
            told.iter()
                .any(|told| told.starts_with(&start) && told.contains(what)),
            "{told:?}"
        );
    }
    assert_eq!(told.len(), 3);
}

#[test]
fn a_pipe_is_refused_where_records_may_have_to_be_read_again_and_read_where_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let error = log::open(
        &once(&[&path]),
        0..1,
        1,
        Arc::<Memory>::default(),
        Extent::default(),
    )
    .err()
    .unwrap();
    assert!(error.to_string().contains("only once"), "{error}");
    let writing = path.clone();
    let writer = std::thread::spawn(move || fs::write(writing, gzip("one\ntwo\n")).unwrap());
    let (batch, errors) = drain(&mut log::read_once([path]).unwrap());
    writer.join().unwrap();
    assert_eq!(bodies(&batch), ["one", "two"]);
    assert!(errors.is_empty());
}
