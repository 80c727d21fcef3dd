//! Pattern: names with `*`, `?` and `{...}`, matched in one pass without going back.

use super::policy::PolicyError;
use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive};

/// A pattern for a whole name. `*` is any text, slashes too; `?` any one character; `{a,b}` one of some words;
/// `{1..5,17}` one in a list or range, where a range takes all digits that are there as one number (`007` is 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
    One,
    Choice(Vec<Choice>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Word(String),
    Number(RangeInclusive<u64>),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let bad = |why: &'static str| PolicyError::Pattern {
            pattern: text.to_owned(),
            why,
        };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['*', '?', '{', '}']) {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].to_owned()));
            }
            let (special, after) = rest[at..].split_at(1);
            rest = after;
            match special {
                // Several stars in a row are one.
                "*" if pieces.last() == Some(&Piece::Any) => {}
                "*" => pieces.push(Piece::Any),
                "?" => pieces.push(Piece::One),
                "{" => {
                    let (inside, after) = rest.split_once('}').ok_or_else(|| bad("a `{` is never closed"))?;
                    rest = after;
                    let choices = inside.split(',').map(choice).collect::<Result<_, _>>();
                    pieces.push(Piece::Choice(choices.map_err(bad)?));
                }
                _ => return Err(bad("a `}` closes nothing")),
            }
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// True when all of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        // Most names fail, or are decided, at the text in front.
        let (mut reached, pieces) = match self.pieces.split_first() {
            None => return text.is_empty(),
            Some((Piece::Text(front), [])) => return text == front,
            Some((Piece::Any, [])) => return true,
            Some((Piece::Text(front), _)) if !text.starts_with(front.as_str()) => return false,
            Some((Piece::Text(front), rest)) => (vec![front.len()], rest),
            Some(_) => (vec![0], self.pieces.as_slice()),
        };
        // The places that the pieces so far can end at, rising.
        for piece in pieces {
            reached = step(piece, text, &reached);
            if reached.is_empty() {
                return false;
            }
        }
        reached.last() == Some(&text.len())
    }
}

/// Where `piece` can end, if it begins at one of `from`.
fn step(piece: &Piece, text: &str, from: &[usize]) -> Vec<usize> {
    let mut ends: Vec<usize> = match piece {
        Piece::Any => {
            let first = from.first().copied().unwrap_or(text.len());
            return (first..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .collect();
        }
        Piece::Text(word) => from.iter().filter_map(|at| end_of(text, *at, word)).collect(),
        Piece::One => from
            .iter()
            .filter_map(|at| Some(at + text.get(*at..)?.chars().next()?.len_utf8()))
            .collect(),
        Piece::Choice(choices) => from
            .iter()
            .flat_map(|at| choices.iter().filter_map(|choice| choice.end(text, *at)))
            .collect(),
    };
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn end_of(text: &str, at: usize, word: &str) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

impl Choice {
    fn end(&self, text: &str, at: usize) -> Option<usize> {
        match self {
            Choice::Word(word) => end_of(text, at, word),
            Choice::Number(range) => {
                // Not from the middle of a number: `*{1..5}` does not find 5 in 15.
                let cut = at > 0 && text.as_bytes()[at - 1].is_ascii_digit();
                let rest = text.get(at..).filter(|_| !cut)?;
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let number: u64 = rest[..digits].parse().ok()?;
                range.contains(&number).then_some(at + digits)
            }
        }
    }
}

fn choice(word: &str) -> Result<Choice, &'static str> {
    let word = word.trim();
    if word.is_empty() {
        return Err("a choice is empty");
    }
    if let Some((first, last)) = word.split_once("..") {
        return match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Choice::Number(first..=last)),
            (Ok(_), Ok(_)) => Err("a range ends before it begins"),
            _ => Err("a range needs two numbers"),
        };
    }
    Ok(Choice::Word(word.to_owned()))
}

impl TryFrom<String> for Pattern {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn tracts_in_a_list_or_range() {
        let pattern = "raw:*/raw/Tract{1..5,17}/*";
        assert!(fits(pattern, "raw:Dataset/LSSTCam/raw/Tract3/20260401"));
        assert!(fits(pattern, "raw:Dataset/LSSTCam/raw/Tract17/20260401"));
        assert!(fits(pattern, "raw:Dataset/LSSTCam/raw/Tract0003/20260401"));
        for other in ["Tract6", "Tract", "Tract31", "Tract1x", "NoTract"] {
            assert!(!fits(
                pattern,
                &format!("raw:Dataset/LSSTCam/raw/{other}/20260401")
            ));
        }
        assert!(!fits("Tract{1..5}*", "Tract12"), "all digits are one number");
        assert!(!fits("*{5..5}", "Tract15"), "all digits are one number");
        assert!(
            !fits("{1..9}", "99999999999999999999999"),
            "a number too large is none of them"
        );
    }

    #[test]
    fn words_and_any_character() {
        assert!(fits("{LATISS,LSSTCam}/?.fits", "LSSTCam/é.fits"));
        assert!(!fits("{LATISS,LSSTCam}/?.fits", "LSSTComCam/a.fits"));
        assert!(fits("*.fits*.fz", "a.fits.fits.fz"));
        assert!(fits("", "") && !fits("", "a") && fits("a", "a") && !fits("a", "ab"));
    }

    #[test]
    fn a_wrong_pattern_says_why() {
        for (pattern, why) in [
            ("a{1..5", "never closed"),
            ("a}", "closes nothing"),
            ("a{5..1}", "ends before"),
            ("a{x..y}", "two numbers"),
            ("a{1,}", "empty"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(pattern), "{error}");
        }
    }

    /// What `*` and `?` mean, by trying everything.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| slowly(rest, &text[n..])),
            Some((b'?', rest)) => !text.is_empty() && slowly(rest, &text[1..]),
            Some((byte, rest)) => text.first() == Some(byte) && slowly(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_trying_everything_finds(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &text), slowly(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
