//! What several measurements need: recorded events.

pub mod synthetic;

use anyhow::Context;
use dbb_events::{Micros, Place, Received, decode_record};
use std::{fs::File, io::Read, path::PathBuf, sync::Arc};

/// The lines of a capture in `tests/data/rucio-events`, as one text.
///
/// # Errors
/// There is no such capture, or it is damaged.
pub fn capture(name: &str) -> anyhow::Result<String> {
    let path = format!(
        "{}/../tests/data/rucio-events/{name}.ndjson.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let file = File::open(&path).with_context(|| format!("could not open {path}"))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .with_context(|| format!("could not read {path}"))?;
    Ok(text)
}

/// The records of a capture, as a source hands them on.
///
/// # Errors
/// As [`capture`].
pub fn records(name: &str) -> anyhow::Result<Vec<Received>> {
    let stream: Arc<str> = name.into();
    let place = |offset| Place {
        stream: Arc::clone(&stream),
        partition: 0,
        offset,
        line: None,
    };
    Ok(capture(name)?
        .lines()
        .zip(0..)
        .map(|(line, offset)| {
            let record = decode_record(line.as_bytes());
            Received {
                place: place(offset),
                topic: record.topic.as_deref().map(Arc::from),
                appended_at: Some(Micros(1_790_000_000_000_000)),
                marks: None,
                body: record.body.into_owned().into(),
            }
        })
        .collect())
}

/// The optimised `dbb` beside the running bench.
///
/// # Errors
/// It is not built.
pub fn program() -> anyhow::Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let program = bench.with_file_name("../dbb");
    program
        .canonicalize()
        .context("there is no optimised dbb: run `make release`")
}
