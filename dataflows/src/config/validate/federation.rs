//! What hubs and sites say to each other.

use super::{Check, MOST_DATASETS};
use crate::config::{Config, federation::RSE};
use dbb_operators::hub::topics::is_name;
use dbb_sinks::lookup::LookUpError;

impl Check<'_> {
    pub(super) fn gaps(&mut self, config: &Config) {
        let Some(gaps) = &config.gaps else { return };
        if config.source.kafka.is_none() {
            self.error(
                "gaps",
                "numbers are in the headers of Kafka records, and `source.kafka` is not given",
            );
        }
        if config.followed().is_empty() {
            self.error("gaps.rses", "there is no RSE whose topics could be followed")
                .hint = Some("name them here, or under `rses`".into());
        }
        for (key, template) in [("heartbeats", &gaps.heartbeats), ("requests", &gaps.requests)] {
            self.template(&format!("gaps.{key}"), template);
        }
        if !(1..=86_400).contains(&gaps.patience_seconds) {
            let message = format!("must be 1 to 86400, not {}", gaps.patience_seconds);
            self.error("gaps.patience_seconds", message);
        }
        if !(1..=21_600).contains(&gaps.again_seconds) {
            let message = format!("must be 1 to 21600, not {}", gaps.again_seconds);
            self.error("gaps.again_seconds", message);
        }
    }

    pub(super) fn outcomes(&mut self, config: &Config) {
        let Some(outcomes) = &config.outcomes else { return };
        self.template("outcomes.topic", &outcomes.topic);
        if config.publishes(outcomes.kafka.as_ref()).is_none() {
            let hint = "write `outcomes: {kafka: {brokers: [...]}}`";
            self.error("outcomes", "there are no brokers to publish them on")
                .hint = Some(hint.into());
        }
    }

    /// A topic for each RSE: hubs mirror and read them by it.
    fn template(&mut self, path: &str, template: &str) {
        let of_an_rse = template.replace(RSE, "R");
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !template.contains(RSE) {
            self.error(path, "does not contain `{rse}`: topics of two RSEs would be one");
        } else if !of_an_rse.chars().all(is_name) {
            self.error(path, format!("`{template}` cannot be the name of a topic"));
        }
    }

    pub(super) fn hub(&mut self, config: &Config) {
        let Some(hub) = &config.hub else { return };
        for (key, is_given) in [
            ("routes", !config.routes.is_empty()),
            ("repositories", !config.repositories.is_empty()),
        ] {
            if is_given {
                self.error(key, "has no place beside `hub`").hint =
                    Some("a hub publishes, a site registers files: run one process for each".into());
            }
        }
        let topics = &hub.topics;
        for (key, suffix) in [("deletions", &topics.deletions), ("files", &topics.files)] {
            if suffix.is_empty() {
                let message = "is empty: sites would read what they must not register";
                self.error(&format!("hub.topics.{key}"), message);
            }
        }
        if topics.deletions == topics.files {
            self.error("hub.topics.files", "is the same as `deletions`");
        }
        for part in ["{rse}", "{scope}"] {
            if !topics.landed.contains(part) {
                let message = format!("has no `{part}`: several of them would share a topic");
                self.warning("hub.topics.landed", message);
            }
        }
        if !is_name(&topics.dead_letters) {
            let message = format!("`{}` is no name of a topic", topics.dead_letters);
            self.error("hub.topics.dead_letters", message);
        }
        if let Err(error) = hub.publish.validate() {
            self.error("hub.publish", error.to_string());
        }
        if let Some(lookup) = &hub.lookup {
            match lookup.validate() {
                Err(LookUpError::Settings { field, problem }) => {
                    self.error(&format!("hub.lookup.{field}"), problem);
                }
                Err(error) => drop(self.error("hub.lookup", error.to_string())),
                Ok(()) if lookup.threads < config.workers => {
                    let message = format!("must be at least `workers`, {}", config.workers);
                    self.error("hub.lookup.threads", message);
                }
                Ok(()) => {}
            }
        }
        if !(1..=MOST_DATASETS).contains(&hub.asking.max_files) {
            let message = format!("must be 1 to {MOST_DATASETS}, not {}", hub.asking.max_files);
            self.error("hub.asking.max_files", message);
        }
        if config.limits.max_in_flight_events < hub.asking.max_files {
            let message = format!(
                "must be at least `hub.asking.max_files`, {}",
                hub.asking.max_files
            );
            self.error("limits.max_in_flight_events", message).hint = Some("no look-up could fill".into());
        }
        for (i, embargo) in hub.embargoes.iter().enumerate() {
            if embargo.partners.is_empty() {
                let message = "is empty: the embargo would hold nothing";
                self.error(&format!("hub.embargoes[{i}].partners"), message);
            }
        }
    }
}
