//! The statements of `statements.sql`, written out. Included by whoever asks them.

/// Each, as it stands in the file, and written out.
pub fn statements() -> Vec<(&'static str, String)> {
    let lines = include_str!("statements.sql").lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .map(|line| (line, written_out(line)))
        .collect()
}

/// `{3*1+}1` is `1+1+1+1`.
fn written_out(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, braced)) = rest.split_once('{') {
        out += before;
        let repeated = braced.split_once('}').and_then(|(inside, after)| {
            let (times, text) = inside.split_once('*')?;
            Some((times.parse::<usize>().ok()?, text, after))
        });
        match repeated {
            Some((times, text, after)) => {
                out += &text.repeat(times);
                rest = after;
            }
            None => {
                out.push('{');
                rest = braced;
            }
        }
    }
    out + rest
}
