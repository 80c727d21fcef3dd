//! Placement is, at each epoch, what going over all files with each policy finds.

use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Contents, DatasetName, DidKey, DidName, RseName, Said, ScopeName, State},
    replicas::Replica,
    views::{
        collected::spoken,
        listings::listings,
        placement::{Pattern, Placement, PlacementGap, Placements, Policy, What, check, placement},
    },
};
use differential_dataflow::input::InputSession;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{InputHandle, operators::Input},
};

const FILES: [(&str, &str); 6] = [
    ("raw", "LSSTCam/a.fits"),
    ("raw", "LSSTCam/b.fits"),
    ("raw", "LATISS/c.fits"),
    ("raw", "LSSTCam/d.zip"),
    ("dp2", "LSSTCam/a.fits"),
    ("other", "x"),
];
const RSES: [&str; 4] = ["SLAC", "FRDF_RAW", "UKDF_RAW", "UKDF_TAPE"];
const DATASETS: [(&str, &str); 4] = [
    ("raw", "Dataset/LSSTCam/raw/Tract2/20260401"),
    ("raw", "Dataset/LSSTCam/raw/Tract3/20260401"),
    ("raw", "Dataset/LSSTCam/raw/Tract40/20260401"),
    ("raw", "Dataset/LSSTCam/raw/NoTract/20260401"),
];
const EPOCHS: Epoch = 8;

fn policies() -> Arc<[Policy]> {
    let policies: Vec<Policy> = serde_json::from_value(serde_json::json!([
        {"name": "raws at both", "scope": "raw", "must": ["SLAC", "FRDF_RAW"]},
        {"name": "a part of the sky", "scope": "raw", "files": "*.fits",
         "in_datasets": ["raw:*/raw/Tract{1..3,40}/*"], "must": ["UKDF_RAW"]},
        {"name": "and no other", "scope": "raw", "files": "*.fits",
         "not_in_datasets": ["raw:*/raw/Tract{1..3}/*", "raw:*/Tract40/*"], "must_not": ["UKDF_*"]},
        {"name": "only here", "scope": "{raw,dp2}", "files": "LSSTCam/*",
         "in_datasets": ["raw:*"], "not_in_datasets": ["*NoTract*"], "must": ["SLAC"], "must_not": ["*"]},
    ]))
    .unwrap();
    check(&policies).unwrap();
    policies.into()
}

/// What happens at an epoch.
#[derive(Debug, Clone)]
enum Fact {
    /// The replica of a file at an RSE is now so; not there, if `None`.
    Becomes(usize, usize, Option<State>, u64),
    /// A dataset was listed at a time, with these files.
    Listed(usize, i64, BTreeSet<usize>),
}

fn fact() -> impl Strategy<Value = Fact> {
    let state = prop::option::weighted(0.8, prop::sample::select(&State::ALL[..6]));
    prop_oneof![
        3 => (0..FILES.len(), 0..RSES.len(), state, 0u64..4).prop_map(|(f, r, s, b)| Fact::Becomes(f, r, s, b)),
        1 => (0..DATASETS.len(), 0i64..6, prop::collection::btree_set(0..FILES.len(), 0..5))
            .prop_map(|(dataset, at, members)| Fact::Listed(dataset, at, members)),
    ]
}

fn key(file: usize) -> DidKey {
    DidKey::new(FILES[file].0, FILES[file].1)
}

/// What is so after the facts of each epoch and before.
#[derive(Default, Clone)]
struct World {
    replicas: BTreeMap<(usize, usize), (State, u64)>,
    listings: BTreeMap<usize, (i64, BTreeSet<DidKey>)>,
}

