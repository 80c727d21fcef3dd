//! The views of a dataflow: those that are wanted, and only what they need.
//!
//! ```text
//!   facts --+--> replicas --+--> replicas, rse_usage       --\
//!           |               \--> placement                  ---> published together
//!           \--> distinct -----> transfers, failures, ...  --/
//! ```
//!
//! The same for a replay and for a site: where facts come from is nobody's business here.

mod names;

pub use names::{Name, UnknownView, parse};

use dbb_operators::{
    Epoch,
    checkpoint::Keep,
    distinct::distinct,
    facts::{Change, Wanted},
    publish::{self, Publisher},
    replicas::{Keeping, Notice, Replicas, replicas},
    tell::Facts,
    views::{
        available::available,
        collected::{Spoken, collected, spoken},
        dataset_progress::dataset_progress,
        failures::failures,
        lost_files::lost_files,
        placement::{Placements, Policy, placement},
        rse_usage::rse_usage,
        rules::rules,
        transfers::transfers,
    },
};
use std::{collections::BTreeSet, sync::Arc};
use timely::dataflow::{ProbeHandle, Stream, operators::Probe};

/// Which views, and how they are kept.
#[derive(Debug, Clone)]
pub struct ViewSettings {
    /// The views.
    pub wanted: BTreeSet<Name>,
    /// Applies changes as they come: for a replay, where only the end is looked at.
    pub eager: bool,
    /// Brings all replicas to the first worker at the end: for several processes.
    pub gather: bool,
    /// How long tombstones are kept, by the times of events, in microseconds; for ever when `None`.
    pub forget_after_us: Option<i64>,
    /// For how many epochs events are known as repeats; for ever when `None`.
    pub remember: Option<Epoch>,
    /// Two changes closer than this, in microseconds, cannot be told apart by clocks.
    pub clock_skew_us: i64,
    /// Where copies must be and must not, for `placement`.
    pub policies: Arc<[Policy]>,
}

impl ViewSettings {
    /// These views, exact at each epoch, for ever.
    pub fn of(wanted: BTreeSet<Name>) -> Self {
        Self {
            wanted,
            eager: false,
            gather: false,
            forget_after_us: None,
            remember: None,
            clock_skew_us: 0,
            policies: Vec::new().into(),
        }
    }

    /// The facts that these views are made from; nothing where there are no views.
    pub fn facts(&self) -> Wanted {
        self.wanted
            .iter()
            .map(|name| name.facts())
            .fold(Wanted::default(), Wanted::or)
    }
}

/// Builds the views of `settings` on `facts`. All workers build the same.
///
/// `probe` passes an epoch when every operator that keeps something has applied it, what was restored too; `on_notice`
/// hears what somebody should know of, on the worker that found it. Out come the changes that were too late.
///
/// With `keep` the views go on where they were when its checkpoint was taken, and offer their parts of those to come;
/// facts may come once `probe` has passed the restored epoch, and are never applied early.
pub fn build<'s>(
    facts: Facts<'s>,
    settings: &ViewSettings,
    publisher: &Arc<Publisher>,
    keep: Option<&Keep>,
    probe: &ProbeHandle<Epoch>,
    on_notice: impl Fn(Notice) + 'static,
) -> Option<Stream<'s, Epoch, Vec<Change>>> {
    let wants = |name: Name| settings.wanted.contains(&name);
    let needs = settings.facts();
    let keeping = Keeping {
        // Applied early, a replica may reach `placement` before the name of its file, which it goes by.
        eager: settings.eager && !wants(Name::Placement),
        names: wants(Name::Replicas),
        emits: settings.wanted.iter().any(|name| name.joins()),
        forget_after_us: settings.forget_after_us,
        clock_skew_us: settings.clock_skew_us,
        gather: settings.gather,
        publisher: wants(Name::Replicas).then(|| Arc::clone(publisher)),
    };
    let names = facts.names.clone();
    let kept = needs
        .changes
        .then(|| replicas(facts.changes, facts.names, facts.completes, keeping, on_notice));
    // Before everything that counts: what is delivered again has happened once.
    let told = needs
        .attempts
        .then(|| collected(distinct(facts.attempts, settings.remember, keep).probe_with(probe)));
    let said = needs
        .said
        .then(|| distinct(facts.said, settings.remember, keep).probe_with(probe));
    let heard = said.clone().map(spoken);

    if let Some(told) = &told {
        if wants(Name::Transfers) {
            publish::publish(transfers(told.clone()), publisher);
        }
        if wants(Name::Failures) {
            publish::publish(failures(told.clone()), publisher);
        }
    }
    let mut heard_lost = None;
    let mut contents = None;
    if let Some(Spoken {
        rules: heard_rules,
        lost,
        contents: listed,
    }) = heard
    {
        if let Some(told) = &told
            && wants(Name::Rules)
        {
            publish::publish(rules(heard_rules, told.clone()), publisher);
        }
        heard_lost = Some(lost);
        contents = Some(listed);
    }
    let Replicas { sums, replicas, late } = kept?;
    if wants(Name::RseUsage) {
        publish::publish(rse_usage(sums), publisher);
    }
    if wants(Name::LostFiles) || wants(Name::DatasetProgress) {
        let available = available(replicas.clone());
        if let Some(lost) = heard_lost
            && wants(Name::LostFiles)
        {
            publish::publish(lost_files(lost, available.clone()), publisher);
        }
        if let (Some(told), Some(contents)) = (told, contents)
            && wants(Name::DatasetProgress)
        {
            publish::publish(dataset_progress(told, contents, available), publisher);
        }
    }
    if let Some(said) = said
        && wants(Name::Placement)
    {
        let placed = placement(replicas, names, said, Arc::clone(&settings.policies));
        let Placements { placement, gaps } = placed;
        publish::publish(placement, publisher);
        publish::publish(gaps, publisher);
    }
    Some(late.probe_with(probe))
}
