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
        ViewRow,
        available::available,
        collected::{Spoken, collected, spoken},
        dataset_progress::{self, dataset_progress},
        failures::failures,
        listings::listings,
        lost_files::lost_files,
        placement::{Placements, Policy, placement},
        rse_usage::rse_usage,
        rules::rules,
        site_completeness::site_completeness,
        site_outcomes::{newest_outcomes, site_outcomes},
        transfers::transfers,
    },
};
use differential_dataflow::{AsCollection, VecCollection};
use std::{collections::BTreeSet, rc::Rc, sync::Arc};
use timely::dataflow::{
    ProbeHandle, Stream,
    operators::{Probe, core::Concat},
};

/// Which views, and how they are kept.
#[derive(Debug, Clone)]
pub struct ViewSettings {
    /// The views.
    pub wanted: BTreeSet<Name>,
    /// Applies changes as they come: for a replay, where only the end is looked at.
    pub eager: bool,
    /// Brings all replicas to the first worker at the end: for several processes.
    pub gather: bool,
    /// How long tombstones are kept, and the names of files that landed in `dataset_progress`, by the times of events,
    /// in microseconds; for ever when `None`.
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
        // With checkpoints nobody tells a name again to whoever starts from one.
        names: wants(Name::Replicas) || (keep.is_some() && wants(Name::Placement)),
        emits: settings.wanted.iter().any(|name| name.joins()),
        forget_after_us: settings.forget_after_us,
        clock_skew_us: settings.clock_skew_us,
        gather: settings.gather,
        publisher: wants(Name::Replicas).then(|| Arc::clone(publisher)),
        keep: keep.cloned(),
    };
    // What is restored is there when the views have been made from it again.
    let shown = Shown {
        publisher,
        probe: keep.map(|_| probe),
    };
    let names = facts.names.clone();
    let on_notice = Rc::new(on_notice);
    let of_replicas = Rc::clone(&on_notice);
    let kept = needs.changes.then(|| {
        let on_notice = move |notice| of_replicas(notice);
        replicas(facts.changes, facts.names, facts.completes, keeping, on_notice)
    });
    // Before everything that counts: what is delivered again has happened once.
    let told = needs
        .attempts
        .then(|| collected(distinct(facts.attempts, settings.remember, keep).probe_with(probe)));
    let heard = needs
        .said
        .then(|| spoken(distinct(facts.said, settings.remember, keep).probe_with(probe)));

    if let Some(told) = &told {
        if wants(Name::Transfers) {
            shown.show(transfers(told.clone(), keep));
        }
        if wants(Name::Failures) {
            shown.show(failures(told.clone(), keep));
        }
    }
    let mut heard_lost = None;
    let mut outcomes = None;
    let mut contents = None;
    if let Some(Spoken {
        rules: heard_rules,
        lost,
        contents: listed,
        outcomes: heard_outcomes,
    }) = heard
    {
        if let Some(told) = &told
            && wants(Name::Rules)
        {
            shown.show(rules(heard_rules, told.clone(), keep));
        }
        heard_lost = Some(lost);
        outcomes = wants(Name::SiteOutcomes).then(|| newest_outcomes(heard_outcomes, keep));
        let wanted = wants(Name::DatasetProgress) || wants(Name::Placement) || wants(Name::SiteOutcomes);
        contents = wanted.then(|| listings(listed, keep));
    }
    let Replicas {
        sums,
        replicas,
        late,
        names: named,
    } = kept?;
    if wants(Name::RseUsage) {
        shown.show(rse_usage(sums));
    }
    if wants(Name::LostFiles) || wants(Name::DatasetProgress) || wants(Name::SiteOutcomes) {
        let available = available(replicas.clone());
        if let Some(lost) = heard_lost
            && wants(Name::LostFiles)
        {
            shown.show(lost_files(lost, available.clone(), keep));
        }
        if let (Some(told), Some(contents)) = (told, contents.clone())
            && wants(Name::DatasetProgress)
        {
            let keeping = dataset_progress::Keeping {
                forget_after_us: settings.forget_after_us,
                keep,
                on_late: Box::new(move || on_notice(Notice::TooLate)),
            };
            shown.show(dataset_progress(told, contents, available.clone(), keeping));
        }
        if let (Some(outcomes), Some(contents)) = (outcomes, contents.clone()) {
            shown.show(site_outcomes(outcomes.clone(), available.clone()));
            shown.show(site_completeness(outcomes, contents, available));
        }
    }
    if let Some(contents) = contents
        && wants(Name::Placement)
    {
        let names = names.concat(named);
        let placed = placement(replicas, names, contents, Arc::clone(&settings.policies));
        let Placements { placement, gaps } = placed;
        shown.show(placement);
        shown.show(gaps);
    }
    Some(late.probe_with(probe))
}

/// Where the views go.
struct Shown<'a> {
    publisher: &'a Arc<Publisher>,
    probe: Option<&'a ProbeHandle<Epoch>>,
}

impl Shown<'_> {
    fn show<R: ViewRow>(&self, rows: VecCollection<'_, Epoch, R, isize>) {
        let rows = match self.probe {
            Some(probe) => rows.inner.probe_with(probe).as_collection(),
            None => rows,
        };
        publish::publish(rows, self.publisher);
    }
}
