//! The operator: when what came is taken in, and when it is told.
//!
//! Live, an epoch waits until it has ended, and the state is that of whole epochs: what is published is exactly
//! the fold of what was read by then. Eagerly, changes are taken in as they come, for they commute; sums are told
//! when the oldest open epoch ends, and complete listings, which touch all there is, wait for the end.

use super::{Keeping, Notice, Replica, Replicas, effects::Effects, gather, kept, store::Store};
use crate::{
    Epoch,
    checkpoint::{Damaged, Offering, Restored, Row, restored},
    facts::{Change, Complete, DidName},
    publish::{END, Part},
    views::rse_usage::{Amount, Usage},
};
use differential_dataflow::AsCollection;
use std::{collections::BTreeMap, sync::Arc};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::{Exchange, Pipeline},
        operators::{
            Capability,
            generic::{OutputBuilder, OutputBuilderSession, builder_rc::OperatorBuilder},
            vec::Broadcast,
        },
    },
};

type Built<D> = CapacityContainerBuilder<Vec<D>>;

/// What one epoch has brought.
#[derive(Default)]
struct Open {
    names: Vec<Vec<DidName>>,
    completes: Vec<Complete>,
    changes: Vec<Vec<Change>>,
}

/// See [`super::replicas`].
pub(super) fn build<'s>(
    changes: Stream<'s, Epoch, Vec<Change>>,
    names: Stream<'s, Epoch, Vec<DidName>>,
    completes: Stream<'s, Epoch, Vec<Complete>>,
    keeping: Keeping,
    on_notice: impl Fn(Notice) + 'static,
) -> Replicas<'s> {
    let scope = changes.scope();
    let part = ("replicas", scope.worker().index());
    let publisher = keeping.publisher.clone().filter(|_| !keeping.gather);
    if let Some(publisher) = &publisher {
        publisher.expect(part);
    }
    let keep = keeping.keep.clone();
    let mut offering = keep.as_ref().map(|keep| Offering::new(&keep.checkpoints, part));
    let from = keep.and_then(|keep| keep.restored);
    let floors = restored(scope, &kept::FLOORS, from.clone());
    let files = restored(scope, &kept::REPLICAS, from.clone());
    let mut builder = OperatorBuilder::new("replicas".into(), scope);
    let mut names = builder.new_input(names, Exchange::new(|name: &DidName| name.did.place()));
    let mut changes = builder.new_input(changes, Exchange::new(|change: &Change| change.did.place()));
    let mut completes = builder.new_input(completes.broadcast(), Pipeline);
    let mut floors = builder.new_input(floors.broadcast(), Pipeline);
    let mut files = builder.new_input(files, Exchange::new(|(key, _): &Row| kept::place(key)));
    let (sums, sums_stream) = builder.new_output();
    let (replicas, replicas_stream) = builder.new_output();
    let (late, late_stream) = builder.new_output();
    let (named, named_stream) = builder.new_output();
    let (rows, rows_stream) = builder.new_output();
    let mut sums = OutputBuilder::<_, Built<(Usage, Epoch, Amount)>>::from(sums);
    let mut replicas = OutputBuilder::<_, Built<(Replica, Epoch, isize)>>::from(replicas);
    let mut late = OutputBuilder::<_, Built<Change>>::from(late);
    let mut named = OutputBuilder::<_, Built<DidName>>::from(named);
    let mut rows = OutputBuilder::<_, Built<gather::Row>>::from(rows);
    let gathered = keeping.publisher.clone().filter(|_| keeping.gather);
    if let Some(publisher) = &gathered {
        gather::gather(rows_stream, publisher);
    }
    builder.build(move |capabilities| {
        let effects = Effects::new(keeping.emits, keeping.clock_skew_us, Box::new(on_notice));
        let mut store = Store::new(keeping.names, keeping.forget_after_us, effects);
        if offering.is_some() {
            store.note_changes();
        }
        let mut taking = Taking {
            from,
            waiting: Vec::new(),
            names: keeping.emits.then(Vec::new),
        };
        // Every worker has heard of every complete listing.
        let of_all = part.1 == 0;
        let mut open: BTreeMap<Epoch, Open> = BTreeMap::new();
        // One capability for each output, never ahead of the inputs.
        let mut held = Some(capabilities);
        let mut done = None;
        let eager = keeping.eager && offering.is_none();
        move |frontiers| {
            let mut out = Outputs {
                sums: sums.activate(),
                replicas: replicas.activate(),
                late: late.activate(),
                named: named.activate(),
            };
            floors.for_each_stamp(|_, data| {
                for row in data.flat_map(|rows| rows.drain(..)) {
                    taking.hear(store.restore_floor(&row));
                }
            });
            files.for_each_stamp(|_, data| {
                for rows in data {
                    taking.waiting.append(rows);
                }
            });
            // Names first: a file's may be of the very epoch of its first change.
            names.for_each_stamp(|capability, data| {
                let Some(epoch) = capability.least() else { return };
                for names in data {
                    if eager {
                        store.name(names);
                    } else {
                        open.entry(*epoch).or_default().names.push(std::mem::take(names));
                    }
                }
            });
            changes.for_each_stamp(|capability, data| {
                let Some(epoch) = capability.least() else { return };
                for changes in data {
                    if eager {
                        store.apply(changes);
                    } else {
                        open.entry(*epoch)
                            .or_default()
                            .changes
                            .push(std::mem::take(changes));
                    }
                }
            });
            completes.for_each_stamp(|capability, data| {
                let Some(epoch) = capability.least() else { return };
                let epoch = if eager { END } else { *epoch };
                let completes = data.flat_map(|completes| completes.drain(..));
                open.entry(epoch).or_default().completes.extend(completes);
            });
            let Some(capabilities) = &mut held else { return };
            if let Some(epoch) = taking.take(&mut store, |epoch| {
                let of_floors = frontiers.get(FLOORS);
                of_floors.is_none_or(|frontier| !frontier.less_equal(&epoch))
            }) {
                out.name(taking.names.as_mut(), capabilities, epoch);
                out.tell(&mut store, capabilities, Some(epoch));
            }
            let frontier = frontiers
                .iter()
                .filter_map(|f| f.frontier().first().copied())
                .min();
            let mut due = match &publisher {
                Some(publisher) => publisher.due(done, frontier),
                None => Vec::new(),
            }
            .into_iter()
            .peekable();
            let mut publish = |store: &Store, epoch: Epoch| {
                if let Some(publisher) = &publisher {
                    let value = if publisher.is_asked(epoch) {
                        Part::Table(Arc::new(store.snapshot()))
                    } else {
                        Part::NotAsked
                    };
                    publisher.offer(part, epoch, value);
                    done = Some(epoch);
                }
            };
            while let Some(entry) = open.first_entry() {
                let epoch = *entry.key();
                if frontier.is_some_and(|frontier| epoch >= frontier) {
                    break;
                }
                while let Some(earlier) = due.next_if(|due| *due < epoch) {
                    publish(&store, earlier);
                }
                if let Some(offering) = &mut offering {
                    offering.offer(Some(epoch), || store.changes(of_all));
                }
                entry.remove().apply(&mut store);
                let epoch = if eager { None } else { Some(epoch) };
                out.tell(&mut store, capabilities, epoch);
            }
            let has_moved = capabilities
                .first()
                .is_some_and(|held| frontier.is_none_or(|frontier| *held.time() < frontier));
            if eager && has_moved {
                out.tell(&mut store, capabilities, None);
            }
            if has_moved {
                store.forget();
            }
            for due in due {
                publish(&store, due);
            }
            if let Some(offering) = &mut offering {
                offering.offer(frontier, || store.changes(of_all));
            }
            match frontier {
                Some(frontier) if has_moved => {
                    for capability in capabilities {
                        capability.downgrade(&frontier);
                    }
                }
                Some(_) => {}
                None => {
                    if let (Some(_), [.., last]) = (&gathered, &capabilities[..]) {
                        let mut rows = rows.activate();
                        let mut session = rows.session_with_builder(last);
                        store
                            .snapshot()
                            .for_each(|line| session.give(gather::Row::from(line)));
                    }
                    held = None;
                }
            }
        }
    });
    Replicas {
        sums: sums_stream.as_collection(),
        replicas: replicas_stream.as_collection(),
        late: late_stream,
        names: named_stream,
    }
}

