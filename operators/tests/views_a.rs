//! Five views against plain folds: at each epoch a view is the fold of the facts so far, whatever their order,
//! however they are cut into epochs, on any number of workers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "views_a/facts.rs"]
mod facts;
#[path = "views_a/flow.rs"]
mod flow;
#[path = "views_a/folds.rs"]
mod folds;

use dbb_events::{EventId, Micros};
use dbb_operators::{
    facts::{
        AtSite, Attempt, Contents, DatasetName, DidKey, FailureClass, Lost, OutcomeName, RepositoryName,
        RseName, RuleSaid, RuleWord, ScopeName, SiteOutcome, State, Step, UNKNOWN_MS,
    },
    views::{
        ViewRow,
        available::available,
        dataset_progress::{DatasetProgress, Keeping, dataset_progress},
        failures::{Failures, failures},
        listings::listings,
        lost_files::{LostFile, lost_files},
        rules::{Rule, rules},
        site_completeness::{SiteCompleteness, site_completeness},
        site_outcomes::{SiteOutcomeRow, newest_outcomes, site_outcomes},
        transfers::{Transfers, transfers},
    },
};
use facts::{Fact, cut};
use flow::{Inputs, View, at_each_epoch, last};
use proptest::prelude::*;

fn the_transfers<'s>(facts: Inputs<'s>) -> View<'s, Transfers> {
    transfers(facts.attempts, None)
}

fn the_failures<'s>(facts: Inputs<'s>) -> View<'s, Failures> {
    failures(facts.attempts, None)
}

fn the_rules<'s>(facts: Inputs<'s>) -> View<'s, Rule> {
    rules(facts.rules, facts.attempts, None)
}

fn the_lost_files<'s>(facts: Inputs<'s>) -> View<'s, LostFile> {
    lost_files(facts.lost, available(facts.replicas), None)
}

fn the_progress<'s>(facts: Inputs<'s>) -> View<'s, DatasetProgress> {
    let listings = listings(facts.contents, None);
    dataset_progress(
        facts.attempts,
        listings,
        available(facts.replicas),
        Keeping::all(None),
    )
}

fn the_site_outcomes<'s>(facts: Inputs<'s>) -> View<'s, SiteOutcomeRow> {
    site_outcomes(newest_outcomes(facts.outcomes, None), available(facts.replicas))
}

fn the_completeness<'s>(facts: Inputs<'s>) -> View<'s, SiteCompleteness> {
    let listings = listings(facts.contents, None);
    let outcomes = newest_outcomes(facts.outcomes, None);
    site_completeness(outcomes, listings, available(facts.replicas))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn transfers_are_the_fold_of_the_facts_so_far(epochs in cut(facts::attempts()), workers in 0..3u32) {
        prop_assert_eq!(at_each_epoch(1 << workers, &epochs, the_transfers), folds::each(&epochs, folds::transfers));
    }

    #[test]
    fn failures_are_the_fold_of_the_facts_so_far(epochs in cut(facts::attempts()), workers in 0..3u32) {
        prop_assert_eq!(at_each_epoch(1 << workers, &epochs, the_failures), folds::each(&epochs, folds::failures));
    }

    #[test]
    fn rules_are_the_fold_of_the_facts_so_far(epochs in cut(facts::all()), workers in 0..3u32) {
        prop_assert_eq!(at_each_epoch(1 << workers, &epochs, the_rules), folds::each(&epochs, folds::rules));
    }

    #[test]
    fn lost_files_are_the_fold_of_the_facts_so_far(epochs in cut(facts::all()), workers in 0..3u32) {
        prop_assert_eq!(at_each_epoch(1 << workers, &epochs, the_lost_files), folds::each(&epochs, folds::lost_files));
    }

    #[test]
    fn progress_is_the_fold_of_the_facts_so_far(epochs in cut(facts::all()), workers in 0..3u32) {
        prop_assert_eq!(at_each_epoch(1 << workers, &epochs, the_progress), folds::each(&epochs, folds::progress));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn site_outcomes_are_the_fold_of_the_facts_so_far(epochs in cut(facts::all()), workers in 0..3u32) {
        prop_assert_eq!(
            at_each_epoch(1 << workers, &epochs, the_site_outcomes),
            folds::each(&epochs, folds::site_outcomes)
        );
    }

    #[test]
    fn completeness_is_the_fold_of_the_facts_so_far(epochs in cut(facts::all()), workers in 0..3u32) {
        prop_assert_eq!(
            at_each_epoch(1 << workers, &epochs, the_completeness),
            folds::each(&epochs, folds::site_completeness)
        );
    }
}

