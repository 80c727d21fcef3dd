//! Random facts of few files, RSEs and moments, so that they meet.

use dbb_events::{EventId, Micros};
use dbb_operators::facts::{
    AtSite, Attempt, Contents, DatasetName, DidKey, FailureClass, Lost, OutcomeName, RepositoryName, RseName,
    RuleSaid, RuleWord, ScopeName, SiteOutcome, State, Step, UNKNOWN_MS,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// What a test tells a view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    Attempt(Attempt),
    Rule(RuleSaid),
    Lost(Lost),
    Contents(Contents),
    Outcome(SiteOutcome),
    /// From here on the replica is in this state; there is none when `None`.
    Replica(DidKey, RseName, Option<State>),
}

/// Facts in any order, in up to six epochs, some of them empty.
pub(crate) fn cut(facts: impl Strategy<Value = Vec<Fact>>) -> impl Strategy<Value = Vec<Vec<Fact>>> {
    (facts.prop_shuffle(), vec(0..110usize, 0..6)).prop_map(|(mut facts, mut cuts)| {
        cuts.sort_unstable();
        let mut epochs: Vec<Vec<Fact>> = cuts
            .iter()
            .rev()
            .map(|at| facts.split_off((*at).min(facts.len())))
            .collect();
        epochs.push(facts);
        epochs.reverse();
        epochs
    })
}

/// Attempts, each of its own event.
pub(crate) fn attempts() -> impl Strategy<Value = Vec<Fact>> {
    vec(attempt(), 0..110).prop_map(|attempts| told(attempts, Vec::new(), Vec::new()))
}

/// Facts of all kinds; what is said comes up to twice.
pub(crate) fn all() -> impl Strategy<Value = Vec<Fact>> {
    (vec(attempt(), 0..50), vec(said(), 0..40), vec(replica(), 0..20))
        .prop_map(|(attempts, said, replicas)| told(attempts, said, replicas))
}

/// Each attempt gets an event of its own, whose order is that of nothing else.
fn told(attempts: Vec<Attempt>, said: Vec<(bool, Fact)>, replicas: Vec<Fact>) -> Vec<Fact> {
    let attempts = attempts.into_iter().zip(0u128..).map(|(attempt, event)| {
        Fact::Attempt(Attempt {
            event: EventId(event),
            ..attempt
        })
    });
    let said = said
        .into_iter()
        .zip(1000u128..)
        .flat_map(|((twice, mut fact), event)| {
            match &mut fact {
                Fact::Rule(said) => said.event = EventId(event),
                Fact::Lost(lost) => lost.event = EventId(event),
                _ => {}
            }
            [Some(fact.clone()), twice.then_some(fact)].into_iter().flatten()
        });
    attempts.chain(said).chain(replicas).collect()
}

fn file() -> impl Strategy<Value = &'static str> {
    select(&["a", "b", "c"][..])
}

fn rse() -> impl Strategy<Value = RseName> {
    select(&["SLAC", "IN2P3", "UKDF"][..]).prop_map(RseName::new)
}

fn dataset() -> impl Strategy<Value = DatasetName> {
    select(&[("raw", "night"), ("raw", "tract"), ("user", "night")][..])
        .prop_map(|(scope, name)| DatasetName::new(scope, name))
}

/// Around the borders of two hours, so that times are often equal.
fn moment() -> impl Strategy<Value = Micros> {
    (-1..2i64, -1..1i64).prop_map(|(hour, us)| Micros(hour * 3_600_000_000 + us))
}

fn duration() -> impl Strategy<Value = u32> {
    prop_oneof![Just(UNKNOWN_MS), 0..200u32, 0..100_000u32, Just(UNKNOWN_MS - 1)]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let step = select(
        &[
            Step::Queued,
            Step::Submitted,
            Step::SubmissionFailed,
            Step::Done,
            Step::Done,
            Step::Done,
            Step::Failed,
            Step::Lost,
            Step::Deleted,
            Step::DeletionFailed,
        ][..],
    );
    let failure = option::of(select(&[FailureClass::Access, FailureClass::Space][..]));
    let durations = (duration(), duration(), duration(), duration());
    (
        (file(), step, moment(), option::of(rse()), rse()),
        (option::of(0..9u64), option::of(dataset()), option::of(0..3u128)),
        failure,
        durations,
    )
        .prop_map(
            |((file, step, at, src, rse), (bytes, dataset, rule), failure, durations)| {
                let (waited_ms, queued_ms, ran_ms, noticed_ms) = durations;
                Attempt {
                    event: EventId(0),
                    did: DidKey::new("raw", file),
                    scope: ScopeName::new("raw"),
                    step,
                    at,
                    src,
                    rse,
                    bytes,
                    dataset,
                    rule,
                    failure,
                    waited_ms,
                    queued_ms,
                    ran_ms,
                    noticed_ms,
                }
            },
        )
}

fn said() -> impl Strategy<Value = (bool, Fact)> {
    let word = prop_oneof![
        Just(RuleWord::Ok),
        (0..3u8).prop_map(RuleWord::Progress),
        rse().prop_map(RuleWord::DatasetLockOk),
    ];
    let rule = (0..2u128, dataset(), moment(), word).prop_map(|(rule, did, at, word)| {
        Fact::Rule(RuleSaid {
            rule,
            did,
            at,
            word,
            event: EventId(0),
        })
    });
    let lost = (file(), option::of(dataset()), moment()).prop_map(|(file, dataset, at)| {
        Fact::Lost(Lost {
            did: DidKey::new("raw", file),
            scope: ScopeName::new("raw"),
            name: file.into(),
            dataset,
            at,
            event: EventId(0),
        })
    });
    let contents = (dataset(), moment(), vec(file(), 0..5)).prop_map(|(dataset, at, files)| {
        let members = files
            .iter()
            .map(|file| (DidKey::new("raw", file), None))
            .collect();
        Fact::Contents(Contents { dataset, at, members })
    });
    (any::<bool>(), prop_oneof![rule, lost, contents, outcome()])
}

fn outcome() -> impl Strategy<Value = Fact> {
    let words = &["ingested", "already_there", "waiting", "refused", "removed"][..];
    let of = (file(), rse(), select(&["main", "prompt"][..]));
    let reason = option::of(select(&["time", "conflict"][..]));
    (of, moment(), moment(), select(words), reason).prop_map(
        |((file, rse, repository), version, at, outcome, reason)| {
            Fact::Outcome(SiteOutcome {
                of: AtSite {
                    scope: ScopeName::new("raw"),
                    name: file.into(),
                    rse,
                    repository: RepositoryName::new(repository),
                },
                version,
                at,
                outcome: OutcomeName::new(outcome),
                reason: reason.map(Into::into),
            })
        },
    )
}

fn replica() -> impl Strategy<Value = Fact> {
    let state = option::of(select(&[State::Available, State::Available, State::Bad][..]));
    (file(), rse(), state).prop_map(|(file, rse, state)| Fact::Replica(DidKey::new("raw", file), rse, state))
}
