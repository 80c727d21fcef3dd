//! Book: the files that some policy may select, each with its replicas, and what the policies say of it.

use super::{listed::Slot, pattern::Pattern, policy::Policy};
use crate::{
    Epoch,
    facts::{DidKey, DidName, RseName, ScopeName, State},
    replicas::Replica,
    views::{closed::Closed, wide::Wide},
};
use differential_dataflow::difference::{Multiply, Semigroup};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

/// What changes the book.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The name of a file.
    Name(DidName),
    /// A replica that came or went, and at which epoch.
    Replica(Replica, isize, Epoch),
    /// A file that came into a dataset of a policy, or left it.
    Member(DidKey, Slot, isize),
}

impl Word {
    /// The file it is about.
    pub(crate) fn did(&self) -> DidKey {
        match self {
            Word::Name(name) => name.did,
            Word::Replica(replica, ..) => replica.did,
            Word::Member(did, ..) => *did,
        }
    }
}

/// What is counted together: the place of the policy in the list, the scope, the RSE.
pub(crate) type Of = (u16, ScopeName, RseName);

/// Files expected, there, on the way; missing, their bytes, unexpected.
pub(crate) type Tally = ((isize, isize, isize), (isize, Wide, isize));

/// A file that is not as a policy says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) policy: u16,
    pub(crate) rse: RseName,
    pub(crate) scope: ScopeName,
    pub(crate) name: Box<str>,
    pub(crate) unexpected: bool,
    pub(crate) state: Option<State>,
    pub(crate) bytes: u64,
}

/// A difference, at an epoch.
#[derive(Debug, Clone)]
pub(crate) enum Judged {
    /// Of sums.
    Sum((Of, Epoch, Tally)),
    /// Of single files.
    Gap((Found, Epoch, isize)),
}

/// See the module. One for each worker.
pub(crate) struct Book {
    policies: Arc<[Policy]>,
    rules: Vec<Rule>,
    /// The lists of policies that files may be selected by: few, so each is stored once.
    lists: BTreeSet<Rc<[u16]>>,
    files: HashMap<DidKey, File>,
    /// In how many datasets of a slot a file is.
    members: HashMap<DidKey, Vec<(Slot, isize)>>,
}

/// A policy, made ready.
struct Rule {
    must: BTreeSet<RseName>,
    must_not: Vec<Pattern>,
    /// For each RSE seen, whether it must not have a copy.
    unwanted: HashMap<RseName, bool>,
    only_members: bool,
}

struct File {
    scope: ScopeName,
    name: Box<str>,
    policies: Rc<[u16]>,
    replicas: Vec<(Held, isize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    rse: RseName,
    state: State,
    bytes: u64,
}

impl Book {
    /// An empty one.
    pub(crate) fn new(policies: Arc<[Policy]>) -> Self {
        let rules = policies.iter().map(Rule::new).collect();
        Self {
            policies,
            rules,
            lists: BTreeSet::new(),
            files: HashMap::new(),
            members: HashMap::new(),
        }
    }

    /// Applies all that an epoch says, and gives what it changes.
    pub(crate) fn apply(&mut self, closed: Closed<Word>, judged: &mut Vec<Judged>) {
        let epoch = closed.epoch;
        let mut change = Change::default();
        // Names first: a replica of a file without one is of no policy.
        let (names, others): (Vec<Word>, Vec<Word>) = closed
            .records
            .into_iter()
            .partition(|word| matches!(word, Word::Name(_)));
        for word in names.into_iter().chain(others) {
            if !change.touched.contains(&word.did()) {
                self.judge(word.did(), -1, &mut change);
                change.touched.insert(word.did());
            }
            match word {
                Word::Name(name) => self.name(name),
                Word::Replica(replica, times, _) => self.replica(replica, times),
                Word::Member(did, slot, times) => self.member(did, slot, times),
            }
        }
        for did in std::mem::take(&mut change.touched) {
            self.judge(did, 1, &mut change);
        }
        change.give(epoch, judged);
    }

    fn name(&mut self, name: DidName) {
        if self.files.contains_key(&name.did) {
            return;
        }
        let about: Vec<u16> = (0..)
            .zip(self.policies.iter())
            .filter(|(_, policy)| policy.is_about(name.scope.as_str(), &name.name))
            .map(|(at, _)| at)
            .collect();
        if about.is_empty() {
            return;
        }
        let policies = match self.lists.get(about.as_slice()) {
            Some(list) => Rc::clone(list),
            None => {
                let list: Rc<[u16]> = about.into();
                self.lists.insert(Rc::clone(&list));
                list
            }
        };
        let file = File {
            scope: name.scope,
            name: name.name,
            policies,
            replicas: Vec::new(),
        };
        self.files.insert(name.did, file);
    }