/// The rows as lines of JSON, which is what people see.
fn lines<R: ViewRow>(rows: &[R]) -> Vec<String> {
    let batch = R::batch(&mut rows.iter());
    assert_eq!(batch.num_rows(), rows.len(), "the columns do not fit the schema");
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn done(event: u128, at: i64) -> Attempt {
    Attempt {
        event: EventId(event),
        did: DidKey::new("raw", "a"),
        scope: ScopeName::new("raw"),
        step: Step::Done,
        at: Micros(at),
        src: Some(RseName::new("SLAC")),
        rse: RseName::new("IN2P3"),
        bytes: Some(10),
        dataset: Some(DatasetName::new("raw", "night")),
        rule: None,
        failure: None,
        waited_ms: 500,
        queued_ms: 1000,
        ran_ms: 60_000,
        noticed_ms: UNKNOWN_MS,
    }
}

const HOUR: i64 = 3_600_000_000;

#[test]
fn a_late_transfer_amends_its_hour() {
    let late = Attempt {
        noticed_ms: 0,
        src: None,
        ..done(3, HOUR - 1)
    };
    let epochs = [
        vec![Fact::Attempt(done(1, HOUR - 1)), Fact::Attempt(done(2, HOUR))],
        vec![Fact::Attempt(late)],
    ];
    let seen = at_each_epoch(2, &epochs, the_transfers);
    assert_eq!((seen[0].len(), seen[1].len()), (2, 3));
    assert_eq!(
        lines(&last(seen)),
        [
            r#"{"src_rse":"","dst_rse":"IN2P3","hour":"1970-01-01T00:00:00Z","done":1,"failed":0,"bytes":10,"waited_p50_s":0.499,"waited_p95_s":0.499,"queued_p50_s":0.999,"queued_p95_s":0.999,"ran_p50_s":59.903,"ran_p95_s":59.903,"noticed_p50_s":0.0,"noticed_p95_s":0.0,"total_p50_s":61.951,"total_p95_s":61.951}"#,
            r#"{"src_rse":"SLAC","dst_rse":"IN2P3","hour":"1970-01-01T00:00:00Z","done":1,"failed":0,"bytes":10,"waited_p50_s":0.499,"waited_p95_s":0.499,"queued_p50_s":0.999,"queued_p95_s":0.999,"ran_p50_s":59.903,"ran_p95_s":59.903}"#,
            r#"{"src_rse":"SLAC","dst_rse":"IN2P3","hour":"1970-01-01T01:00:00Z","done":1,"failed":0,"bytes":10,"waited_p50_s":0.499,"waited_p95_s":0.499,"queued_p50_s":0.999,"queued_p95_s":0.999,"ran_p50_s":59.903,"ran_p95_s":59.903}"#,
        ]
    );
}

#[test]
fn quantiles_are_of_the_nearest_rank() {
    let ran = (1..=100).map(|rank| match rank {
        1..50 => 1,
        50 => 2,
        51..95 => 3,
        95 => 4,
        _ => 5,
    });
    let attempts = ran.zip(0..).map(|(ran_ms, event)| {
        Fact::Attempt(Attempt {
            ran_ms,
            ..done(event, 0)
        })
    });
    let rows = last(at_each_epoch(1, &[attempts.collect()], the_transfers));
    assert_eq!(
        (rows[0].took[2].p50_ms, rows[0].took[2].p95_ms),
        (Some(2), Some(4))
    );
}

#[test]
fn deletions_are_no_transfers_and_fail_without_a_source() {
    let deletion = Attempt {
        step: Step::DeletionFailed,
        src: None,
        failure: Some(FailureClass::Access),
        ..done(1, 5)
    };
    let again = Attempt {
        event: EventId(2),
        at: Micros(HOUR),
        ..deletion
    };
    let epochs = [vec![Fact::Attempt(again)], vec![Fact::Attempt(deletion)]];
    assert_eq!(last(at_each_epoch(1, &epochs, the_transfers)), []);
    assert_eq!(
        lines(&last(at_each_epoch(1, &epochs, the_failures))),
        [
            r#"{"step":"deletion_failed","class":"access","src_rse":"","rse":"IN2P3","count":2,"bytes":20,"first_at":"1970-01-01T00:00:00.000005Z","last_at":"1970-01-01T01:00:00Z"}"#
        ]
    );
}

#[test]
fn a_rule_that_notifies_nobody_is_known_by_its_transfers() {
    let queued = Attempt {
        step: Step::Queued,
        rule: Some(0xab),
        ..done(1, 7)
    };
    let said = |event, at, word, name: &str| {
        Fact::Rule(RuleSaid {
            rule: 0xcd,
            did: DatasetName::new("raw", name),
            at: Micros(at),
            word,
            event: EventId(event),
        })
    };
    let lock = |rse| RuleWord::DatasetLockOk(RseName::new(rse));
    let epochs = [
        vec![
            said(2, 20, RuleWord::Progress(40), "nights"),
            Fact::Attempt(queued),
        ],
        vec![
            said(3, 10, RuleWord::Ok, "nights"),
            said(4, 30, lock("UKDF"), "night"),
            said(5, 31, lock("IN2P3"), "night"),
        ],
    ];
    assert_eq!(
        lines(&last(at_each_epoch(2, &epochs, the_rules))),
        [
            r#"{"rule_id":"000000000000000000000000000000ab","ok_rses":0,"ok_rse_names":"","queued":1,"last_seen_at":"1970-01-01T00:00:00.000007Z"}"#,
            r#"{"rule_id":"000000000000000000000000000000cd","scope":"raw","name":"nights","last_word":"progress","progress":40,"ok_rses":2,"ok_rse_names":"IN2P3,UKDF","queued":0,"last_seen_at":"1970-01-01T00:00:00.000031Z"}"#,
        ]
    );
}

#[test]
fn a_lost_file_that_is_found_again_is_lost_no_more() {
    let lost = |event, dataset: &str, at| {
        Fact::Lost(Lost {
            did: DidKey::new("raw", "a"),
            scope: ScopeName::new("raw"),
            name: "a".into(),
            dataset: Some(DatasetName::new("raw", dataset)),
            at: Micros(at),
            event: EventId(event),
        })
    };
    let replica = |state| Fact::Replica(DidKey::new("raw", "a"), RseName::new("SLAC"), state);
    let epochs = [
        vec![
            replica(Some(State::Unavailable)),
            lost(1, "tract", 2),
            lost(2, "night", 1),
        ],
        vec![replica(Some(State::Available))],
        vec![replica(None)],
    ];
    let seen = at_each_epoch(2, &epochs, the_lost_files);
    assert_eq!(seen[1].len(), 0);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(
        lines(&last(seen)),
        [
            r#"{"scope":"raw","name":"a","datasets":"raw:night,raw:tract","lost_at":"1970-01-01T00:00:00.000002Z"}"#
        ]
    );
}

#[test]
fn a_count_from_events_is_never_complete() {
    let did = |name: &str| DidKey::new("raw", name);
    let contents = |at, names: &[&str]| {
        Fact::Contents(Contents {
            dataset: DatasetName::new("raw", "night"),
            at: Micros(at),
            members: names.iter().map(|name| (did(name), None)).collect(),
        })
    };
    let there = |name: &str| Fact::Replica(did(name), RseName::new("IN2P3"), Some(State::Available));
    let epochs = [
        vec![Fact::Attempt(done(1, 5)), there("a")],
        vec![contents(8, &["a", "b"])],
        vec![there("b"), contents(7, &["a", "b", "c", "d"])],
        vec![contents(9, &["b", "b", "e"])],
    ];
    let seen = at_each_epoch(2, &epochs, the_progress);
    let seen: Vec<String> = seen.iter().flat_map(|rows| lines(rows)).collect();
    let row = |rest: &str| {
        format!(r#"{{"scope":"raw","name":"night","rse":"IN2P3","requested":1,"done":1,"failed":0,{rest}}}"#)
    };
    let listed = |missing, complete, at| {
        row(&format!(
            r#""members":2,"missing":{missing},"complete":"{complete}","contents_at":"1970-01-01T00:00:00.00000{at}Z""#
        ))
    };
    assert_eq!(
        seen,
        [
            row(r#""complete":"unknown""#),
            listed(1, "incomplete", 8),
            listed(0, "complete", 8),
            listed(1, "incomplete", 9),
        ]
    );
}

#[test]
fn a_dataset_is_complete_when_every_member_is_there_and_registered() {
    let did = |name: &str| DidKey::new("raw", name);
    let rse = RseName::new("IN2P3");
    let contents = Fact::Contents(Contents {
        dataset: DatasetName::new("raw", "night"),
        at: Micros(8),
        members: ["a", "b"].map(|name| (did(name), None)).to_vec(),
    });
    let there = |name: &str, state| Fact::Replica(did(name), rse, state);
    let said = |name: &str, version, at, outcome: &str| {
        Fact::Outcome(SiteOutcome {
            of: AtSite {
                scope: ScopeName::new("raw"),
                name: name.into(),
                rse,
                repository: RepositoryName::new("main"),
            },
            version: Micros(version),
            at: Micros(at),
            outcome: OutcomeName::new(outcome),
            reason: (outcome == "waiting").then(|| "dimension:exposure".into()),
        })
    };
    let epochs = [
        vec![contents],
        vec![
            there("a", Some(State::Available)),
            there("b", Some(State::Available)),
        ],
        vec![said("a", 1, 2, "ingested"), said("b", 1, 2, "waiting")],
        vec![said("b", 1, 3, "ingested")],
        vec![said("a", 4, 5, "removed"), there("a", None)],
    ];
    let seen = at_each_epoch(2, &epochs, the_completeness);
    let row = |rse: &str, available, ingested, waiting, complete: &str| {
        format!(
            r#"{{"scope":"raw","name":"night","rse":"{rse}","members":2,"available":{available},"ingested":{ingested},"waiting":{waiting},"refused":0,"complete":"{complete}","contents_at":"1970-01-01T00:00:00.000008Z"}}"#
        )
    };
    let at = |epoch: usize| lines(&seen[epoch])[1..].to_vec();
    assert_eq!(lines(&seen[0]), [row("", 0, 0, 0, "incomplete")]);
    assert_eq!(at(1), [row("IN2P3", 2, 0, 0, "incomplete")]);
    assert_eq!(at(2), [row("IN2P3", 2, 1, 1, "incomplete")]);
    assert_eq!(at(3), [row("IN2P3", 2, 2, 0, "complete")]);
    assert_eq!(at(4), [row("IN2P3", 1, 1, 0, "incomplete")]);
    let seen = last(at_each_epoch(2, &epochs, the_site_outcomes));
    assert_eq!(
        lines(&seen),
        [
            r#"{"scope":"raw","name":"a","rse":"IN2P3","repository":"main","outcome":"removed","event_at":"1970-01-01T00:00:00.000004Z","settled_at":"1970-01-01T00:00:00.000005Z"}"#,
            r#"{"scope":"raw","name":"b","rse":"IN2P3","repository":"main","outcome":"ingested","state":"AVAILABLE","event_at":"1970-01-01T00:00:00.000001Z","settled_at":"1970-01-01T00:00:00.000003Z"}"#,
        ]
    );
}
