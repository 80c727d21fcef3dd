//! The byte order mark that some editors and exports put before UTF-8: it means nothing, and JSON has no place for it.

/// What Unicode's byte order mark is in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A line or a body without the byte order marks it begins with, and without white space at either end.
///
/// There may be several: files that begin with one were joined, or a body with one was put into a file.
pub fn unmarked(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    while let Some(rest) = text.strip_prefix(MARK) {
        text = rest.trim_ascii_start();
    }
    text
}

/// The same of a text that is text already, and only the marks.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_white_space_before_a_text_are_no_part_of_it() {
        for (text, wanted) in [
            ("\u{feff}{}", "{}"),
            (
                " \u{feff} \u{feff}{\"a\": \"\u{feff}\"} \r\n",
                "{\"a\": \"\u{feff}\"}",
            ),
            ("\u{feff}", ""),
            ("{}\u{feff}", "{}\u{feff}"),
        ] {
            assert_eq!(unmarked(text.as_bytes()), wanted.as_bytes());
        }
        assert_eq!(unmarked(b"\xef\xbb{}"), b"\xef\xbb{}");
        assert_eq!(without_mark("\u{feff}a: 1\n"), "a: 1\n");
    }
}
