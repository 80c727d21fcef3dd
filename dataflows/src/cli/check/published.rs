//! The brokers that are published to, and whether their topics are as the configuration says.

use super::Ticks;
use crate::config::{Config, federation::topic_of};
use dbb_operators::hub::TopicSettings;
use dbb_sinks::topics::{self, ProducerSettings};
use regex::Regex;

/// The brokers, each once, with the topics whose names are known beforehand, and those of a hub that are there.
pub(super) fn published(config: &Config, ticks: &mut Ticks) {
    if let Some(hub) = &config.hub {
        let dead_letters = hub.topics.dead_letters.clone();
        let heartbeats = &hub.publish.heartbeats.topic;
        let own = names(&hub.topics, heartbeats);
        let is_own = |name: &str| own.as_ref().is_some_and(|own| own.is_match(name));
        brokers(
            "the hub's topics",
            &hub.publish.kafka,
            &[dead_letters],
            &is_own,
            ticks,
        );
    }
    let topics_of = |template: &str| -> Vec<String> {
        let rses = config.followed().into_iter();
        rses.map(|rse| topic_of(template, rse).to_string()).collect()
    };
    if let Some(gaps) = &config.gaps
        && let Some(kafka) = config.publishes(gaps.kafka.as_ref())
    {
        let names = topics_of(&gaps.requests);
        brokers("requests for missing records", &kafka, &names, &|_| false, ticks);
    }
    if let Some(outcomes) = &config.outcomes
        && let Some(kafka) = config.publishes(outcomes.kafka.as_ref())
    {
        brokers("outcomes", &kafka, &topics_of(&outcomes.topic), &|_| false, ticks);
    }
}

fn brokers(
    what: &str,
    settings: &ProducerSettings,
    names: &[String],
    is_own: &dyn Fn(&str) -> bool,
    ticks: &mut Ticks,
) {
    let report = match topics::check(settings, names, is_own) {
        Ok(report) => report,
        Err(error) => return ticks.error(what, error.into()),
    };
    ticks.good(format!(
        "{what}: Kafka answers, brokers {}",
        report.brokers.join(", ")
    ));
    for (broker, version) in report.versions {
        ticks.note(format!("broker {broker} is Kafka {version}"));
    }
    for name in report.missing {
        if settings.new_topics.create {
            ticks.note(format!(
                "topic {name} is not there yet; it is made with its first record"
            ));
        } else {
            ticks.bad(format!(
                "topic {name} is not there, and new_topics.create is off: make it"
            ));
        }
    }
    if report.differing.is_empty() && report.alike > 0 {
        ticks.good(format!("{what}: {} topics are as new_topics says", report.alike));
    }
    for (name, difference) in report.differing {
        match difference.is_harmful {
            true => ticks.bad(format!("topic {name}: {}", difference.what)),
            false => ticks.doubt(format!("topic {name}: {}", difference.what)),
        }
    }
}

/// What the names of a hub's topics look like, those of heartbeats too; `None` where a template is no name.
fn names(settings: &TopicSettings, heartbeats: &str) -> Option<Regex> {
    let pattern = |template: &str| {
        regex::escape(template)
            .replace(r"\{rse\}", ".+")
            .replace(r"\{scope\}", ".+")
    };
    let templates = settings.exceptions.iter().map(|exception| {
        let topic = exception.topic.replace("{rse}", &exception.rse);
        match &exception.scope {
            Some(scope) => pattern(&topic.replace("{scope}", scope)),
            None => pattern(&topic),
        }
    });
    let landed: Vec<String> = std::iter::once(pattern(&settings.landed))
        .chain(templates)
        .collect();
    Regex::new(&format!(
        "^(?:(?:{})(?:{}|{})?|{})$",
        landed.join("|"),
        regex::escape(&settings.deletions),
        regex::escape(&settings.files),
        pattern(heartbeats)
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hubs_topics_are_told_from_others() {
        let names = names(&TopicSettings::default(), "{rse}-heartbeats").unwrap();
        for own in ["A_DISK-raw", "A_DISK-raw-deletions", "A_DISK-heartbeats"] {
            assert!(names.is_match(own), "{own}");
        }
        let settings = TopicSettings {
            landed: "usdf.{rse}-{scope}".into(),
            ..TopicSettings::default()
        };
        let names = super::names(&settings, "usdf.{rse}-beats").unwrap();
        assert!(
            names.is_match("usdf.A-raw-files") && !names.is_match("A-raw") && !names.is_match("usdf.events")
        );
    }
}
