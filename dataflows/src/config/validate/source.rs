//! What is read, and where it is recorded.

use super::Check;
use crate::config::settings::{Record, SourceSettings};

impl Check<'_> {
    pub(super) fn source(&mut self, source: &SourceSettings) {
        let given = source.of_events();
        match given[..] {
            [] => {
                let hint = "write `source: {kafka: {brokers: [...], group_id: ..., topics: [...]}}` or `source: {log: {paths: [...]}}`";
                self.error("source", "no source is configured").hint = Some(hint.into());
            }
            [_] => {}
            [first, second, ..] => {
                let message =
                    format!("both `{first}` and `{second}` are given; one dataflow reads one of them");
                self.error("source", message);
            }
        }
        if let Some(kafka) = &source.kafka {
            if kafka.brokers.is_empty() {
                self.error("source.kafka.brokers", "must name at least one broker");
            }
            if kafka.group_id.is_empty() {
                self.error("source.kafka.group_id", "is missing or empty");
            }
            if kafka.topics.is_empty() {
                self.error(
                    "source.kafka.topics",
                    "must name at least one topic or `/pattern/`",
                );
            }
            for (i, topic) in kafka.topics.iter().enumerate() {
                let pattern = topic.strip_prefix('/').and_then(|t| t.strip_suffix('/'));
                if let Some(Err(error)) = pattern.map(regex::Regex::new) {
                    let error = error.to_string();
                    let last = error
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim_start_matches("error: ");
                    self.error(
                        &format!("source.kafka.topics[{i}]"),
                        format!("not a pattern: {last}"),
                    );
                }
            }
        }
        if source.log.as_ref().is_some_and(|log| log.paths.is_empty()) {
            self.error("source.log.paths", "must name at least one file or folder");
        }
        if let Some(stomp) = &source.stomp {
            for (key, problem) in stomp.problems() {
                self.error(&format!("source.stomp.{key}"), problem);
            }
        }
        if let Some(outbox) = &source.outbox {
            for (key, problem) in outbox.problems() {
                self.error(&format!("source.outbox.{key}"), problem);
            }
        }
    }

    pub(super) fn record(&mut self, record: &Record) {
        match (&record.topic, &record.kafka) {
            (Some(topic), Some(kafka)) => {
                if topic.is_empty() {
                    self.error("record.topic", "is empty");
                }
                if kafka.brokers.is_empty() {
                    self.error("record.kafka.brokers", "must name at least one broker");
                }
            }
            (None, None) => {}
            (Some(_), None) => {
                self.error("record", "has a `topic` and no `kafka`").hint =
                    Some("write `kafka: {brokers: [...]}` beside it".into());
            }
            (None, Some(_)) => {
                self.error("record", "has `kafka` and no `topic`").hint =
                    Some("write `topic: rucio.events` beside it".into());
            }
        }
    }
}
