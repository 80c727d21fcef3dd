//! The graph of the site dataflow, as one worker builds it.

use super::{
    hub,
    keeping::Kept,
    late::late,
    live::{Ear, LATENESS_WINDOW_US},
    numbered::sequenced,
    tables::tables,
    telling::told,
    work::{Shared, TICK, now},
};
use crate::{
    runtime::{
        Bindings, Gate, Offers, clock,
        manifest::{manifest, pieces},
        read::{Reading, Records, Terms, read, read_due},
    },
    views::{self, Name},
};
use dbb_events::{Entry, Request, Settled};
use dbb_operators::{
    Batching, Classified, Epoch,
    decode::{Role, decode},
    deliver::{Delivery, Lane, deliver},
    identify::{Remember, identify},
    publish::{heard, publish, publish_missing, publish_offsets},
    route::route,
    sequences::numbers,
    views::{
        attempts::attempts,
        ingest_backlog::ingest_backlog,
        stream_health::{self, Counters, gathered},
    },
};
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, PoisonError},
    time::Instant,
};
use timely::{
    dataflow::{
        ProbeHandle, Stream,
        operators::{
            Concatenate, Inspect, Probe,
            core::{Concat, ToStream},
            vec::{Filter, Map},
        },
    },
    worker::Worker,
};

/// Entries in one transaction of the ledger, and how long the first may wait for more.
const LEDGER: Batching = Batching {
    max_datasets: 5000,
    max_bytes: 64 << 20,
    max_wait_ms: 2,
};

/// What the worker follows.
pub(super) struct Probes<'p> {
    /// The ledger: what it has passed has durable outcomes.
    pub(super) ledger: &'p ProbeHandle<Epoch>,
    /// Checkpoints, where they are kept: what it has passed is with whoever commits them.
    pub(super) kept: &'p ProbeHandle<Epoch>,
}

