//! Rows as bytes: JSON, NDJSON, or an Arrow stream.

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::writer::StreamWriter,
    json::writer::{LineDelimited, WriterBuilder},
};

/// How a client wants its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// The stream format of Arrow's IPC.
    Arrow,
}

impl Format {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "ndjson" => Some(Self::Ndjson),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// What `accept` names first, of what there is; JSON for the rest.
    pub(super) fn of_accept(accept: &str) -> Self {
        let known = |range: &str| match range.split(';').next().map(str::trim) {
            Some("application/json") => Some(Self::Json),
            Some("application/x-ndjson" | "application/jsonl") => Some(Self::Ndjson),
            Some("application/vnd.apache.arrow.stream") => Some(Self::Arrow),
            _ => None,
        };
        accept.split(',').find_map(known).unwrap_or(Self::Json)
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes batch after batch.
pub(super) enum Writer {
    Json { is_first: bool },
    Ndjson,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Writer {
    pub(super) fn new(format: Format, schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(match format {
            Format::Json => Self::Json { is_first: true },
            Format::Ndjson => Self::Ndjson,
            Format::Arrow => Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
        })
    }

    /// These rows.
    pub(super) fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        match self {
            Self::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Ndjson => lines(batch),
            Self::Json { is_first } => {
                let lines = lines(batch)?;
                let mut array = Vec::with_capacity(lines.len() + batch.num_rows());
                // A line holds one object: what breaks lines inside of text is written otherwise.
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    array.extend_from_slice(if std::mem::take(is_first) { b"[" } else { b",\n" });
                    array.extend_from_slice(line);
                }
                Ok(array)
            }
        }
    }

    /// What comes after the last row.
    pub(super) fn end(self) -> Result<Vec<u8>, ArrowError> {
        match self {
            Self::Arrow(writer) => (*writer).into_inner(),
            Self::Ndjson => Ok(Vec::new()),
            Self::Json { is_first: true } => Ok(b"[]\n".to_vec()),
            Self::Json { is_first: false } => Ok(b"]\n".to_vec()),
        }
    }
}

fn lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}