/// The place of the input of what holds for all files among the inputs.
const FLOORS: usize = 3;

/// What an earlier run kept, on its way into the store.
struct Taking {
    from: Option<Arc<dyn Restored>>,
    /// Files that came before all that holds for them had.
    waiting: Vec<Row>,
    /// The names that are to be told.
    names: Option<Vec<DidName>>,
}

impl Taking {
    fn hear<T>(&self, taken: Result<T, Damaged>) -> Option<T> {
        match (taken, &self.from) {
            (Ok(taken), _) => Some(taken),
            (Err(damaged), Some(from)) => {
                from.refuse(damaged);
                None
            }
            (Err(_), None) => None,
        }
    }

    /// Takes in what is waiting, if `may` at the restored epoch, and says which that is.
    fn take(&mut self, store: &mut Store, may: impl Fn(Epoch) -> bool) -> Option<Epoch> {
        let epoch = self.from.as_ref()?.epoch();
        if self.waiting.is_empty() || !may(epoch) {
            return None;
        }
        for row in std::mem::take(&mut self.waiting) {
            let name = self.hear(store.restore(&row)).flatten();
            if let Some(names) = &mut self.names {
                names.extend(name);
            }
        }
        Some(epoch)
    }
}

impl Open {
    fn apply(self, store: &mut Store) {
        for names in &self.names {
            store.name(names);
        }
        for changes in &self.changes {
            store.apply(changes);
        }
        store.complete(&self.completes);
    }
}