impl World {
    fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Becomes(file, rse, Some(state), bytes) => {
                self.replicas.insert((*file, *rse), (*state, *bytes));
            }
            Fact::Becomes(file, rse, None, _) => {
                self.replicas.remove(&(*file, *rse));
            }
            Fact::Listed(dataset, at, members) => {
                let listing = (
                    *at,
                    members.iter().map(|file| key(*file)).collect::<BTreeSet<_>>(),
                );
                let known = self.listings.entry(*dataset).or_default();
                // Of two listings of one moment, either will do: the same one on every run.
                let order = |l: &(i64, BTreeSet<DidKey>)| (l.0, l.1.iter().copied().collect::<Vec<_>>());
                if order(&listing) > order(known) {
                    *known = listing;
                }
            }
        }
    }

    fn in_any(&self, file: usize, patterns: &[Pattern]) -> bool {
        self.listings.iter().any(|(dataset, (_, members))| {
            let (scope, name) = DATASETS[*dataset];
            let name = format!("{scope}:{name}");
            members.contains(&key(file)) && patterns.iter().any(|pattern| pattern.matches(&name))
        })
    }

    /// The rows, by going over everything.
    fn rows(&self) -> (BTreeSet<Placement>, BTreeSet<PlacementGap>) {
        let mut rows: BTreeMap<(Arc<str>, &str, &str), Placement> = BTreeMap::new();
        let mut gaps = BTreeSet::new();
        for policy in policies().iter() {
            for (file, (scope, name)) in FILES.into_iter().enumerate() {
                let at: BTreeMap<&str, (State, u64)> = RSES
                    .into_iter()
                    .enumerate()
                    .filter_map(|(rse, name)| Some((name, *self.replicas.get(&(file, rse))?)))
                    .collect();
                let about = policy.scope.as_ref().is_none_or(|p| p.matches(scope))
                    && policy.files.as_ref().is_none_or(|p| p.matches(name))
                    && (policy.in_datasets.is_empty() || self.in_any(file, &policy.in_datasets))
                    && !self.in_any(file, &policy.not_in_datasets);
                if at.is_empty() || !about {
                    continue;
                }
                let bytes = at.values().map(|(_, bytes)| *bytes).max().unwrap();
                for rse in RSES {
                    let must = policy.must.iter().any(|must| must == rse);
                    let must_not = !must && policy.must_not.iter().any(|p| p.matches(rse));
                    let state = at.get(rse).map(|(state, _)| *state);
                    if !must && (!must_not || state.is_none()) {
                        continue;
                    }
                    let row = rows
                        .entry((policy.name.as_str().into(), scope, rse))
                        .or_insert_with(|| Placement {
                            policy: policy.name.as_str().into(),
                            scope: ScopeName::new(scope),
                            rse: RseName::new(rse),
                            expected: 0,
                            have: 0,
                            on_the_way: 0,
                            missing: 0,
                            missing_bytes: 0,
                            unexpected: 0,
                        });
                    row.expected += i64::from(must);
                    let what = match (must, state) {
                        (true, Some(State::Available)) => {
                            row.have += 1;
                            continue;
                        }
                        (true, Some(State::Copying)) => {
                            row.on_the_way += 1;
                            continue;
                        }
                        (true, _) => {
                            row.missing += 1;
                            row.missing_bytes += bytes as i64;
                            What::Missing
                        }
                        (false, _) => {
                            row.unexpected += 1;
                            What::Unexpected
                        }
                    };
                    gaps.insert(PlacementGap {
                        policy: policy.name.as_str().into(),
                        rse: RseName::new(rse),
                        scope: ScopeName::new(scope),
                        name: name.into(),
                        what,
                        state,
                        bytes,
                    });
                }
            }
        }
        (rows.into_values().collect(), gaps)
    }
}

type Out<R> = Arc<Mutex<Vec<(R, Epoch, isize)>>>;

/// The rows of `epoch`; each must be there once.
fn as_of<R: Ord + Clone + std::fmt::Debug>(out: &Out<R>, epoch: Epoch) -> BTreeSet<R> {
    let mut rows: BTreeMap<R, isize> = BTreeMap::new();
    for (row, _, times) in out.lock().unwrap().iter().filter(|(_, at, _)| *at <= epoch) {
        *rows.entry(row.clone()).or_default() += times;
    }
    rows.retain(|_, times| *times != 0);
    assert!(rows.values().all(|times| *times == 1), "{rows:?}");
    rows.into_keys().collect()
}

/// Runs the facts, the file `n` and each listing by worker `n` of all; every worker names the files it reads of.
fn run(facts: &[(Epoch, Fact)], workers: usize) -> (Out<Placement>, Out<PlacementGap>) {
    let facts = facts.to_vec();
    let (rows, gaps) = (Out::default(), Out::default());
    let given = (Arc::clone(&rows), Arc::clone(&gaps));
    timely::execute(timely::Config::process(workers), move |worker| {
        let mut replicas = InputSession::<Epoch, Replica, isize>::new();
        let mut names = InputHandle::<Epoch, CapacityContainerBuilder<Vec<DidName>>>::new();
        let mut said = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Said>>>::new();
        let (rows, gaps) = given.clone();
        worker.dataflow(|scope| {
            let placements: Placements<'_> = placement(
                replicas.to_collection(scope),
                scope.input_from(&mut names),
                listings(spoken(scope.input_from(&mut said)).contents, None),
                policies(),
            );
            placements
                .placement
                .inspect(move |update| rows.lock().unwrap().push(update.clone()));
            placements
                .gaps
                .inspect(move |update| gaps.lock().unwrap().push(update.clone()));
        });
        let mut world = World::default();
        for epoch in 0..EPOCHS {
            for (n, (_, fact)) in facts.iter().enumerate().filter(|(_, (at, _))| *at == epoch) {
                let is_mine = n % worker.peers() == worker.index();
                let replica_of = |file: usize, rse: usize, (state, bytes)| Replica {
                    did: key(file),
                    rse: RseName::new(RSES[rse]),
                    scope: ScopeName::new(FILES[file].0),
                    state,
                    bytes,
                };
                match fact {
                    Fact::Becomes(file, rse, ..) => {
                        let old = world.replicas.get(&(*file, *rse)).copied();
                        world.apply(fact);
                        let new = world.replicas.get(&(*file, *rse)).copied();
                        if is_mine {
                            // The new one first: an epoch's differences have no order.
                            if let Some(new) = new {
                                replicas.insert(replica_of(*file, *rse, new));
                            }
                            if let Some(old) = old {
                                replicas.remove(replica_of(*file, *rse, old));
                            }
                            names.send(DidName {
                                did: key(*file),
                                scope: ScopeName::new(FILES[*file].0),
                                name: FILES[*file].1.into(),
                            });
                        }
                    }
                    Fact::Listed(dataset, at, members) => {
                        if is_mine {
                            said.send(Said::Contents(Contents {
                                dataset: DatasetName::new(DATASETS[*dataset].0, DATASETS[*dataset].1),
                                at: Micros(*at),
                                members: members.iter().map(|file| (key(*file), None)).collect(),
                            }));
                        }
                    }
                }
            }
            replicas.advance_to(epoch + 1);
            replicas.flush();
            names.advance_to(epoch + 1);
            said.advance_to(epoch + 1);
            worker.step();
        }
    })
    .unwrap();
    (rows, gaps)
}

