//! After a failure: what was appended is found out, and the rest goes on with another producer.

use super::{End, Going, Publisher};
use crate::topics::{TopicsError, backoff::Backoff, own::Tail, wire::Wire};
use dbb_events::Lane;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::collections::{BTreeSet, HashMap};
use tracing::warn;

impl Publisher {
    /// After a failure: what was appended is found out, and what will never be.
    pub(super) fn settle(
        &mut self,
        going: &mut [Going],
        failed: &[(usize, Code)],
        alone: bool,
        backoff: &mut Backoff,
    ) -> Result<(), TopicsError> {
        let open: BTreeSet<usize> = going
            .iter()
            .filter(|one| one.end == End::Open)
            .map(|one| one.lane)
            .collect();
        let names: Vec<Lane> = open.iter().map(|index| self.lanes[*index].lane.clone()).collect();
        let first = failed.first().map(|(_, code)| *code);
        let why = self.wire.fatal().or_else(|| first.map(|code| code.to_string()));
        warn!(
            why = why.as_deref(),
            lanes = names.len(),
            "records were not taken: looking which of them were appended"
        );
        self.figures.trouble().set(why.unwrap_or_default());
        let tails = loop {
            match self.own.tails(&names) {
                Ok(tails) => break tails,
                // Of a topic that is gone nothing can be read.
                Err(error) if is_gone(error.rdkafka_error_code()) => break HashMap::new(),
                Err(error) => {
                    self.figures.trouble().set(error.to_string());
                    backoff.wait()?;
                }
            }
        };
        // Refused in so many words, whatever came after it.
        let never: BTreeSet<usize> = failed
            .iter()
            .filter(|(_, code)| is_of_the_record(*code) || is_of_the_topic(*code))
            .map(|(index, _)| *index)
            .collect();
        self.count_appended(going, &open, &tails, &never);
        for (index, code) in failed {
            let topic = self.lanes[going[*index].lane].lane.topic.clone();
            let detail = || format!("topic `{topic}` does not take it: {code}");
            if is_of_the_topic(*code) {
                let of_the_topic =
                    |one: &&mut Going| one.is_open() && self.lanes[one.lane].lane.topic == topic;
                for one in going.iter_mut().filter(of_the_topic) {
                    one.end = End::Refused(*code, detail());
                }
            } else if alone && is_of_the_record(*code) && going[*index].is_open() {
                going[*index].end = End::Refused(*code, detail());
            }
        }
        Ok(())
    }

    /// Marks what is in the topics, and sets each lane to go on behind it.
    pub(super) fn count_appended(
        &mut self,
        going: &mut [Going],
        lanes: &BTreeSet<usize>,
        tails: &HashMap<Lane, Tail>,
        never: &BTreeSet<usize>,
    ) {
        for index in lanes {
            let lane = &mut self.lanes[*index];
            let mine = |one: &&Going| one.lane == *index && one.sequence > lane.confirmed;
            let published = going.iter().filter(mine).filter(|one| one.end == End::Published);
            let mut ours = published.map(|one| one.sequence).max().unwrap_or(lane.confirmed);
            let mut last = ours;
            if let Some((number, id)) = tails.get(&lane.lane).and_then(|tail| tail.last)
                && number > last
            {
                last = number;
                if going
                    .iter()
                    .filter(mine)
                    .any(|one| one.sequence == number && one.kept.id == id)
                {
                    ours = number;
                } else {
                    warn!(lane = %lane.lane, number, %id, "somebody else has published under our number: is another dbb running?");
                }
            }
            for (number, one) in going.iter_mut().enumerate() {
                if mine(&&*one) && one.is_open() && one.sequence <= ours && !never.contains(&number) {
                    one.end = End::Published;
                }
            }
            lane.next = last + 1;
        }
    }

    /// Another producer, which knows nothing of what the last one had under way.
    pub(super) fn renew(&mut self, alone: bool) -> Result<(), TopicsError> {
        let mut config = self.settings.producer(self.batch_bytes, true)?;
        if alone {
            // So that it is known which record is not taken.
            config.set("batch.num.messages", "1");
        }
        self.wire = Wire::open(&config, self.figures.trouble())?;
        self.lanes.iter_mut().for_each(|open| open.warm = None);
        self.figures.add_producer();
        Ok(())
    }
}

/// Errors that are one record's fault: in a batch, of one that is not told.
pub(super) fn is_of_the_record(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
            | Code::UnsupportedForMessageFormat
            | Code::InvalidArgument
    )
}

/// Errors that hold for all records of a topic.
pub(super) fn is_of_the_topic(code: Code) -> bool {
    code == Code::TopicAuthorizationFailed || is_gone(Some(code))
}

pub(in crate::topics) fn is_gone(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
    )
}
