//! How deeply JSON is nested, known before it is parsed: the parser skips by recursion, and a stack has an end.

/// The deepest nesting that is parsed. Events have 2 levels, 8 where the sidecar is an object with records.
///
/// Without optimisation the parser takes some 40 kB of stack a level, and a thread has 2 MiB.
pub(crate) const MAX_DEPTH: usize = 32;

/// The place of the bracket that is more than [`MAX_DEPTH`] deep, if there is one.
///
/// Sound JSON is measured exactly. In text that is not JSON, a bracket may be taken for one that counts;
/// it is refused either way.
pub(crate) fn too_deep(text: &str) -> Option<usize> {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    // Nearly all text has fewer brackets than that in all, in strings or not: one pass of vector code.
    if text.bytes().filter(|byte| opens(byte)).count() <= MAX_DEPTH {
        return None;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_strings_count() {
        let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(too_deep(&nest(MAX_DEPTH)), None);
        assert_eq!(too_deep(&nest(MAX_DEPTH + 1)), Some(MAX_DEPTH));
        assert_eq!(too_deep(&format!("{:?}", nest(MAX_DEPTH + 1))), None);
        assert_eq!(
            too_deep(&format!(r#"["\"",{}]"#, nest(MAX_DEPTH))),
            Some(MAX_DEPTH + 5)
        );
        assert_eq!(too_deep(&"[]".repeat(1000)), None);
    }
}
