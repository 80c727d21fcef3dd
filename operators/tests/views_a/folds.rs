//! What each view is meant to be: a plain fold over the facts.

use super::facts::Fact;
use dbb_events::Micros;
use dbb_operators::{
    facts::{
        AtSite, Attempt, Contents, DatasetName, DidKey, FailureClass, RseName, RuleWord, State, Step,
        UNKNOWN_MS,
    },
    views::{
        dataset_progress::{DatasetProgress, Listed},
        failures::Failures,
        lost_files::LostFile,
        rules::Rule,
        site_completeness::{SiteCompleteness, There},
        site_outcomes::{self, SiteOutcomeRow},
        sketch,
        transfers::{Route, Took, Transfers},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// `fold` of all facts up to each epoch.
pub(crate) fn each<R>(epochs: &[Vec<Fact>], fold: fn(&[Fact]) -> Vec<R>) -> Vec<Vec<R>> {
    let mut so_far = Vec::new();
    epochs
        .iter()
        .map(|facts| {
            so_far.extend(facts.iter().cloned());
            fold(&so_far)
        })
        .collect()
}

fn attempts(facts: &[Fact]) -> impl Iterator<Item = &Attempt> {
    facts.iter().filter_map(|fact| match fact {
        Fact::Attempt(attempt) => Some(attempt),
        _ => None,
    })
}

fn available(facts: &[Fact]) -> BTreeSet<(DidKey, RseName)> {
    let mut available = BTreeSet::new();
    for fact in facts {
        if let Fact::Replica(did, rse, state) = fact {
            available.remove(&(*did, *rse));
            if *state == Some(State::Available) {
                available.insert((*did, *rse));
            }
        }
    }
    available
}

const TRIES_THAT_FAILED: [Step; 3] = [Step::Failed, Step::Lost, Step::SubmissionFailed];

pub(crate) fn transfers(facts: &[Fact]) -> Vec<Transfers> {
    let mut routes: BTreeMap<Route, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts(facts).filter(|a| a.step == Step::Done || TRIES_THAT_FAILED.contains(&a.step)) {
        let route = Route {
            src: attempt.src.unwrap_or_else(|| RseName::new("")),
            dst: attempt.rse,
            hour: Micros(attempt.at.0.div_euclid(3_600_000_000) * 3_600_000_000),
        };
        routes.entry(route).or_default().push(attempt);
    }
    let row = |(of, all): (Route, Vec<&Attempt>)| {
        let done: Vec<&Attempt> = all.iter().copied().filter(|a| a.step == Step::Done).collect();
        let total = |a: &Attempt| {
            let stages = [a.waited_ms, a.queued_ms, a.ran_ms, a.noticed_ms];
            let known = stages.iter().all(|ms| *ms != UNKNOWN_MS);
            let sum: u64 = stages.iter().map(|ms| u64::from(*ms)).sum();
            if known {
                sum.min(u64::from(UNKNOWN_MS) - 1) as u32
            } else {
                UNKNOWN_MS
            }
        };
        let stages: [&dyn Fn(&Attempt) -> u32; 5] = [
            &|a| a.waited_ms,
            &|a| a.queued_ms,
            &|a| a.ran_ms,
            &|a| a.noticed_ms,
            &total,
        ];
        Transfers {
            of,
            done: done.len() as i64,
            failed: (all.len() - done.len()) as i64,
            bytes: done.iter().map(|a| a.bytes.unwrap_or(0) as i64).sum(),
            took: stages.map(|stage| took(done.iter().map(|a| stage(a)).collect())),
        }
    };
    routes.into_iter().map(row).collect()
}

/// Exact quantiles of the nearest rank, seen through the buckets.
fn took(mut all: Vec<u32>) -> Took {
    all.retain(|ms| *ms != UNKNOWN_MS);
    all.sort_unstable();
    let at = |percent: usize| {
        let rank = (all.len() * percent).div_ceil(100);
        let exact = *all.get(rank.checked_sub(1)?)?;
        Some(sketch::middle(sketch::bucket(exact)))
    };
    Took {
        p50_ms: at(50),
        p95_ms: at(95),
    }
}

pub(crate) fn failures(facts: &[Fact]) -> Vec<Failures> {
    let mut rows: BTreeMap<_, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts(facts) {
        if TRIES_THAT_FAILED.contains(&attempt.step) || attempt.step == Step::DeletionFailed {
            let class = attempt.failure.unwrap_or(FailureClass::NotTold).as_str();
            let src = attempt.src.unwrap_or_else(|| RseName::new(""));
            let key = (attempt.step.as_str(), class, src, attempt.rse);
            rows.entry(key).or_default().push(attempt);
        }
    }
    rows.into_iter()
        .map(|((step, class, src, rse), all)| Failures {
            step: step.into(),
            class: class.into(),
            src,
            rse,
            count: all.len() as i64,
            bytes: all.iter().map(|a| a.bytes.unwrap_or(0) as i64).sum(),
            first_at: all.iter().map(|a| a.at).min().unwrap(),
            last_at: all.iter().map(|a| a.at).max().unwrap(),
        })
        .collect()
}

pub(crate) fn rules(facts: &[Fact]) -> Vec<Rule> {
    let mut rows: BTreeMap<u128, Rule> = BTreeMap::new();
    let mut newest = BTreeMap::new();
    for fact in facts {
        let (rule, at) = match fact {
            Fact::Attempt(Attempt {
                step: Step::Queued,
                rule: Some(rule),
                at,
                ..
            }) => (*rule, *at),
            Fact::Rule(said) => (said.rule, said.at),
            _ => continue,
        };
        let row = rows.entry(rule).or_insert_with(|| Rule {
            rule,
            did: None,
            word: None,
            ok_rses: BTreeSet::new(),
            queued: 0,
            seen_at: at,
        });
        row.seen_at = row.seen_at.max(at);
        let Fact::Rule(said) = fact else {
            row.queued += 1;
            continue;
        };
        if let RuleWord::DatasetLockOk(rse) = said.word {
            row.ok_rses.insert(rse);
        } else if newest
            .get(&rule)
            .is_none_or(|known| (said.at, said.event) > *known)
        {
            newest.insert(rule, (said.at, said.event));
            (row.word, row.did) = (Some(said.word), Some(said.did));
        }
    }
    rows.into_values().collect()
}

pub(crate) fn lost_files(facts: &[Fact]) -> Vec<LostFile> {
    let found: BTreeSet<DidKey> = available(facts).into_iter().map(|(did, _)| did).collect();
    let mut rows: BTreeMap<&str, LostFile> = BTreeMap::new();
    for fact in facts {
        if let Fact::Lost(lost) = fact
            && !found.contains(&lost.did)
        {
            let row = rows.entry(&lost.name).or_insert_with(|| LostFile {
                scope: lost.scope,
                name: lost.name.clone(),
                datasets: BTreeSet::new(),
                lost_at: lost.at,
            });
            row.datasets.extend(lost.dataset);
            row.lost_at = row.lost_at.max(lost.at);
        }
    }
    rows.into_values().collect()
}

pub(crate) fn progress(facts: &[Fact]) -> Vec<DatasetProgress> {
    let available = available(facts);
    let mut newest: BTreeMap<_, &Attempt> = BTreeMap::new();
    for attempt in attempts(facts).filter(|a| !matches!(a.step, Step::Deleted | Step::DeletionFailed)) {
        let Some(dataset) = attempt.dataset else { continue };
        let known = newest
            .entry((dataset, attempt.rse, attempt.did))
            .or_insert(attempt);
        if (attempt.at, attempt.event) > (known.at, known.event) {
            *known = attempt;
        }
    }
    let listings = listings(facts);
    let held = |dataset: &DatasetName, rse: RseName| {
        let (_, members) = &listings[dataset];
        members
            .iter()
            .filter(|did| available.contains(&(**did, rse)))
            .count()
    };
    let mut keys: BTreeSet<(DatasetName, RseName)> =
        newest.keys().map(|(dataset, rse, _)| (*dataset, *rse)).collect();
    for dataset in listings.keys() {
        let rses = available.iter().map(|(_, rse)| *rse);
        keys.extend(
            rses.filter(|rse| held(dataset, *rse) > 0)
                .map(|rse| (*dataset, rse)),
        );
    }
    keys.into_iter()
        .map(|(dataset, rse)| {
            let steps: Vec<Step> = newest
                .iter()
                .filter(|((d, r, _), _)| (*d, *r) == (dataset, rse))
                .map(|(_, attempt)| attempt.step)
                .collect();
            DatasetProgress {
                dataset,
                rse,
                requested: steps.len() as i64,
                done: steps.iter().filter(|step| **step == Step::Done).count() as i64,
                failed: steps
                    .iter()
                    .filter(|step| TRIES_THAT_FAILED.contains(step))
                    .count() as i64,
                listed: listings.get(&dataset).map(|(at, members)| Listed {
                    members: members.len() as i64,
                    missing: (members.len() - held(&dataset, rse)) as i64,
                    at: *at,
                }),
            }
        })
        .collect()
}

/// The newest listing of each dataset, and its members.
fn listings(facts: &[Fact]) -> BTreeMap<DatasetName, (Micros, BTreeSet<DidKey>)> {
    let mut listings: BTreeMap<DatasetName, (Micros, BTreeSet<DidKey>)> = BTreeMap::new();
    for fact in facts {
        if let Fact::Contents(Contents { dataset, at, members }) = fact {
            let listing = (*at, members.iter().map(|(did, _)| *did).collect());
            let known = listings.entry(*dataset).or_insert_with(|| listing.clone());
            *known = listing.max(known.clone());
        }
    }
    listings
}

/// The newest outcome of each file at each repository.
fn outcomes(facts: &[Fact]) -> BTreeMap<AtSite, site_outcomes::Said> {
    let mut newest: BTreeMap<AtSite, site_outcomes::Said> = BTreeMap::new();
    for fact in facts {
        if let Fact::Outcome(fact) = fact {
            let said = (fact.version, fact.at, fact.outcome, fact.reason.clone());
            let known = newest.entry(fact.of.clone()).or_insert_with(|| said.clone());
            *known = said.max(known.clone());
        }
    }
    newest
}

pub(crate) fn site_outcomes(facts: &[Fact]) -> Vec<SiteOutcomeRow> {
    let available = available(facts);
    let row = |(of, said): (AtSite, site_outcomes::Said)| SiteOutcomeRow {
        is_available: available.contains(&(of.did(), of.rse)),
        of,
        said,
    };
    outcomes(facts).into_iter().map(row).collect()
}

pub(crate) fn site_completeness(facts: &[Fact]) -> Vec<SiteCompleteness> {
    let (available, outcomes) = (available(facts), outcomes(facts));
    let mut rows = Vec::new();
    for (dataset, (at, files)) in listings(facts) {
        let at_rse = |rse: RseName| {
            let mut there = There::default();
            for did in &files {
                let words: Vec<&str> = outcomes
                    .iter()
                    .filter(|(of, _)| (of.did(), of.rse) == (*did, rse))
                    .map(|(_, said)| said.2.as_str())
                    .collect();
                let any = |word| words.contains(&word);
                there.available += i64::from(available.contains(&(*did, rse)));
                there.refused += i64::from(any("refused"));
                there.waiting += i64::from(any("waiting") && !any("refused"));
                let has = any("ingested") || any("already_there");
                there.ingested += i64::from(has && !any("waiting") && !any("refused"));
            }
            SiteCompleteness {
                dataset,
                rse,
                members: files.len() as i64,
                there,
                at,
            }
        };
        let known = ["IN2P3", "SLAC", "UKDF"].map(|rse| at_rse(RseName::new(rse)));
        rows.push(at_rse(RseName::new("")));
        rows.extend(known.into_iter().filter(|row| row.there != There::default()));
    }
    rows
}
