//! The files of the archive: at most so many events each, as Parquet or as lines of JSON.

use super::packed::Packed;
use crate::replay::Format;
use arrow::{
    array::{Array, ArrayRef, Int64Array, RecordBatch, StringBuilder, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use dbb_events::Micros;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::Arc,
};

/// Makes the bytes of files, one after the other.
pub(crate) struct Encoder {
    format: Format,
    schema: SchemaRef,
    options: ArrowWriterOptions,
    /// The bytes of a file, whose memory is used again.
    buffer: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(format: Format) -> Self {
        let text = |name| Field::new(name, DataType::Utf8, true);
        let schema = Arc::new(Schema::new(vec![
            text("id"),
            text("event_type"),
            text("scope"),
            text("name"),
            text("rse"),
            Field::new("bytes", DataType::Int64, true),
            text("adler32"),
            Field::new(
                "created_at",
                DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
                false,
            ),
        ]));
        Self {
            format,
            schema,
            options: ArrowWriterOptions::new()
                .with_properties(properties())
                .with_skip_arrow_metadata(true),
            buffer: Vec::new(),
        }
    }

    /// The ending of the files' names.
    pub(crate) fn extension(&self) -> &'static str {
        self.format.extension()
    }

    /// The file that holds these events.
    pub(crate) fn encode(&mut self, events: &Packed) -> Result<&[u8], ParquetError> {
        self.buffer.clear();
        match self.format {
            Format::Ndjson => {
                lines(events, &mut self.buffer).map_err(|error| ParquetError::General(error.to_string()))?
            }
            Format::Parquet => {
                let batch = columns(events, &self.schema)?;
                let mut writer = ArrowWriter::try_new_with_options(
                    &mut self.buffer,
                    Arc::clone(&self.schema),
                    self.options.clone(),
                )?;
                writer.write(&batch)?;
                writer.close()?;
            }
        }
        Ok(&self.buffer)
    }
}

/// No compression: it would cost more than reading the event does, and these files are read once more at the most.
fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from("created_at"), EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false);
    for few in ["event_type", "scope", "rse"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(few), true);
    }
    properties.build()
}

fn columns(events: &Packed, schema: &SchemaRef) -> Result<RecordBatch, ParquetError> {
    let count = events.len();
    let builder = |bytes: usize| StringBuilder::with_capacity(count, count * bytes);
    let (mut ids, mut types, mut scopes) = (builder(32), builder(16), builder(8));
    let (mut names, mut rses, mut adlers) = (builder(80), builder(16), builder(8));
    let mut sizes = Vec::with_capacity(count);
    let mut times = Vec::with_capacity(count);
    for event in events.iter() {
        match event.id {
            Some(id) => ids.append_value(id),
            None => {
                // A builder cannot fail to take more.
                let _ = write!(ids, "{}", event.event);
                ids.append_value("");
            }
        }
        types.append_value(event.event_type);
        scopes.append_option(event.scope);
        names.append_option(event.name);
        rses.append_option(event.rse);
        if event.adler32 == 0 {
            adlers.append_null();
        } else {
            let mut hex = [0; 8];
            adlers.append_value(hex_of(event.adler32, &mut hex));
        }
        sizes.push(event.bytes.and_then(|bytes| i64::try_from(bytes).ok()));
        times.push(event.created_at.0);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.finish()),
        Arc::new(types.finish()),
        Arc::new(scopes.finish()),
        Arc::new(names.finish()),
        Arc::new(rses.finish()),
        Arc::new(Int64Array::from(sizes)),
        Arc::new(adlers.finish()),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("+00:00")),
    ];
    debug_assert!(columns.iter().all(|column| column.len() == count));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Eight digits of hexadecimal, as Rucio writes a checksum.
