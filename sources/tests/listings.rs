//! A folder of listings: what is read, when, and how often.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_sources::{
    ListingsSettings,
    listings::{self, Listings},
    replay::End,
};
use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Lines with their file, and for each file how it ended, until `ends` files have ended.
fn told(listings: &mut Listings, ends: usize) -> Vec<String> {
    let (mut told, mut ended, started) = (Vec::new(), 0, Instant::now());
    while ended < ends {
        assert!(started.elapsed() < Duration::from_secs(30), "only {told:?}");
        let Some((block, text)) = listings.poll() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let file = Path::new(&*block.file)
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let lines = block.lines(&text);
        told.extend(lines.map(|line| format!("{file}: {}", String::from_utf8_lossy(line.bytes))));
        if let Some(end) = block.end {
            ended += 1;
            told.push(format!(
                "{file} {}",
                if end == End::Whole { "whole" } else { "cut" }
            ));
        }
    }
    told
}

fn settings(folder: &Path) -> ListingsSettings {
    ListingsSettings {
        look_every_seconds: 1,
        ..ListingsSettings::of(folder)
    }
}

#[test]
fn what_is_there_is_read_once_and_what_comes_later_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.ndjson"), "one\ntwo\n").unwrap();
    fs::write(at(".b.ndjson"), "half").unwrap();
    let mut listings = listings::open(&settings(folder.path()), false).unwrap();
    assert_eq!(
        told(&mut listings, 1),
        ["a.ndjson: one", "a.ndjson: two", "a.ndjson whole"]
    );
    fs::write(at(".b.ndjson"), "three\n").unwrap();
    fs::rename(at(".b.ndjson"), at("b.ndjson")).unwrap();
    // Only what is new: the first one is not read again.
    assert_eq!(told(&mut listings, 1), ["b.ndjson: three", "b.ndjson whole"]);
    fs::write(at("a.ndjson"), "four is longer\n").unwrap();
    assert_eq!(
        told(&mut listings, 1),
        ["a.ndjson: four is longer", "a.ndjson whole"]
    );
    assert!(listings.caught_up());
}

#[test]
fn a_damaged_file_says_that_it_is_cut_and_the_next_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all("one\ntwo\n".repeat(100_000).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    fs::write(folder.path().join("a.gz"), &packed[..packed.len() / 2]).unwrap();
    fs::write(folder.path().join("b.ndjson"), "three\n").unwrap();
    let mut listings = listings::open(&settings(folder.path()), true).unwrap();
    let told = told(&mut listings, 2);
    assert!(told.contains(&"a.gz cut".to_owned()), "{told:?}");
    assert!(told.ends_with(&["b.ndjson: three".to_owned(), "b.ndjson whole".to_owned()]));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = listings::open(&ListingsSettings::of("/no/such/folder"), true)
        .err()
        .unwrap();
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}