    fn replica(&mut self, replica: Replica, times: isize) {
        let Some(file) = self.files.get_mut(&replica.did) else {
            return;
        };
        let held = Held {
            rse: replica.rse,
            state: replica.state,
            bytes: replica.bytes,
        };
        add(&mut file.replicas, held, times);
    }

    fn member(&mut self, did: DidKey, slot: Slot, times: isize) {
        let slots = self.members.entry(did).or_default();
        add(slots, slot, times);
        if slots.is_empty() {
            self.members.remove(&did);
        }
    }

    /// What the policies say of a file now, `times` times.
    fn judge(&mut self, did: DidKey, times: isize, change: &mut Change) {
        let Some(file) = self.files.get(&did) else {
            return;
        };
        let held = || file.replicas.iter().filter(|(_, n)| *n > 0).map(|(held, _)| held);
        // A file that is nowhere is not expected anywhere.
        let Some(bytes) = held().map(|held| held.bytes).max() else {
            return;
        };
        let slots = self.members.get(&did).map_or(&[][..], Vec::as_slice);
        let in_slot = |policy, excludes| {
            slots
                .iter()
                .any(|(slot, n)| *slot == Slot { policy, excludes } && *n > 0)
        };
        for at in file.policies.iter().copied() {
            let Some(rule) = self.rules.get_mut(usize::from(at)) else {
                continue;
            };
            if (rule.only_members && !in_slot(at, false)) || in_slot(at, true) {
                continue;
            }
            let found = |rse, unexpected, state| Found {
                policy: at,
                rse,
                scope: file.scope,
                name: file.name.clone(),
                unexpected,
                state,
                bytes,
            };
            for rse in &rule.must {
                let state = held().find(|held| held.rse == *rse).map(|held| held.state);
                let tally = match state {
                    Some(State::Available) => ((1, 1, 0), (0, Wide(0), 0)),
                    Some(State::Copying) => ((1, 0, 1), (0, Wide(0), 0)),
                    _ => {
                        change.gaps.push((found(*rse, false, state), times));
                        ((1, 0, 0), (1, Wide::from(bytes), 0))
                    }
                };
                change.count((at, file.scope, *rse), tally, times);
            }
            for held in held() {
                if rule.is_unwanted(held.rse) {
                    change.gaps.push((found(held.rse, true, Some(held.state)), times));
                    change.count((at, file.scope, held.rse), ((0, 0, 0), (0, Wide(0), 1)), times);
                }
            }
        }
    }
}

impl Rule {
    fn new(policy: &Policy) -> Self {
        Self {
            must: policy.must.iter().map(|rse| RseName::new(rse)).collect(),
            must_not: policy.must_not.clone(),
            unwanted: HashMap::new(),
            only_members: !policy.in_datasets.is_empty(),
        }
    }

    fn is_unwanted(&mut self, rse: RseName) -> bool {
        *self.unwanted.entry(rse).or_insert_with(|| {
            !self.must.contains(&rse) && self.must_not.iter().any(|pattern| pattern.matches(rse.as_str()))
        })
    }
}

/// What an epoch changes, before it is given.
#[derive(Default)]
struct Change {
    touched: BTreeSet<DidKey>,
    sums: BTreeMap<Of, Tally>,
    gaps: Vec<(Found, isize)>,
}

impl Change {
    fn count(&mut self, of: Of, ((a, b, c), (d, e, f)): Tally, times: isize) {
        let ((x, y, z), (u, bytes, w)) = self.sums.entry(of).or_default();
        for (sum, one) in [(x, a), (y, b), (z, c), (u, d), (w, f)] {
            *sum += one * times;
        }
        bytes.plus_equals(&e.multiply(&times));
    }

    fn give(mut self, epoch: Epoch, judged: &mut Vec<Judged>) {
        differential_dataflow::consolidation::consolidate(&mut self.gaps);
        let sums = self.sums.into_iter();
        judged.extend(
            sums.filter(|(_, tally)| *tally != Tally::default())
                .map(|(of, tally)| Judged::Sum((of, epoch, tally))),
        );
        let gaps = self.gaps.into_iter();
        judged.extend(gaps.map(|(found, times)| Judged::Gap((found, epoch, times))));
    }
}

/// Adds `times` of `what` to a short list, and drops it when none are left.
fn add<W: PartialEq>(list: &mut Vec<(W, isize)>, what: W, times: isize) {
    match list.iter_mut().find(|(known, _)| *known == what) {
        Some((_, n)) => *n += times,
        None => {
            // Most lists stay at one or two: room for four would double what a file costs.
            list.reserve_exact(1);
            list.push((what, times));
        }
    }
    list.retain(|(_, n)| *n != 0);
}
