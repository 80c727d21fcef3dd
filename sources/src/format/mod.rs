//! Format: how a file is stored, told by what it begins with; its name says nothing. For all who read files.
//!
//! ```text
//!   first bytes --> plain, gzip, zstd --> text, from which lines are cut
//!              \--> Parquet -----------> rows
//!               \-> anything else that is known: refused, with what to do
//! ```

mod gzip;
mod headed;
mod rows;
mod unpacked;

pub(crate) use headed::Headed;
pub(crate) use rows::{Row, Rows, count_rows};
pub(crate) use unpacked::Unpacked;

/// Bytes at the beginning of a file, or of a text, that tell what it is.
pub(crate) const HEAD: usize = 512;

/// How a file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Zstd,
    Parquet,
}

impl Format {
    /// The format of a file that begins with `head`.
    ///
    /// # Errors
    ///
    /// It is one that is not read: which, and what to do.
    pub(crate) fn of(head: &[u8]) -> Result<Self, String> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or one to be skipped, as parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'P', b'A', b'R', b'1', ..] => Ok(Self::Parquet),
            _ => match refused(head) {
                Some(why) => Err(why),
                None => Ok(Self::Plain),
            },
        }
    }
}

/// Why a text that begins with `head` cannot be read; `None` if it may be lines.
pub(crate) fn not_lines(head: &[u8]) -> Option<String> {
    match Format::of(head) {
        Ok(Format::Plain) => None,
        Ok(_) => Some("it is packed twice: unpack it once".into()),
        Err(why) => Some(why),
    }
}

/// What files of other kinds begin with, what they are called, and how lines are made of them.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (
        b"\xfd7zXZ\0",
        "xz",
        "unpack it (`xz -d`), or pack it with gzip or zstd",
    ),
    (
        b"BZh",
        "bzip2",
        "unpack it (`bzip2 -d`), or pack it with gzip or zstd",
    ),
    (
        b"\x04\x22\x4d\x18",
        "lz4",
        "unpack it (`lz4 -d`), or pack it with gzip or zstd",
    ),
    (
        b"\x02\x21\x4c\x18",
        "lz4",
        "unpack it (`lz4 -d`), or pack it with gzip or zstd",
    ),
    (
        b"LZIP",
        "lzip",
        "unpack it (`lzip -d`), or pack it with gzip or zstd",
    ),
    (
        b"\x89LZO\0\r\n\x1a\n",
        "lzop",
        "unpack it (`lzop -d`), or pack it with gzip or zstd",
    ),
    (
        b"\x1f\x9d",
        "compress",
        "unpack it (`gzip -d`), or pack it with gzip or zstd",
    ),
    (
        b"\xff\x06\0\0sNaPpY",
        "framed Snappy",
        "unpack it, or pack it with gzip or zstd",
    ),
    (
        b"PK\x03\x04",
        "a zip archive",
        "unpack it (`unzip`), and give the files",
    ),
    (b"PK\x05\x06", "an empty zip archive", "give the files themselves"),
    (
        b"PK\x07\x08",
        "a zip archive",
        "unpack it (`unzip`), and give the files",
    ),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "unpack it, and give the files",
    ),
    (
        b"PARE",
        "encrypted Parquet",
        "decrypt it, or write it as lines of JSON",
    ),
    (
        b"ARROW1\0\0",
        "an Arrow file",
        "write it as Parquet, or as lines of JSON",
    ),
    (
        b"Obj\x01",
        "an Avro file",
        "write it as Parquet, or as lines of JSON",
    ),
    (b"ORC", "an ORC file", "write it as Parquet, or as lines of JSON"),
    (
        b"SQLite format 3\0",
        "an SQLite database",
        "export its rows as lines of JSON",
    ),
];

/// Which known kind of file that is not read begins with `head`, and what to do.
fn refused(head: &[u8]) -> Option<String> {
    if let Some(encoding) = wide(head) {
        return Some(format!(
            "it is {encoding}, and events are UTF-8: convert it (`iconv -f {encoding} -t UTF-8`)"
        ));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("it is a tar archive: unpack it (`tar -x`), and give the files".into());
    }
    let (_, name, hint) = OTHERS.iter().find(|(magic, name, _)| {
        head.starts_with(magic) && (*name != "bzip2" || matches!(head.get(3), Some(b'1'..=b'9')))
    })?;
    Some(format!("it is {name}: {hint}"))
}

/// The encoding of a text in units of 16 or 32 bits: by its byte order mark, or by where a first character of ASCII
/// leaves zeros.
fn wide(head: &[u8]) -> Option<&'static str> {
    let zeros = head
        .get(..4)
        .map(|first| [first[0] == 0, first[1] == 0, first[2] == 0, first[3] == 0]);
    Some(match (head, zeros) {
        ([0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..], _) => "UTF-32",
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => "UTF-16",
        (_, Some([false, true, true, true])) => "UTF-32LE",
        (_, Some([true, true, true, false])) => "UTF-32BE",
        (_, Some([false, true, false, true])) => "UTF-16LE",
        (_, Some([true, false, true, false])) => "UTF-16BE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_first_bytes() {
        for (head, format) in [
            (&b""[..], Format::Plain),
            (b"{", Format::Plain),
            (b"{\"event_type\"", Format::Plain),
            (b"\xef\xbb\xbf{}", Format::Plain),
            (b"BZhang wrote this", Format::Plain),
            (b"\x1f\x8b", Format::Gzip),
            (b"\x28\xb5\x2f\xfd\x04", Format::Zstd),
            (b"\x5e\x2a\x4d\x18", Format::Zstd),
            (b"PAR1\x15", Format::Parquet),
        ] {
            assert_eq!(Format::of(head), Ok(format), "{head:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_told_by_name_and_with_what_to_do() {
        for (head, name) in [
            (&b"\xff\xfe{\0"[..], "UTF-16"),
            (b"\xfe\xff\0{", "UTF-16"),
            (b"{\0\"\0", "UTF-16LE"),
            (b"\0{\0\"", "UTF-16BE"),
            (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff", "UTF-32"),
            (b"{\0\0\0", "UTF-32LE"),
            (b"\0\0\0{", "UTF-32BE"),
            (b"\xfd7zXZ\0\0\x04", "xz"),
            (b"BZh91AY&SY", "bzip2"),
            (b"\x04\x22\x4d\x18d", "lz4"),
            (b"PK\x03\x04\x14\0\0\0", "zip"),
            (b"Obj\x01\x04", "Avro"),
        ] {
            let why = Format::of(head).err().unwrap_or_default();
            assert!(why.contains(name) && why.contains(": "), "{head:?}: {why}");
        }
        assert!(not_lines(b"\x1f\x8b\x08").is_some_and(|why| why.contains("twice")));
        assert_eq!(not_lines(b"{}"), None);
    }
}
