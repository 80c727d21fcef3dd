//! What types cannot say: whether the parts of a configuration fit each other.
//!
//! Everything is looked at, so that one run reports all there is to mend.

use super::{
    Config,
    federation::RSE,
    problem::{Origin, Problem, nearest},
    settings::{Prefix, Record, Route, SourceSettings},
    views::EPOCH_MS,
};
use crate::{
    checkpoint::{CheckpointError, Store},
    views::Name,
};
use dbb_operators::{
    hub::topics::is_name,
    mapping::{self, MappingError, Selector},
    views::placement,
};
use dbb_sinks::{butler::ButlerError, lookup::LookUpError};
use std::collections::BTreeMap;

/// Most events in flight: a repository remembers what it applied to twice as many files, so that the story of
/// each stays in order before the ledger has it.
const MOST_IN_FLIGHT: usize = 20_000;

/// Most workers; more threads than that only wait for each other.
const MOST_WORKERS: usize = 64;
/// Most datasets in a call; what a larger one saves is lost when it fails.
const MOST_DATASETS: usize = 10_000;

/// What was found: errors stop a run, warnings do not.
#[derive(Debug, Default)]
pub struct Findings {
    /// What cannot work.
    pub errors: Vec<Problem>,
    /// What is probably not meant.
    pub warnings: Vec<Problem>,
}

/// Looks at all of `config`; `origin` tells where the key at a path was written.
pub fn validate(config: &Config, origin: &dyn Fn(&str) -> Origin) -> Findings {
    let mut check = Check {
        found: Findings::default(),
        origin,
    };
    check.source(&config.source);
    check.record(&config.record);
    check.ledger(&config.ledger.url);
    check.rses(config);
    check.routes(config);
    check.topics(config);
    check.repositories(config);
    check.gaps(config);
    check.outcomes(config);
    check.hub(config);
    check.views(config);
    check.checkpoint(config);
    check.numbers(config);
    check.cluster(config);
    check.http(config);
    check.found
}

struct Check<'a> {
    found: Findings,
    origin: &'a dyn Fn(&str) -> Origin,
}