/// Builds it.
pub(super) fn build(
    worker: &mut Worker,
    shared: &Arc<Shared>,
    reading: &Rc<RefCell<Reading>>,
    due: &Rc<RefCell<Bindings>>,
    probes: Probes<'_>,
) {
    let index = worker.index();
    let control = &shared.control;
    worker.dataflow_named("site", |scope| {
        let live = shared.live.as_ref();
        let kept = shared.kept.as_ref();
        let keep = kept.map(|kept| &kept.keep);
        let restored = kept.and_then(Kept::restored);
        let followed = ProbeHandle::new();
        let gate = Gate::new(followed.clone(), restored);
        let mut ticks = clock(scope, TICK, restored, Arc::clone(control), now);
        // The first worker of this process hears for all.
        let first = index == shared.place.range().start;
        if let Some(keep) = keep {
            // All workers build the same; one of them tells.
            let (checkpoints, control) = (Arc::clone(&keep.checkpoints), Arc::clone(control));
            let mut begins = Some(restored.map_or(0, |restored| restored + 1));
            ticks = ticks.inspect_core(move |event| {
                if first
                    && let Ok((stamp, data)) = event
                    && let (Some(epoch), Some(at)) = (stamp.least(), data.first())
                {
                    if begins.take().is_some_and(|begins| begins != *epoch) {
                        control.fail("process 0 goes on from another checkpoint than this one found");
                    }
                    checkpoints.minted(*epoch, *at);
                }
            });
        }
        let ticks = match live {
            Some(live) => heard(ticks, &live.publisher),
            None => ticks.map(|_| ()),
        };
        let ear = live
            .filter(|live| live.keeps(Name::StreamHealth))
            .map(|_| Ear::default());
        let hears = ear.clone();
        let Records {
            records,
            bounds,
            lost,
        } = read(
            ticks.clone(),
            Rc::clone(reading),
            Terms {
                max_in_flight: shared.max_in_flight,
                gate: gate.clone(),
                offers: keep.map(|keep| Offers::new(Arc::clone(&keep.checkpoints), index)),
                lost: kept.filter(|_| index == 0).map(Kept::lost).unwrap_or_default(),
                on_lost: Box::new(move |lost| {
                    if let Some(ear) = &hears {
                        ear.lost(lost);
                    }
                }),
            },
            Arc::clone(control),
            now,
        );
        if let Some(live) = live {
            publish_offsets(bounds, &live.publisher);
            publish_missing(lost.clone(), &live.publisher);
        }
        let (records, sequenced) = if shared.following.is_some() {
            let (records, numbered) = numbers(records);
            (records, sequenced(numbered, ticks.clone(), first, shared))
        } else {
            (records, None)
        };
        // The ledger is one for all, so one worker reads what is due.
        let receiver = (index == 0).then(|| shared.due.clone());
        let wanted = live.map(|live| live.settings.facts()).unwrap_or_default();
        let tabled = live.map(|_| {
            let taken = if index == 0 {
                shared.take_tables(wanted)
            } else {
                Vec::new()
            };
            tables(ticks.clone(), taken, gate.clone(), Arc::clone(control))
        });
        let again = read_due(
            ticks,
            receiver,
            Rc::clone(due),
            shared.max_in_flight,
            gate,
            Arc::clone(control),
            now,
        );

        let role = match &shared.hub {
            Some(leg) => Role::Hub(Arc::clone(&leg.topics)),
            None => Role::Site(Arc::clone(&shared.mapping)),
        };
        let seen = Arc::clone(shared);
        let files: Arc<str> = "files".into();
        let listening = ear.clone();
        let mut decoded = decode(
            scope.concatenate([records, again]),
            role,
            shared.counted_to.clone(),
            wanted,
            move |incoming, created_at| {
                if let Some(ear) = &listening {
                    ear.read(incoming, created_at);
                }
            },
            move |incoming, classified| {
                seen.tally.record(incoming, classified);
                let place = &incoming.received.place;
                if incoming.again.is_none() {
                    // Recorded files may be many, and no series is made for each.
                    seen.metrics.received(
                        if place.line.is_some() {
                            &files
                        } else {
                            &place.stream
                        },
                        1,
                    );
                }
                match classified {
                    Classified::Nobodys(reason) => seen.metrics.not_for_us(&reason.as_str().into(), 1),
                    Classified::DeadLetter(letter) => seen.metrics.dead_letter(letter),
                    Classified::Arrival(_) | Classified::Outgoing(_) => {}
                }
            },
        );
        if let Some(table) = tabled {
            let facts = &mut decoded.facts;
            facts.changes = facts.changes.clone().concat(table.changes);
            facts.names = facts.names.clone().concat(table.names);
            facts.completes = facts.completes.clone().concat(table.completes);
            facts.said = facts.said.clone().concat(table.said);
        }
        let hearing = ear.as_ref().map(|ear| {
            // Each process knows of its own partitions.
            let asks = index == shared.place.range().start;
            let asks = shared.statistics.clone().filter(|_| asks);
            let completes = decoded.facts.completes.clone();
            let heard = gathered(completes, "heard", ear.take(asks));
            match &sequenced {
                Some(sequenced) => heard.concat(sequenced.missing.clone()),
                None => heard,
            }
        });
        let repeats = Arc::clone(shared);
        // Without repositories it can still be told what has landed.
        let is_told = !shared.routes_any && shared.outcomes.is_some();
        let arrivals = if shared.routes_any || is_told {
            decoded.arrivals
        } else {
            decoded.arrivals.filter(|_| false)
        };
        let remember = Remember {
            seconds: shared.remember_seconds,
            epochs: live.and_then(|live| live.settings.remember),
        };
        let on_repeat = move || {
            repeats.tally.repeat();
            repeats.metrics.repeats(1);
        };
        // Either is without anything: a hub has no arrivals, and a site tells nobody.
        let (arrivals, published) = match &shared.hub {
            Some(leg) => {
                let outgoing = identify(decoded.outgoing, remember, keep, move |_| on_repeat());
                let entries = hub::build(outgoing.probe_with(&followed), leg, shared);
                (arrivals, Some(entries))
            }
            None => {
                let arrivals = identify(arrivals, remember, keep, move |_| on_repeat());
                (arrivals.probe_with(&followed), None)
            }
        };
        let landed = is_told.then(|| arrivals.clone());
        let arrivals = if is_told {
            arrivals.filter(|_| false)
        } else {
            arrivals
        };
        let routed = Arc::clone(shared);
        let (requests, unroutable) = route(arrivals, Arc::clone(&shared.mapping), move |letter| {
            routed.tally.dead_letter();
            routed.metrics.dead_letter(letter);
        });
        let backlog = live.filter(|live| live.keeps(Name::IngestBacklog));
        let meant = backlog.map(|_| requests.clone());
        let counting = live.filter(|live| live.keeps(Name::Attempts));
        let tried = counting.map(|_| requests.clone());
        let settled = butler(requests, shared);
        let answered = Arc::clone(shared);
        let answers = backlog.map(|_| settled.clone());
        let ended = counting.map(|_| settled.clone());
        let outcomes = settled
            .inspect(move |settled: &Settled| {
                answered.tally.settled(settled);
                answered.metrics.settled(settled);
            })
            .map(|settled| Entry::Settled(Box::new(settled)));
        let mut entries = vec![decoded.entries, unroutable, outcomes];
        entries.extend(sequenced.map(|sequenced| sequenced.entries));
        entries.extend(published);
        if let Some(live) = live {
            let noticed = Counters::default();
            let noticing = noticed.clone();
            let mut notices = decoded.facts.completes.clone().map(|_| ());
            let names = decoded.facts.names.clone();
            let too_late = views::build(
                decoded.facts,
                &live.settings,
                &live.publisher,
                keep,
                &followed,
                move |notice| noticing.notice(notice),
            );
            if let Some(too_late) = too_late {
                notices = too_late.clone().map(|_| ());
                let letters = Arc::clone(shared);
                entries.push(late(too_late, names, move |letter| {
                    letters.tally.dead_letter();
                    letters.metrics.dead_letter(letter);
                }));
            }
            if let Some(heard) = hearing {
                let counts = gathered(notices, "noticed", move |counts| noticed.take(counts));
                let health = stream_health::Health {
                    publisher: Arc::clone(&live.publisher),
                    window_us: LATENESS_WINDOW_US,
                    clock: Box::new(now),
                };
                stream_health::stream_health(heard, counts, health);
            }
            if let (Some(meant), Some(answers)) = (meant, answers) {
                let waiting =
                    std::mem::take(&mut *shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                let waiting = waiting.to_stream(scope);
                let meant = meant.concat(waiting.clone().map(|settled: Settled| settled.request));
                publish(ingest_backlog(meant, answers.concat(waiting)), &live.publisher);
            }
            if let (Some(tried), Some(ended)) = (tried, ended) {
                let counted =
                    std::mem::take(&mut *shared.durations.lock().unwrap_or_else(PoisonError::into_inner));
                publish(attempts(tried, ended, counted), &live.publisher);
            }
        }
        let mut entries = scope.concatenate(entries);
        if let Some(port) = shared.outcomes.clone() {
            entries = told(entries, landed, port, shared);
        }
        let outcomes = ledger(entries, shared).probe_with(probes.ledger);
        if let Some(kept) = kept {
            let written = if first { kept.take_written() } else { None };
            let written = pieces(scope, written, restored, TICK);
            manifest(written, outcomes, lost, kept.commits()).probe_with(probes.kept);
        }
    });
}

fn butler<'s>(
    requests: Stream<'s, Epoch, Vec<Request>>,
    shared: &Arc<Shared>,
) -> Stream<'s, Epoch, Vec<Settled>> {
    let ports: HashMap<Arc<str>, usize> = shared
        .targets
        .iter()
        .enumerate()
        .map(|(at, target)| (Arc::clone(target), at))
        .collect();
    let port_of = move |request: &Request| ports.get(&request.target).copied().unwrap_or_default();
    let port_of_exchanged = port_of.clone();
    let (control, targets) = (Arc::clone(&shared.control), shared.targets.clone());
    deliver(
        requests,
        shared.butlers.clone(),
        Delivery {
            name: "butler",
            // All of one repository meet on one worker: so the story of a file stays in order.
            exchange: Box::new(move |request| port_of_exchanged(request) as u64),
            lane: Box::new(move |request| Lane {
                port: port_of(request),
                group: Arc::clone(&request.rse.0),
            }),
            bytes: Box::new(|request: &Request| request.body.len()),
            batching: shared.batching,
            clock: Box::new(Instant::now),
            on_lost: Box::new(move |port| {
                control.fail(format!("the thread of repository `{}` has gone", targets[port]));
            }),
        },
    )
}

fn ledger<'s>(entries: Stream<'s, Epoch, Vec<Entry>>, shared: &Arc<Shared>) -> Stream<'s, Epoch, Vec<()>> {
    let control = Arc::clone(&shared.control);
    deliver(
        entries,
        vec![shared.ledger.clone()],
        Delivery {
            name: "ledger",
            exchange: Box::new(|_| 0),
            lane: Box::new(|_| Lane { port: 0, group: () }),
            bytes: Box::new(|entry: &Entry| match entry {
                Entry::Settled(settled) => settled.request.body.len(),
                Entry::Sent(sent) => sent.outgoing.source.len(),
                Entry::DeadLetter(letter) => letter.body.len(),
                Entry::Counted(_) | Entry::Numbers(_) => 0,
            }),
            batching: LEDGER,
            clock: Box::new(Instant::now),
            on_lost: Box::new(move |_| control.fail("the thread of the ledger has gone")),
        },
    )
}
