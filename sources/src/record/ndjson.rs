//! NDJSON: one record a line, zstd.

use dbb_events::Received;
use serde::Serialize;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    appended_at: Option<String>,
    value: &'a str,
}

pub(super) struct Ndjson {
    encoder: zstd::stream::write::Encoder<'static, Counted>,
    line: Vec<u8>,
}

struct Counted {
    file: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Ndjson {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = Counted {
            file: BufWriter::with_capacity(256 * 1024, File::create(path)?),
            bytes: 0,
        };
        let mut encoder = zstd::stream::write::Encoder::new(file, 3)?;
        encoder.include_checksum(true)?;
        let line = Vec::new();
        Ok(Self { encoder, line })
    }

    pub(super) fn write(&mut self, record: &Received, text: &str) -> io::Result<()> {
        self.line.clear();
        match &record.topic {
            Some(topic) => serde_json::to_writer(
                &mut self.line,
                &Line {
                    topic,
                    partition: record.place.partition,
                    offset: record.place.offset,
                    appended_at: record.appended_at.map(|at| at.to_string()),
                    value: text,
                },
            )?,
            // From a file of bare bodies: a topic made up here would be checked like a true one.
            None => self.line.extend_from_slice(text.replace('\n', " ").as_bytes()),
        }
        self.line.push(b'\n');
        self.encoder.write_all(&self.line)
    }

    /// Bytes written so far, but for what is still to be compressed.
    pub(super) fn bytes(&self) -> u64 {
        self.encoder.get_ref().bytes
    }

    pub(super) fn finish(self) -> io::Result<File> {
        let counted = self.encoder.finish()?;
        counted.file.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl std::fmt::Debug for Ndjson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ndjson").finish_non_exhaustive()
    }
}