impl Check<'_> {
    fn error(&mut self, path: &str, message: impl Into<String>) -> &mut Problem {
        self.found
            .errors
            .push(Problem::new(path, (self.origin)(path), message));
        // Just pushed.
        let last = self.found.errors.len() - 1;
        &mut self.found.errors[last]
    }

    fn warning(&mut self, path: &str, message: impl Into<String>) {
        self.found
            .warnings
            .push(Problem::new(path, (self.origin)(path), message));
    }

    fn source(&mut self, source: &SourceSettings) {
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

    fn record(&mut self, record: &Record) {
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

    fn ledger(&mut self, url: &str) {
        if !["sqlite:", "postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            let hint = "write `sqlite:/var/lib/dbb/ledger.sqlite` or `postgres://user@host/database`";
            self.error("ledger.url", "starts with neither `sqlite:` nor `postgres://`")
                .hint = Some(hint.into());
        }
    }

    fn rses(&mut self, config: &Config) {
        for (name, rse) in &config.rses {
            let path = format!("rses.{name}");
            if rse.prefixes.is_empty() {
                let hint = "write `prefixes: [{from: \"davs://host:443/path/\", to: \"/local/path/\"}]`";
                self.error(&path, "has no prefixes, so that no URL can be mapped")
                    .hint = Some(hint.into());
            }
            self.prefixes(&path, &rse.prefixes);
            if !config.routes.iter().any(|r| r.rse.as_ref() == Some(name)) {
                self.warning(&path, "no route names it: its files are dead letters");
            }
        }
    }

    fn prefixes(&mut self, path: &str, prefixes: &[Prefix]) {
        for (i, prefix) in prefixes.iter().enumerate() {
            let pair = [(&prefix.from, &prefix.to)];
            match mapping::Route::new(Selector::RseScope("".into()), Vec::new(), Vec::new(), pair) {
                Err(MappingError::BadFrom { fault, .. }) => {
                    self.error(&format!("{path}.prefixes[{i}].from"), fault);
                }
                Err(MappingError::BadTo { to, fault }) => {
                    let hint = (!to.starts_with('/') && !to.contains("://"))
                        .then(|| format!("did you mean `/{to}`?"));
                    self.error(&format!("{path}.prefixes[{i}].to"), fault).hint = hint;
                }
                _ => {}
            }
            if prefixes[..i].iter().any(|p| p.from == prefix.from) {
                self.error(&format!("{path}.prefixes[{i}].from"), "is given twice");
            }
        }
    }

    fn routes(&mut self, config: &Config) {
        // With views, at a hub, or with somebody to tell, there is something to do without them, and what gives each event
        // once may be there to be recorded.
        let other = config.views.are_kept()
            || config.hub.is_some()
            || config.outcomes.is_some()
            || config.source.read_once().is_some();
        if config.routes.is_empty() && !other {
            let hint = "write `routes: [{rse: ..., repositories: [...]}]`";
            self.error("routes", "there is none: every file would be a dead letter")
                .hint = Some(hint.into());
        }
        let mut seen: BTreeMap<_, usize> = BTreeMap::new();
        for (i, route) in config.routes.iter().enumerate() {
            let path = format!("routes[{i}]");
            self.route_key(&path, route, config);
            if let Some(first) = seen.insert((&route.rse, &route.scope, &route.rse_scope), i) {
                let message = format!("is for the same files as `routes[{first}]`");
                self.error(&path, message).hint = Some("name all the repositories in one route".into());
            }
            if route.repositories.is_empty() {
                self.error(
                    &format!("{path}.repositories"),
                    "must name at least one repository",
                );
            }
            for (k, name) in route.repositories.iter().enumerate() {
                let path = format!("{path}.repositories[{k}]");
                if !config.repositories.contains_key(name) {
                    let near = nearest(name, config.repositories.keys().map(String::as_str));
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    self.error(&path, format!("no repository is called `{name}`"))
                        .hint = hint;
                } else if route.repositories[..k].contains(name) {
                    self.error(&path, format!("`{name}` is named twice"));
                }
            }
        }
    }

    /// A topic by name that no route is for would only bring dead letters.
    fn topics(&mut self, config: &Config) {
        let Some(kafka) = &config.source.kafka else { return };
        if config.routes.is_empty() {
            return;
        }
        for (i, topic) in kafka.topics.iter().enumerate() {
            let named = !topic.starts_with('/');
            if named && !config.routes.iter().any(|route| is_for(route, topic)) {
                let path = format!("source.kafka.topics[{i}]");
                self.warning(
                    &path,
                    format!("no route is for files of topic `{topic}`: they are dead letters"),
                );
            }
        }
    }

    /// `rse` and perhaps `scope`, or `rse_scope` and `prefixes`.
    fn route_key(&mut self, path: &str, route: &Route, config: &Config) {
        match (&route.rse, &route.rse_scope) {
            (None, None) => {
                self.error(path, "names neither `rse` nor `rse_scope`");
            }
            (Some(_), Some(_)) => {
                self.error(path, "names both `rse` and `rse_scope`");
            }
            (Some(rse), None) => {
                if !config.rses.contains_key(rse) {
                    let near = nearest(rse, config.rses.keys().map(String::as_str));
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    self.error(&format!("{path}.rse"), format!("no RSE is called `{rse}`"))
                        .hint = hint;
                }
                if !route.prefixes.is_empty() {
                    self.error(&format!("{path}.prefixes"), format!("belong under `rses.{rse}`"));
                }
            }
            (None, Some(_)) => {
                if route.scope.is_some() {
                    self.error(&format!("{path}.scope"), "is already part of `rse_scope`");
                }
                if route.prefixes.is_empty() {
                    self.error(path, "has an `rse_scope` but no `prefixes`");
                }
                self.prefixes(path, &route.prefixes);
            }
        }
        if route.scope.as_deref() == Some("") {
            self.error(&format!("{path}.scope"), "is empty").hint = Some("leave it out for any scope".into());
        }
    }

    fn repositories(&mut self, config: &Config) {
        let recorded = config.source.read_once().is_some() && config.routes.is_empty();
        let other = config.views.are_kept() || config.hub.is_some() || config.outcomes.is_some() || recorded;
        if config.repositories.is_empty() && !other {
            let hint = "write `repositories: {main: {butler: /path/to/repository}}`";
            self.error("repositories", "there is none").hint = Some(hint.into());
        }
        for (name, repository) in &config.repositories {
            let path = format!("repositories.{name}");
            if let Err(ButlerError::Settings { field, problem }) = repository.validate() {
                self.error(&format!("{path}.{field}"), problem);
            }
            if !config.routes.iter().any(|r| r.repositories.contains(name)) {
                self.warning(&path, "no route leads to it");
            }
        }
    }

    fn gaps(&mut self, config: &Config) {
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

    fn outcomes(&mut self, config: &Config) {
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

    fn hub(&mut self, config: &Config) {
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

    fn views(&mut self, config: &Config) {
        let views = &config.views;
        let known = || Name::ALL.into_iter().map(Name::as_str);
        for (i, word) in views.keep.iter().enumerate() {
            let path = format!("views.keep[{i}]");
            if word == "all" && views.keep.len() > 1 {
                self.error(&path, "`all` stands for all the others").hint =
                    Some("write `keep: [all]`".into());
            } else if word != "all" && !known().any(|name| name == word) {
                let near = nearest(word, known().chain(["all"]));
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the views are {}", known().collect::<Vec<_>>().join(", ")),
                };
                self.error(&path, format!("no view is called `{word}`")).hint = Some(hint);
            } else if views.keep[..i].contains(word) {
                self.error(&path, format!("`{word}` is named twice"));
            }
        }
        if views.are_kept()
            && let Some(source) = config.source.read_once()
        {
            let message =
                format!("views need a source that can be read again, and `{source}` gives each event once");
            self.error("views.keep", message).hint =
                Some("put its events into a Kafka topic with `dbb record`, and keep views of that".into());
        }
        if views.publish_ms == 0 || !views.publish_ms.is_multiple_of(EPOCH_MS) {
            let message = format!("must be a multiple of {EPOCH_MS}, not {}", views.publish_ms);
            self.error("views.publish_ms", message);
        }
        if let Err(error) = placement::check(&views.policies) {
            self.error("views.policies", error.to_string());
        }
        let places = views.keep == ["all"] || views.keep.iter().any(|word| word == Name::Placement.as_str());
        if !views.policies.is_empty() && !places && config.hub.is_none() {
            self.warning("views.policies", "nothing looks at them: `placement` is not kept");
        }
    }

    fn checkpoint(&mut self, config: &Config) {
        let checkpoint = &config.checkpoint;
        let Some(url) = &checkpoint.url else { return };
        if let Err(CheckpointError::Url { problem, .. }) = Store::existing(checkpoint) {
            self.error("checkpoint.url", format!("`{url}` {problem}")).hint =
                Some("write `/var/lib/dbb/checkpoints` or `s3://bucket/prefix`".into());
        }
        if !config.views.are_kept() {
            self.error("checkpoint.url", "no views are kept that could be checkpointed")
                .hint = Some("write `views: {keep: [all]}`, or leave `checkpoint` out".into());
        }
        if !(1..=3600).contains(&checkpoint.every_seconds) {
            let message = format!("must be 1 to 3600, not {}", checkpoint.every_seconds);
            self.error("checkpoint.every_seconds", message);
        }
        if !(2..=1000).contains(&checkpoint.keep) {
            let message = format!("must be 2 to 1000, not {}", checkpoint.keep);
            self.error("checkpoint.keep", message).hint =
                Some("with one alone there is none to go back to".into());
        }
        let is_s3 = url.starts_with("s3://");
        for (key, given) in [
            ("endpoint", checkpoint.endpoint.is_some()),
            ("region", checkpoint.region.is_some()),
            ("allow_http", checkpoint.allow_http),
        ] {
            if given && !is_s3 {
                self.warning(&format!("checkpoint.{key}"), "is for `s3://` alone");
            }
        }
        if checkpoint
            .endpoint
            .as_ref()
            .is_some_and(|e| e.starts_with("http://"))
            && !checkpoint.allow_http
        {
            self.error("checkpoint.endpoint", "has no encryption").hint =
                Some("write `https://`, or `allow_http: true` beside it".into());
        }
    }

    fn numbers(&mut self, config: &Config) {
        if !(1..=MOST_WORKERS).contains(&config.workers) {
            self.error(
                "workers",
                format!("must be 1 to {MOST_WORKERS}, not {}", config.workers),
            );
        }
        let batching = &config.batching;
        if !(1..=MOST_DATASETS).contains(&batching.max_datasets) {
            let message = format!("must be 1 to {MOST_DATASETS}, not {}", batching.max_datasets);
            self.error("batching.max_datasets", message);
        }
        if batching.max_bytes == 0 {
            self.error("batching.max_bytes", "must be 1 or more");
        }
        if config.limits.max_in_flight_events < batching.max_datasets {
            let message = format!(
                "must be at least `batching.max_datasets`, {}",
                batching.max_datasets
            );
            self.error("limits.max_in_flight_events", message).hint = Some("no batch could fill".into());
        }
        if config.limits.max_in_flight_events > MOST_IN_FLIGHT {
            self.error(
                "limits.max_in_flight_events",
                format!("must be at most {MOST_IN_FLIGHT}"),
            );
        }
    }

    fn cluster(&mut self, config: &Config) {
        let cluster = &config.cluster;
        self.address("cluster.listen", cluster.listen.as_deref(), "0.0.0.0:2101");
        for (key, value) in [
            ("connect_seconds", cluster.connect_seconds),
            ("patience_seconds", cluster.patience_seconds),
        ] {
            if value == 0 {
                self.error(&format!("cluster.{key}"), "must be 1 or more, not 0");
            }
        }
    }

    fn http(&mut self, config: &Config) {
        self.address("http.listen", config.http.listen.as_deref(), "127.0.0.1:9327");
        let sql = &config.sql;
        self.address("sql.listen", sql.listen.as_deref(), "127.0.0.1:5433");
        if sql.listen.is_none() {
            return;
        }
        if !config.views.are_kept() {
            let hint = "write `views: {keep: [all]}`";
            self.error("sql.listen", "no views are kept that could be asked for")
                .hint = Some(hint.into());
        }
        let ranges = [
            ("max_connections", u64::from(sql.max_connections), 10_000),
            ("statement_timeout_ms", sql.statement_timeout_ms, u64::MAX),
            ("idle_timeout_ms", sql.idle_timeout_ms, u64::MAX),
            ("max_rows", sql.max_rows, u64::MAX),
            (
                "statement_memory_mib",
                u64::from(sql.statement_memory_mib),
                u64::MAX,
            ),
            ("memory_mib", u64::from(sql.memory_mib), u64::MAX),
            ("threads", u64::from(sql.threads), 64),
        ];
        for (key, value, most) in ranges {
            if value == 0 || value > most {
                let most = if most == u64::MAX {
                    "or more".into()
                } else {
                    format!("to {most}")
                };
                self.error(&format!("sql.{key}"), format!("must be 1 {most}, not {value}"));
            }
        }
    }

    fn address(&mut self, path: &str, listen: Option<&str>, example: &str) {
        let Some(listen) = listen else { return };
        let port = listen
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.and_then(|p| p.parse::<u16>().ok()).is_none() {
            let message = format!("`{listen}` is no address and port");
            self.error(path, message).hint = Some(format!("write `{example}`, or null for none"));
        }
    }
}

/// True when files of `route` may be announced on `topic`, with or without the alias that a mirror puts in front.
fn is_for(route: &Route, topic: &str) -> bool {
    let own = |topic: &str| {
        let of_rse = route
            .rse
            .as_deref()
            .and_then(|rse| topic.strip_prefix(rse))
            .is_some_and(|after| {
                let scope = after.strip_prefix('-');
                after.is_empty() || scope.is_some_and(|s| route.scope.as_deref().is_none_or(|own| own == s))
            });
        // An RSE alone may be the start of the word, on a topic of the old kind.
        let of_word = route.rse_scope.as_deref().is_some_and(|word| {
            word.strip_prefix(topic)
                .is_some_and(|after| after.is_empty() || after.starts_with('-'))
                || topic
                    .strip_prefix(word)
                    .is_some_and(|after| after.starts_with('-'))
        });
        of_rse || of_word || route.topics.iter().any(|known| known == topic)
    };
    own(topic) || topic.match_indices('.').any(|(at, _)| own(&topic[at + 1..]))
}