fn check_all(facts: &[(Epoch, Fact)], workers: usize) {
    let (rows, gaps) = run(facts, workers);
    let mut world = World::default();
    for epoch in 0..EPOCHS {
        for (_, fact) in facts.iter().filter(|(at, _)| *at == epoch) {
            world.apply(fact);
        }
        let (expected_rows, expected_gaps) = world.rows();
        assert_eq!(as_of(&rows, epoch), expected_rows, "epoch {epoch}");
        assert_eq!(as_of(&gaps, epoch), expected_gaps, "epoch {epoch}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn at_each_epoch_it_is_what_going_over_all_files_finds(
        facts in prop::collection::vec((0..EPOCHS, fact()), 1..60),
        workers in 1usize..=2,
    ) {
        check_all(&facts, workers);
    }
}

#[test]
fn a_listing_that_comes_late_moves_files_into_the_policy_and_an_older_one_does_not() {
    use Fact::{Becomes, Listed};
    let facts = [
        (0, Becomes(0, 0, Some(State::Available), 5)),
        (2, Listed(1, 10, [0, 1].into())),
        (3, Listed(1, 9, [2].into())),
        (4, Becomes(0, 2, Some(State::Copying), 5)),
        (5, Becomes(0, 2, Some(State::Available), 5)),
        (6, Listed(1, 11, [].into())),
    ];
    check_all(&facts, 2);
    let (rows, gaps) = run(&facts, 1);
    let seen = |epoch| {
        as_of(&rows, epoch)
            .into_iter()
            .find(|row| &*row.policy == "a part of the sky")
            .map(|row| {
                (
                    row.expected,
                    row.have,
                    row.on_the_way,
                    row.missing,
                    row.missing_bytes,
                )
            })
    };
    let by_epoch: Vec<_> = (0..7).map(seen).collect();
    let missing = Some((1, 0, 0, 1, 5));
    assert_eq!(
        by_epoch,
        [
            None,
            None,
            missing,
            missing,
            Some((1, 0, 1, 0, 0)),
            Some((1, 1, 0, 0, 0)),
            None
        ]
    );
    let unwanted: Vec<_> = as_of(&gaps, 6)
        .into_iter()
        .filter(|gap| &*gap.policy == "and no other")
        .map(|gap| (gap.rse.as_str(), gap.name, gap.what))
        .collect();
    assert_eq!(
        unwanted,
        [("UKDF_RAW", "LSSTCam/a.fits".into(), What::Unexpected)],
        "what left the dataset may no longer be there"
    );
}

#[test]
fn policies_that_cannot_be_meant_are_named() {
    let read = |text: &str| -> Vec<Policy> { serde_json::from_str(text).unwrap() };
    let error = |text: &str| check(&read(text)).unwrap_err().to_string();
    assert_eq!(
        error(r#"[{"name": "a", "must": ["X"]}, {"name": "a", "must": ["Y"]}]"#),
        "two placement policies have the name `a`"
    );
    assert_eq!(
        error(r#"[{"name": "a", "scope": "raw"}]"#),
        "the placement policy `a` has neither `must` nor `must_not`"
    );
    let unread = serde_json::from_str::<Policy>(r#"{"name": "a", "files": "Tract{3..1}"}"#);
    assert!(unread.unwrap_err().to_string().contains("`Tract{3..1}`"));
    let unknown = serde_json::from_str::<Policy>(r#"{"name": "a", "file": "x"}"#);
    assert!(unknown.unwrap_err().to_string().contains("unknown field `file`"));
}
