//! Inputs that once had a wrong answer: each with the right one. The files are in `../../data/cases/`.
#![allow(clippy::unwrap_used)]

use crate::replay::Replay;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/cases")
        .join(name)
}

/// Runs `dbb replay` in `folder` with `input` on its standard input, which is a pipe.
fn fed(folder: &Path, input: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dbb_under_test"))
        .arg("replay")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropped when it is written: that is its end.
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Name and state of each replica that a replay with these arguments leaves.
fn states(arguments: &str) -> BTreeMap<String, String> {
    let replay = Replay::new().unwrap();
    replay
        .run_well(&format!("{arguments} --view replicas --out out"))
        .unwrap();
    let rows = replay.rows("out/replicas.ndjson").unwrap();
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| (text(row, "name"), text(row, "state")))
        .collect()
}

fn available(names: &[&str]) -> BTreeMap<String, String> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), "AVAILABLE".to_owned()))
        .collect()
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    let bom = case("bom");
    assert_eq!(
        states(&bom.display().to_string()),
        available(&["f1.fits", "f2.fits"])
    );
    let listing = case("listing-bom");
    let (events, listing) = (listing.join("a.ndjson"), listing.join("l.ndjson"));
    let found = states(&format!("{} --listing {}", events.display(), listing.display()));
    assert_eq!(found, available(&["f1.fits", "f9.fits"]));
}

#[test]
fn a_long_window_is_read() {
    assert_eq!(states(&case("zstd-long28").display().to_string()).len(), 3);
}

#[test]
fn every_event_is_archived_whatever_its_rse_is_called() {
    let replay = Replay::new().unwrap();
    let ended = replay
        .run_well(&format!(
            "{} --archive out --archive-format ndjson",
            case("archive-empty-rse").display()
        ))
        .unwrap();
    assert!(
        ended.told.contains("4 distinct events archived"),
        "{}",
        ended.told
    );
    let mut lines = 0;
    for folder in fs::read_dir(replay.path().join("out")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            lines += fs::read_to_string(file.unwrap().path()).unwrap().lines().count();
        }
    }
    assert_eq!(lines, 4);
}

#[test]
fn times_are_read_as_they_are_meant_or_refused() {
    let replay = Replay::new().unwrap();
    let ended = replay
        .run(&format!("{} --view replicas --out out", case("times").display()))
        .unwrap();
    let rows = replay.rows("out/replicas.ndjson").unwrap();
    let times: BTreeMap<&str, &str> = rows
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["updated_at"].as_str().unwrap()))
        .collect();
    let wanted = BTreeMap::from([
        ("f2.fits", "2016-12-31T23:59:59.000000Z"),
        ("f3.fits", "0001-01-01T00:00:00.000000Z"),
        ("f4.fits", "9999-12-31T23:59:59.999999Z"),
        ("f5.fits", "2026-11-21T19:14:49.000000Z"),
        ("f6.fits", "2026-11-21T18:14:49.000000Z"),
        ("f7.fits", "2026-11-21T19:14:49.938629Z"),
        ("f10.fits", "2026-11-21T19:14:49.000000Z"),
    ]);
    assert_eq!(times, wanted);
    assert!(ended.told.contains("6 unreadable lines"), "{}", ended.told);
}

#[test]
fn what_is_piped_in_is_read_as_events_journal_or_listing() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read(case("bom").join("a.ndjson")).unwrap();
    for path in ["-", "/dev/stdin"] {
        let sql = "select name from replicas order by name";
        let ended = fed(folder.path(), &text, &[path, "--strict", "--sql", sql]);
        let (out, told) = (
            String::from_utf8_lossy(&ended.stdout),
            String::from_utf8_lossy(&ended.stderr),
        );
        assert!(
            ended.status.success() && told.contains("2 events read"),
            "{path}: {told}"
        );
        assert!(out.contains("f1.fits") && out.contains("f2.fits"), "{out}");
    }
    let events = case("listing-bom").join("a.ndjson");
    let listing = fs::read(case("listing-bom").join("l.ndjson")).unwrap();
    let ended = fed(
        folder.path(),
        &listing,
        &[events.to_str().unwrap(), "--listing", "-", "--strict"],
    );
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success() && told.contains("2 rows of listings"),
        "{told}"
    );
    let ended = fed(folder.path(), b"no journal\n", &["--journal", "-", "--strict"]);
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(1) && told.contains("/dev/stdin:1"),
        "{told}"
    );
}

#[test]
fn what_is_not_read_is_named_and_counts_as_wrong() {
    let replay = Replay::new().unwrap();
    let text = fs::read_to_string(case("bom").join("a.ndjson")).unwrap();
    replay.file("in/good", text.lines()).unwrap();
    std::os::unix::fs::symlink(".", replay.path().join("in/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", replay.path().join("in/dangling")).unwrap();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(replay.path().join("in/wide"), wide).unwrap();
    let ended = replay.run("in --strict").unwrap();
    assert!(
        ended.status == 1
            && ended.told.contains("2 events read")
            && ended.told.contains("3 paths that are not read"),
        "{}",
        ended.told
    );
    for name in ["in/loop", "in/dangling", "in/wide"] {
        assert!(ended.told.contains(name), "{name}: {}", ended.told);
    }
}
