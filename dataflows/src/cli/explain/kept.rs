//! What a ledger keeps of what was read, and what it does not: said wherever it does not know a file.

use crate::config::Config;
use std::collections::BTreeMap;

/// Words under which records are counted that have, or had, an outcome of their own.
const WITH_OUTCOME: [&str; 6] = [
    "arrival",
    "removal",
    "landing",
    "deletion",
    "unroutable",
    "dead_letter",
];

/// How long outcomes are kept, and what is only counted.
pub(super) fn kept(config: &Config, counts: &BTreeMap<String, u64>) -> String {
    let outcomes = match (&config.hub, config.ledger.retention_days) {
        (Some(_), 0) => "what waits, waited or was refused is kept for ever".to_owned(),
        (Some(_), days) => format!("what waited is kept for {days} days, what waits or was refused for ever"),
        (None, 0) => "outcomes are kept for ever".into(),
        (None, days) => format!("outcomes are kept for {days} days (ledger.retention_days)"),
    };
    let mut others: Vec<(&u64, &str)> = counts
        .iter()
        .filter(|(word, n)| **n > 0 && !WITH_OUTCOME.contains(&word.as_str()))
        .map(|(word, n)| (n, word.as_str()))
        .collect();
    others.sort_unstable_by(|a, b| b.cmp(a));
    let others: Vec<String> = others.iter().map(|(n, word)| format!("{n} {word}")).collect();
    let counted = match others.is_empty() {
        true => "no record that is nobody's here was read".into(),
        false => format!(
            "of records that are nobody's here only their number is kept ({}), the records themselves as long as their \
             topics keep them",
            others.join(", ")
        ),
    };
    format!("{outcomes}; {counted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_counted_is_told_by_reason_and_what_had_outcomes_is_not() {
        let mut config = Config::default();
        let counts = [
            ("arrival", 9),
            ("no_rubin_butler", 12),
            ("other_event_type", 40),
            ("heartbeat", 0),
        ];
        let counts = counts.map(|(word, n)| (word.to_owned(), n)).into();
        assert_eq!(
            kept(&config, &counts),
            "outcomes are kept for ever; of records that are nobody's here only their number is kept (40 other_event_type, \
             12 no_rubin_butler), the records themselves as long as their topics keep them"
        );
        config.ledger.retention_days = 30;
        assert_eq!(
            kept(&config, &BTreeMap::new()),
            "outcomes are kept for 30 days (ledger.retention_days); no record that is nobody's here was read"
        );
    }
}
