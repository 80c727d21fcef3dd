//! The name of the folder of one RSE: `rse=NAME`, as readers of partitioned files take it apart.
//!
//! ```text
//!   none                          rse=__HIVE_DEFAULT_PARTITION__
//!   ""                            rse=
//!   SLAC_RAW.DISK-1               rse=SLAC_RAW.DISK-1
//!   a/b                           rse=%61%2F%62
//!   longer than a name may be     rse=FIRST_PART~DIGEST
//! ```
//!
//! Two RSEs never share a folder, also where a file system does not tell capital letters from small ones: RSEs are
//! written in capital letters, so small ones are escaped. What is escaped comes back when `%XX` is decoded; the name
//! of a long one is in its rows.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What Hive calls the folder of rows without a value.
const NO_RSE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The longest name of a folder, in bytes, that every file system takes.
const LONGEST: usize = 255;

/// Bytes of the digest of a name that is too long: enough that nobody finds two names with the same.
const DIGEST: usize = 16;

/// What stands in a name as it is: capital letters, digits and these.
const PLAIN: &AsciiSet = &{
    let mut escaped = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    let mut small = b'a';
    while small <= b'z' {
        escaped = escaped.add(small);
        small += 1;
    }
    escaped
};

/// The folder of an RSE: at most 255 bytes, no other RSE's.
pub(crate) fn folder_name(rse: Option<&str>) -> String {
    let Some(rse) = rse else {
        return format!("rse={NO_RSE}");
    };
    let mut name = format!("rse={}", utf8_percent_encode(rse, PLAIN));
    if rse == NO_RSE {
        name.replace_range(4..5, "%5F");
    } else if name.ends_with('.') {
        // A dot at the end is lost on some file systems.
        name.replace_range(name.len() - 1.., "%2E");
    }
    if name.len() > LONGEST {
        name = shortened(&name, rse);
    }
    name
}

/// As much of `name` as there is room for, and a digest of the RSE; no other name has a `~`.
fn shortened(name: &str, rse: &str) -> String {
    let mut end = LONGEST - 1 - 2 * DIGEST;
    // Not through the middle of an escape.
    if let Some(escape) = name[..end].rfind('%').filter(|escape| escape + 3 > end) {
        end = escape;
    }
    let mut short = format!("{}~", &name[..end]);
    for byte in &Sha256::digest(rse)[..DIGEST] {
        // A string cannot fail to take more.
        let _ = write!(short, "{byte:02X}");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode_str;
    use std::collections::HashMap;

    #[test]
    fn an_rse_is_one_folder_whatever_its_name() {
        for (rse, folder) in [
            (Some("SLAC_RAW.DISK-1"), "rse=SLAC_RAW.DISK-1"),
            (Some("A/../B=C \u{c9}"), "rse=A%2F..%2FB%3DC%20%C3%89"),
            (Some("Abc"), "rse=A%62%63"),
            (Some("A."), "rse=A%2E"),
            (Some(""), "rse="),
            (Some(NO_RSE), "rse=%5F_HIVE_DEFAULT_PARTITION__"),
            (None, "rse=__HIVE_DEFAULT_PARTITION__"),
        ] {
            assert_eq!(folder_name(rse), folder);
        }
    }

    #[test]
    fn no_two_rses_share_a_folder_on_any_file_system() {
        let long = "X".repeat(300);
        let names = [
            "",
            ".",
            "..",
            "a",
            "A",
            "%61",
            "%",
            "~",
            "NUL",
            NO_RSE,
            "__hive_default_partition__",
            "%5F_HIVE_DEFAULT_PARTITION__",
            "\0",
            "a_disk",
            "A_Disk",
            "A_DISK",
            "A_DISK.",
            "A_DISK~",
            "\u{c9}",
            "e\u{301}",
            "E\u{301}",
            "\u{e9}",
            "rse=A",
            &*long,
            &long[1..],
            &long[..251],
            &long[..252],
        ];
        let lower_case = "z".repeat(255);
        let mut folders: HashMap<String, Option<&str>> = HashMap::new();
        for rse in names
            .into_iter()
            .chain([&*lower_case, &lower_case[1..]])
            .map(Some)
            .chain([None])
        {
            let folder = folder_name(rse);
            assert!(folder.len() <= 255 && !folder.contains(['/', '\0']), "{folder}");
            if let Some(other) = folders.insert(folder.to_lowercase(), rse) {
                panic!("{rse:?} and {other:?} share {folder}");
            }
            if let Some(rse) = rse.filter(|_| !folder.contains('~')) {
                assert_eq!(percent_decode_str(&folder[4..]).decode_utf8_lossy(), rse);
            }
        }
    }

    #[test]
    fn a_long_name_is_cut_between_escapes() {
        for shift in 0..3 {
            let rse = format!("{}{}", "X".repeat(shift), "\u{e9}".repeat(200));
            let folder = folder_name(Some(&rse));
            let (before, digest) = folder.split_once('~').unwrap_or_default();
            assert!(
                (252..=255).contains(&folder.len()) && digest.len() == 32,
                "{folder}"
            );
            let whole = before.as_bytes().rsplit(|byte| *byte == b'%').next();
            assert_eq!(whole.map(<[u8]>::len), Some(2), "{folder}");
        }
    }
}
