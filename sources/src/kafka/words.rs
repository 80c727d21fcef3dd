//! Words beside a committed offset: of which incarnation of the partition it is, and in which ledger its outcomes are.
//!
//! ```text
//!   dbb1 of=LnuQ9rPkQ0m2Vv0dNrm3hA.1 ledger=53f2c0de11aa9e42 mark=4711
//! ```
//!
//! Other programs leave them alone, and write none like them: an offset without them was stored by another program.

use dbb_events::{Incarnation, Mark};
use std::fmt;

/// With which they begin.
const FIRST: &str = "dbb1";

/// What this program has written beside an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words {
    /// In which incarnation the offset means something.
    pub(super) incarnation: Incarnation,
    /// The state of the ledger by which all outcomes below were durable; `None` where there is no ledger.
    pub(super) mark: Option<Mark>,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FIRST} of={}", self.incarnation)?;
        match self.mark {
            Some(Mark { ledger, at }) => write!(f, " ledger={ledger:016x} mark={at}"),
            None => Ok(()),
        }
    }
}

impl Words {
    /// `None` if another program wrote it. What a later version may add is passed over.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        if words.next() != Some(FIRST) {
            return None;
        }
        let (mut incarnation, mut ledger, mut at) = (None, None, None);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "of" => incarnation = Some(value.parse().ok()?),
                "ledger" => ledger = Some(u64::from_str_radix(value, 16).ok()?),
                "mark" => at = Some(value.parse().ok()?),
                _ => {}
            }
        }
        Some(Self {
            incarnation: incarnation?,
            mark: ledger.zip(at).map(|(ledger, at)| Mark { ledger, at }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written_and_those_of_others_are_none() {
        let incarnation = Incarnation { topic: 7, cuts: 2 };
        for mark in [
            None,
            Some(Mark {
                ledger: u64::MAX,
                at: 3,
            }),
        ] {
            let words = Words { incarnation, mark };
            assert_eq!(Words::parse(words.to_string().as_bytes()), Some(words));
        }
        let later = "dbb1 of=- later=1 ledger=0f mark=2 more";
        let mark = Some(Mark { ledger: 15, at: 2 });
        let incarnation = Incarnation::default();
        assert_eq!(Words::parse(later.as_bytes()), Some(Words { incarnation, mark }));
        for others in [
            "",
            "ctrl_ingestd",
            "dbb1",
            "dbb1 of=nonsense",
            "dbb10 of=-",
            "{\"a\":1}",
        ] {
            assert_eq!(Words::parse(others.as_bytes()), None, "{others}");
        }
        assert_eq!(Words::parse(b"dbb1 of=- \xff"), None);
    }
}
