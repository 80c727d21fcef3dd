//! The routes of the configuration, as the mapping that the dataflow uses.

use crate::config::Config;
use anyhow::Context;
use dbb_operators::mapping::{Mapping, Route, Selector};
use dbb_sinks::butler::Removal;
use std::sync::Arc;

/// What the configuration says of RSEs and routes.
///
/// # Errors
///
/// A prefix that nothing can start with, or that leads nowhere.
pub fn mapping(config: &Config) -> anyhow::Result<Mapping> {
    let mut routes = Vec::new();
    for (at, route) in config.routes.iter().enumerate() {
        let (selector, prefixes) = match (&route.rse_scope, &route.rse) {
            (Some(word), _) => (Selector::RseScope(word.as_str().into()), &route.prefixes),
            (None, Some(rse)) => {
                let settings = config.rses.get(rse);
                let settings =
                    settings.with_context(|| format!("routes[{at}]: no RSE `{rse}` under rses"))?;
                let scope = route.scope.as_deref().map(Arc::from);
                (
                    Selector::Replica {
                        rse: rse.as_str().into(),
                        scope,
                    },
                    &settings.prefixes,
                )
            }
            (None, None) => anyhow::bail!("routes[{at}]: has neither `rse` nor `rse_scope`"),
        };
        let targets = route
            .repositories
            .iter()
            .map(|name| Arc::from(name.as_str()))
            .collect();
        let topics = route
            .topics
            .iter()
            .map(|topic| Arc::from(topic.as_str()))
            .collect();
        let prefixes = prefixes.iter().map(|prefix| (&prefix.from, &prefix.to));
        routes.push(
            Route::new(selector, targets, topics, prefixes).with_context(|| format!("in routes[{at}]"))?,
        );
    }
    let removing = config
        .repositories
        .iter()
        .filter(|(_, settings)| settings.removal != Removal::Off)
        .map(|(name, _)| Arc::from(name.as_str()));
    Ok(Mapping::new(routes).removing(removing))
}
