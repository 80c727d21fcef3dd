//! What types cannot say: whether the parts of a configuration fit each other.
//!
//! Everything is looked at, so that one run reports all there is to mend.

mod addresses;
mod federation;
mod routes;
mod source;
mod views;

use super::{
    Config,
    problem::{Origin, Problem},
};

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
}
