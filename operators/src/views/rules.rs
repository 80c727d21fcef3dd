//! Rules: what events said of each replication rule. What Rucio's own table says may be more.
//!
//! ```text
//!   said of rules ----\
//!   queued transfers --by rule--> newest word, RSEs with OK locks, transfers queued --> rule rows
//! ```
//!
//! In:    what was said of rules, in any order, repeats too; attempts, each once.
//! Out:   `(Rule, epoch, +1 or -1)`, one live row for each rule that any event named.
//! State: some 200 bytes for each such rule, 300 where locks are OK; rules are never forgotten, because no
//!        event says that one ended.
//!
//! A rule whose owner is notified of nothing is known by its queued transfers alone: its DID and word are unknown.

use super::{View, ViewRow, columns, newest::Newest};
use crate::{
    Epoch,
    checkpoint::{Keep, Kind, Merge, kept, sum},
    facts::{Attempt, DatasetName, RseName, RuleSaid, RuleWord, Step},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::{EventId, Micros};
use differential_dataflow::{
    VecCollection,
    difference::{IsZero, Multiply, Semigroup},
    operators::CountTotal,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// The rule's id.
    pub rule: u128,
    /// The DID it is for; `None` where no event about the whole rule came.
    pub did: Option<DatasetName>,
    /// What was last said of the whole rule: never [`RuleWord::DatasetLockOk`].
    pub word: Option<RuleWord>,
    /// Where all locks on a dataset of it were once OK, in order.
    pub ok_rses: BTreeSet<RseName>,
    /// Transfers that were queued for it, retries too.
    pub queued: i64,
    /// When an event last named it.
    pub seen_at: Micros,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("rule_id", DataType::Utf8, false),
        Field::new("scope", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("last_word", DataType::Utf8, true),
        Field::new("progress", DataType::Int64, true),
        Field::new("ok_rses", DataType::Int64, false),
        Field::new("ok_rse_names", DataType::Utf8, false),
        Field::new("queued", DataType::Int64, false),
        Field::new("last_seen_at", columns::time_type(), false),
    ]))
});

impl ViewRow for Rule {
    const VIEW: View = View {
        name: "rules",
        meaning: "What events, and events alone, said of a replication rule: the newest word and its percentage, RSEs \
                  where locks of a dataset were once OK, and transfers queued for it; null is unknown.",
        cost: "Some 200 bytes for each rule ever named, 300 where locks are OK; rules are never forgotten.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let rows = || rows.iter();
        super::batch_of(
            Self::schema(),
            vec![
                columns::texts(rows().map(|row| format!("{:032x}", row.rule))),
                columns::told_texts(rows().map(|row| row.did.map(|did| did.scope.as_str()))),
                columns::told_texts(rows().map(|row| row.did.map(|did| did.name.as_str()))),
                columns::told_texts(rows().map(|row| row.last_word())),
                columns::told_numbers(rows().map(|row| row.progress())),
                columns::numbers(rows().map(|row| row.ok_rses.len() as i64)),
                columns::texts(rows().map(|row| columns::joined(&row.ok_rses))),
                columns::numbers(rows().map(|row| row.queued)),
                columns::times(rows().map(|row| row.seen_at)),
            ],
        )
    }
}

impl Rule {
    /// `ok` or `progress`, as last said of the whole rule.
    fn last_word(&self) -> Option<&'static str> {
        match self.word? {
            RuleWord::Ok => Some("ok"),
            RuleWord::Progress(_) => Some("progress"),
            RuleWord::DatasetLockOk(_) => None,
        }
    }

    /// The percentage last said; 100 of a rule that is OK.
    fn progress(&self) -> Option<i64> {
        match self.word? {
            RuleWord::Ok => Some(100),
            RuleWord::Progress(percent) => Some(i64::from(percent)),
            RuleWord::DatasetLockOk(_) => None,
        }
    }
}

/// What is known of one rule, as a difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Known {
    queued: isize,
    seen_at: Newest<Micros>,
    said: Option<Newest<(Micros, EventId, RuleWord, DatasetName)>>,
    ok_rses: BTreeSet<RseName>,
}

impl Known {
    fn seen_at(at: Micros) -> Self {
        Self {
            queued: 0,
            seen_at: Newest(at),
            said: None,
            ok_rses: BTreeSet::new(),
        }
    }
}

impl IsZero for Known {
    fn is_zero(&self) -> bool {
        false
    }
}

impl Semigroup for Known {
    fn plus_equals(&mut self, other: &Self) {
        self.queued += other.queued;
        self.seen_at.plus_equals(&other.seen_at);
        // Nothing said is less than anything said.
        self.said = self.said.max(other.said);
        self.ok_rses.extend(&other.ok_rses);
    }
}

impl Multiply<isize> for Known {
    type Output = Self;

    fn multiply(mut self, times: &isize) -> Self {
        self.queued *= times;
        self
    }
}

/// What is known of each rule, in a checkpoint.
pub(crate) static KIND: Kind = Kind {
    name: "rules",
    version: 1,
    merge: Merge::Sum(sum::<Known>),
};

/// What events said of each rule.
pub fn rules<'s>(
    said: VecCollection<'s, Epoch, RuleSaid, isize>,
    attempts: VecCollection<'s, Epoch, Attempt, isize>,
    keep: Option<&Keep>,
) -> VecCollection<'s, Epoch, Rule, isize> {
    let said = said.explode(|said| {
        let mut known = Known::seen_at(said.at);
        match said.word {
            RuleWord::DatasetLockOk(rse) => drop(known.ok_rses.insert(rse)),
            // A lock's DID is a dataset, perhaps one of many of the rule's; here it is the rule's own.
            word => known.said = Some(Newest((said.at, said.event, word, said.did))),
        }
        [(said.rule, known)]
    });
    let queued = attempts.explode(|attempt| {
        let rule = attempt.rule.filter(|_| attempt.step == Step::Queued)?;
        let mut known = Known::seen_at(attempt.at);
        known.queued = 1;
        Some((rule, known))
    });
    kept(said.concat(queued.consolidate_stream()), &KIND, keep)
        .count_total()
        .map(|(rule, known)| Rule {
            rule,
            did: known.said.map(|Newest((.., did))| did),
            word: known.said.map(|Newest((_, _, word, _))| word),
            ok_rses: known.ok_rses,
            queued: known.queued as i64,
            seen_at: known.seen_at.0,
        })
}
