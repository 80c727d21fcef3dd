//! An incarnation of a partition: which of the topics, and of the logs, that bore its name.
//!
//! ```text
//!   events[0] of topic id A --deleted, made again--> events[0] of topic id B --log cut back--> the same, cut once
//! ```
//!
//! Offsets rise, and mean the same record, only within one incarnation. So whatever counts offsets remembers of which.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Which of the topics, and of the logs, that bore a partition's name. The default is that of files, and of brokers that
/// know no topic ids: there all are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation {
    /// The id that the brokers gave the topic when it was made; 0 where there is none.
    pub topic: u128,
    /// How often its log was found to have gone back.
    pub cuts: u32,
}

/// A place in an incarnation of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    /// Which.
    pub incarnation: Incarnation,
    /// The offset of the next record: everything below it is meant.
    pub next: u64,
}

impl Incarnation {
    /// The first of the topic with this id.
    pub fn of(topic: u128) -> Self {
        Self { topic, cuts: 0 }
    }

    /// True if the two are of topics that are known to be two.
    pub fn is_of_another_topic(self, other: Self) -> bool {
        self.topic != 0 && other.topic != 0 && self.topic != other.topic
    }

    /// True if offsets of the one mean nothing in the other.
    pub fn is_another(self, other: Self) -> bool {
        self.is_of_another_topic(other) || self.cuts != other.cuts
    }

    /// What the log is after it was found to have gone back.
    pub fn cut(self) -> Self {
        Self {
            cuts: self.cuts.saturating_add(1),
            ..self
        }
    }
}

impl Position {
    /// Of `incarnation`, at `next`.
    pub fn new(incarnation: Incarnation, next: u64) -> Self {
        Self { incarnation, next }
    }

    /// The offset, if it means something in `incarnation`.
    pub fn within(self, incarnation: Incarnation) -> Option<u64> {
        (!self.incarnation.is_another(incarnation)).then_some(self.next)
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// As Kafka's own tools write a topic id, `.3` behind it where the log went back three times; `-` where nothing is known.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("-");
        }
        let digit = |bits: u128| char::from(DIGITS[(bits & 63) as usize]);
        let mut text: String = (0..21).map(|n| digit(self.topic >> (122 - 6 * n))).collect();
        text.push(digit(self.topic << 4 & 0x30));
        f.write_str(&text)?;
        match self.cuts {
            0 => Ok(()),
            cuts => write!(f, ".{cuts}"),
        }
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.to_string()
    }
}

/// The text is no incarnation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no topic id, with or without a number behind a dot")]
pub struct BadIncarnation(String);

impl FromStr for Incarnation {
    type Err = BadIncarnation;

    fn from_str(text: &str) -> Result<Self, BadIncarnation> {
        parse(text).ok_or_else(|| BadIncarnation(text.into()))
    }
}

impl TryFrom<String> for Incarnation {
    type Error = BadIncarnation;

    fn try_from(text: String) -> Result<Self, BadIncarnation> {
        text.parse()
    }
}

fn parse(text: &str) -> Option<Incarnation> {
    if text == "-" {
        return Some(Incarnation::default());
    }
    let (id, cuts) = match text.split_once('.') {
        Some((id, cuts)) => (id, cuts.parse().ok()?),
        None => (text, 0),
    };
    let value = |digit: u8| {
        DIGITS
            .iter()
            .position(|known| *known == digit)
            .map(|at| at as u128)
    };
    let (first, last) = id.as_bytes().split_at_checked(21)?;
    let [last] = last else { return None };
    let mut topic = first
        .iter()
        .try_fold(0u128, |topic, digit| Some(topic << 6 | value(*digit)?))?;
    let last = value(*last)?;
    if last & 0xf != 0 {
        return None;
    }
    topic = topic << 2 | last >> 4;
    Some(Incarnation { topic, cuts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_is_read_as_it_is_written_and_as_kafka_writes_it() {
        for topic in [0, 1, u128::MAX, 0x1234_5678_9abc_def0_0fed_cba9_8765_4321] {
            for cuts in [0, 1, u32::MAX] {
                let one = Incarnation { topic, cuts };
                assert_eq!(one.to_string().parse(), Ok(one), "{one}");
            }
        }
        // The id of the topic of the cluster's own metadata, in Kafka's source: a 1 in 16 bytes.
        assert_eq!(Incarnation::of(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for bad in [
            "",
            "A",
            "AAAAAAAAAAAAAAAAAAAAAR",
            "AAAAAAAAAAAAAAAAAAAAAQ.x",
            "AAAAAAAAAAAAAAAAAAAAé",
        ] {
            assert!(bad.parse::<Incarnation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn another_topic_or_a_log_that_went_back_is_another_and_what_knows_no_ids_is_all_one() {
        let (one, two, none) = (Incarnation::of(1), Incarnation::of(2), Incarnation::default());
        assert!(one.is_another(two) && one.is_another(one.cut()) && none.is_another(none.cut()));
        assert!(!one.is_another(one) && !one.is_another(none) && !none.is_another(two));
        assert_eq!(Position::new(one, 7).within(one), Some(7));
        assert_eq!(Position::new(one, 7).within(two), None);
    }
}