struct Outputs<'a> {
    sums: OutputBuilderSession<'a, Epoch, Built<(Usage, Epoch, Amount)>>,
    replicas: OutputBuilderSession<'a, Epoch, Built<(Replica, Epoch, isize)>>,
    late: OutputBuilderSession<'a, Epoch, Built<Change>>,
    named: OutputBuilderSession<'a, Epoch, Built<DidName>>,
}

impl Outputs<'_> {
    /// Tells names at `epoch`.
    fn name(&mut self, names: Option<&mut Vec<DidName>>, capabilities: &[Capability<Epoch>], epoch: Epoch) {
        if let (Some(names), [_, _, _, of_names, ..]) = (names, capabilities) {
            let capability = of_names.delayed(&epoch);
            let mut session = self.named.session_with_builder(&capability);
            session.give_iterator(names.drain(..));
        }
    }

    /// Tells what happened, at `epoch` or else at the time of the capabilities.
    fn tell(&mut self, store: &mut Store, capabilities: &[Capability<Epoch>], epoch: Option<Epoch>) {
        let [of_sums, of_replicas, of_late, ..] = capabilities else {
            return;
        };
        let (effects, words) = store.told();
        if effects.is_empty() {
            return;
        }
        let epoch = epoch.unwrap_or(*of_sums.time());
        let capability = of_sums.delayed(&epoch);
        self.sums.session_with_builder(&capability).give_iterator(
            effects
                .take_sums(words)
                .into_iter()
                .map(|(of, amount)| (of, epoch, amount)),
        );
        let capability = of_replicas.delayed(&epoch);
        self.replicas.session_with_builder(&capability).give_iterator(
            effects
                .take_replicas(words)
                .map(|(replica, times)| (replica, epoch, times)),
        );
        let capability = of_late.delayed(&epoch);
        self.late
            .session_with_builder(&capability)
            .give_iterator(effects.take_late().into_iter());
    }
}
