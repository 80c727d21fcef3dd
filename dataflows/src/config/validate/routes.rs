//! Which files lead to which repositories.

use super::Check;
use crate::config::{
    Config,
    problem::nearest,
    settings::{Prefix, Route},
};
use dbb_operators::mapping::{self, MappingError, Selector};
use dbb_sinks::butler::{ButlerError, VerifyMode};
use std::collections::BTreeMap;

impl Check<'_> {
    pub(super) fn rses(&mut self, config: &Config) {
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

    pub(super) fn routes(&mut self, config: &Config) {
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
    pub(super) fn topics(&mut self, config: &Config) {
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

    pub(super) fn repositories(&mut self, config: &Config) {
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
            if repository.verify.mode == VerifyMode::Checksum && !repository.verify.read_bytes {
                let problem = "a storage without checksums of its own, such as a file system, cannot tell them: there a file \
                               with other bytes of the same number is registered as `unverified`. With `read_bytes: true` \
                               it is read";
                self.warning(&format!("{path}.verify.mode"), problem);
            }
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