fn hex_of(adler32: u32, into: &mut [u8; 8]) -> &str {
    for (at, digit) in into.iter_mut().enumerate() {
        let nibble = (adler32 >> (28 - 4 * at)) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    std::str::from_utf8(into).unwrap_or_default()
}

fn lines(events: &Packed, out: &mut Vec<u8>) -> io::Result<()> {
    for event in events.iter() {
        out.extend_from_slice(b"{\"id\":");
        match event.id {
            Some(id) => text(Some(id), out),
            None => write!(out, "\"{}\"", event.event)?,
        }
        for (key, field) in [
            (&b",\"event_type\":"[..], Some(event.event_type)),
            (b",\"scope\":", event.scope),
            (b",\"name\":", event.name),
            (b",\"rse\":", event.rse),
        ] {
            out.extend_from_slice(key);
            text(field, out);
        }
        out.extend_from_slice(b",\"bytes\":");
        match event.bytes {
            Some(bytes) => number(bytes, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"adler32\":");
        let mut hex = [0; 8];
        text((event.adler32 != 0).then(|| hex_of(event.adler32, &mut hex)), out);
        out.extend_from_slice(b",\"created_at\":\"");
        time(event.created_at, out)?;
        out.extend_from_slice(b"\"}\n");
    }
    Ok(())
}

fn text(field: Option<&str>, out: &mut Vec<u8>) {
    let Some(field) = field else {
        out.extend_from_slice(b"null");
        return;
    };
    if field
        .bytes()
        .any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        out.extend_from_slice(serde_json::Value::from(field).to_string().as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(field.as_bytes());
    out.push(b'"');
}

fn number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

/// As [`Micros`] is shown, in a tenth of the time: the date by the arithmetic of days since 1 March 0000.
fn time(at: Micros, out: &mut Vec<u8>) -> io::Result<()> {
    const DAY: i64 = 86_400_000_000;
    let (days, micros) = (at.0.div_euclid(DAY), at.0.rem_euclid(DAY));
    // Years of four digits, as far as times are shown elsewhere.
    if !(-719_162..=2_932_894).contains(&days) {
        return write!(out, "{at}");
    }
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let seconds = micros / 1_000_000;
    let mut shown = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |end: usize, digits: usize, mut number: i64| {
        for at in (end - digits..end).rev() {
            shown[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(4, 4, year);
    put(7, 2, month);
    put(10, 2, day);
    put(13, 2, seconds / 3600);
    put(16, 2, seconds / 60 % 60);
    put(19, 2, seconds % 60);
    put(26, 6, micros % 1_000_000);
    out.extend_from_slice(&shown);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::replay::archive::packed::Entry;
    use dbb_events::EventId;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn events() -> Packed {
        let mut events = Packed::default();
        let whole = Entry {
            event: EventId(7),
            id: Some("own\"id"),
            event_type: "transfer-done",
            scope: Some("raw"),
            name: Some("a/é"),
            rse: Some("A_DISK"),
            bytes: Some(12),
            adler32: 0x0a1b_2c3d,
            created_at: Micros(1_793_000_000_000_001),
        };
        events.push(&whole);
        events.push(&Entry {
            id: None,
            scope: None,
            name: None,
            rse: None,
            bytes: None,
            adler32: 0,
            ..whole
        });
        events
    }

    #[test]
    fn a_line_is_json_with_every_column() {
        let mut encoder = Encoder::new(Format::Ndjson);
        let text = String::from_utf8(encoder.encode(&events()).unwrap().to_vec()).unwrap();
        let rows: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            rows,
            [
                serde_json::json!({"id": "own\"id", "event_type": "transfer-done", "scope": "raw", "name": "a/é",
                    "rse": "A_DISK", "bytes": 12, "adler32": "0a1b2c3d", "created_at": "2026-10-26T07:33:20.000001Z"}),
                serde_json::json!({"id": "00000000000000000000000000000007", "event_type": "transfer-done",
                    "scope": null, "name": null, "rse": null, "bytes": null, "adler32": null,
                    "created_at": "2026-10-26T07:33:20.000001Z"}),
            ]
        );
    }

    #[test]
    fn parquet_holds_the_same_rows() {
        let mut encoder = Encoder::new(Format::Parquet);
        let file = bytes::Bytes::copy_from_slice(encoder.encode(&events()).unwrap());
        let batches: Vec<RecordBatch> = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap()
            .map(|batch| batch.unwrap())
            .collect();
        let mut json = arrow::json::LineDelimitedWriter::new(Vec::new());
        json.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
        let read = String::from_utf8(json.into_inner()).unwrap();
        let mut encoder = Encoder::new(Format::Ndjson);
        let lines = String::from_utf8(encoder.encode(&events()).unwrap().to_vec()).unwrap();
        let parse = |text: &str| -> Vec<serde_json::Value> {
            text.lines()
                .map(|line| {
                    let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
                    row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                    row
                })
                .collect()
        };
        assert_eq!(parse(&read), parse(&lines));
    }

    #[test]
    fn times_are_shown_as_everywhere() {
        for at in [
            0,
            -1,
            951_782_399_999_999,
            951_782_400_000_000,
            1_709_164_800_000_000,
            4_107_542_399_123_456,
            -62_135_596_800_000_000,
            253_402_300_799_999_999,
            -2_203_891_200_000_000,
        ] {
            let mut out = Vec::new();
            time(Micros(at), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), Micros(at).to_string());
        }
    }
}
