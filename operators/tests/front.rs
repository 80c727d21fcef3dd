//! From records to requests: the same whatever the number of workers, the order and the repeats; and
//! every record is counted once, whatever is read again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{Counted, Entry, EventId, Incarnation, Micros, Place, Position, Received};
use dbb_operators::{
    Epoch, Incoming,
    decode::{Role, decode},
    facts::Wanted,
    identify::{Remember, identify},
    mapping::{Mapping, Route, Selector},
    route::route,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle,
        operators::{Input, Inspect, Probe},
    },
};

/// One record of the stream: what it tells of.
#[derive(Debug, Clone, Copy)]
enum Told {
    Landed(u8),
    LandedUnmapped(u8),
    Deleted(u8),
    Garbage(u8),
}

const HOUR: Remember = Remember {
    seconds: 3600,
    epochs: None,
};

fn body(told: Told) -> String {
    let event = |event_type: &str, n: u8, rse: &str| {
        serde_json::json!({
            "event_type": event_type,
            "created_at": "2026-11-21 19:14:49.938629",
            "payload": {
                "request-id": format!("{event_type}{rse}{n}"), "scope": "raw", "name": format!("f{n}"),
                "rse": rse, "dst-rse": rse, "dst-url": format!("davs://h.example.org/{rse}/raw/f{n}"),
                "rubin_butler": "zip_file", "rubin_sidecar": "",
            },
        })
        .to_string()
    };
    match told {
        Told::Landed(n) => event("transfer-done", n, "A_DISK"),
        Told::LandedUnmapped(n) => event("transfer-done", n, "NOBODYS_DISK"),
        Told::Deleted(n) => event("deletion-done", n, "A_DISK"),
        Told::Garbage(n) => format!("{{\"event_type\": {n}"),
    }
}

fn mapping() -> Mapping {
    let selector = Selector::Replica {
        rse: "A_DISK".into(),
        scope: None,
    };
    let targets = vec![Arc::from("main"), Arc::from("copy")];
    let prefixes = [("davs://h.example.org/A_DISK", "/data")];
    Mapping::new(vec![Route::new(selector, targets, Vec::new(), prefixes).unwrap()])
}

/// What came out: (event, target) of requests, dead letters, and the sum of all counts.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    requests: BTreeSet<(EventId, String)>,
    delivered: usize,
    letters: BTreeMap<EventId, String>,
    counts: BTreeMap<String, u64>,
    counted_to: BTreeMap<i32, u64>,
}

/// Runs partition p on worker p mod `workers`, from `counted_to` on, in epochs of `chunk` records.
fn run(
    partitions: &[Vec<Told>],
    workers: usize,
    chunk: usize,
    counted_to: &HashMap<(Arc<str>, i32), Position>,
) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (partitions, counted_to, out) = (partitions.to_vec(), counted_to.clone(), Arc::clone(&seen));
    timely::execute(timely::Config::process(workers), move |worker| {
        let probe = ProbeHandle::new();
        let mut input = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Incoming>>>::new();
        worker.dataflow(|scope| {
            let decoded = decode(
                scope.input_from(&mut input),
                Role::Site(Arc::new(mapping())),
                counted_to.clone(),
                Wanted::default(),
                |_, _| {},
                |_, _| {},
            );
            let letters = decoded.entries;
            let arrivals = identify(decoded.arrivals, HOUR, None, |_| {});
            let (requests, unroutable) = route(arrivals, Arc::new(mapping()), |_| {});
            let asked = Arc::clone(&out);
            requests
                .inspect(move |request| {
                    let mut seen = asked.lock().unwrap();
                    seen.delivered += 1;
                    seen.requests.insert((request.event, request.target.to_string()));
                })
                .probe_with(&probe);
            for entries in [letters, unroutable] {
                let out = Arc::clone(&out);
                entries
                    .inspect(move |entry| note(&mut out.lock().unwrap(), entry))
                    .probe_with(&probe);
            }
        });
        let mine: Vec<(usize, &Vec<Told>)> = partitions
            .iter()
            .enumerate()
            .filter(|(p, _)| p % worker.peers() == worker.index())
            .collect();
        let longest = partitions.iter().map(Vec::len).max().unwrap_or(0);
        for (epoch, start) in (0..longest).step_by(chunk).enumerate() {
            for (partition, records) in &mine {
                for (offset, told) in records.iter().enumerate().skip(start).take(chunk) {
                    input.send(incoming(*partition, offset, *told));
                }
            }
            input.advance_to(epoch as u64 + 1);
            worker.step();
        }
        input.close();
        worker.step_while(|| !probe.done());
    })
    .unwrap()
    .join()
    .into_iter()
    .for_each(|result| result.unwrap());
    Arc::into_inner(seen).unwrap().into_inner().unwrap()
}

fn incoming(partition: usize, offset: usize, told: Told) -> Incoming {
    let place = Place {
        stream: "events".into(),
        partition: partition as i32,
        offset: offset as u64,
        line: None,
    };
    let received = Received {
        place,
        topic: None,
        appended_at: None,
        marks: None,
        body: body(told).into(),
    };
    Incoming {
        received,
        read_at: Micros(1),
        again: None,
        incarnation: Default::default(),
        known: false,
    }
}

fn note(seen: &mut Seen, entry: &Entry) {
    match entry {
        Entry::DeadLetter(letter) => {
            seen.letters.insert(letter.event, letter.reason.to_string());
        }
        Entry::Counted(Counted {
            partition,
            counted_to,
            counts,
            ..
        }) => {
            let to = seen.counted_to.entry(*partition).or_default();
            *to = (*to).max(*counted_to);
            for (word, count) in counts {
                *seen.counts.entry(word.to_string()).or_default() += count;
            }
        }
        Entry::Settled(_) | Entry::Sent(_) | Entry::Numbers(_) => unreachable!("there is no sink here"),
    }
}

/// The plain fold that it must equal.
fn oracle(partitions: &[Vec<Told>]) -> Seen {
    let mut seen = Seen::default();
    for (partition, records) in partitions
        .iter()
        .enumerate()
        .filter(|(_, records)| !records.is_empty())
    {
        seen.counted_to.insert(partition as i32, records.len() as u64);
        for told in records {
            let body = body(*told);
            let id = |body: &str| {
                dbb_events::decode(body.as_bytes())
                    .unwrap()
                    .identity(body.as_bytes())
            };
            let word = match told {
                Told::Landed(_) => {
                    for target in ["main", "copy"] {
                        seen.requests.insert((id(&body), target.into()));
                    }
                    "arrival"
                }
                Told::LandedUnmapped(_) => {
                    seen.letters.insert(id(&body), "unmapped".into());
                    "arrival"
                }
                Told::Deleted(_) => "other_event_type",
                Told::Garbage(_) => {
                    seen.letters
                        .insert(EventId::of_bytes(body.as_bytes()), "unreadable".into());
                    "dead_letter"
                }
            };
            *seen.counts.entry(word.into()).or_default() += 1;
        }
    }
    seen.delivered = seen.requests.len();
    seen
}

fn told() -> impl Strategy<Value = Told> {
    // Few numbers, so that many records repeat one another.
    (0u8..4, 0u8..12).prop_map(|(what, n)| match what {
        0 => Told::Deleted(n),
        1 => Told::LandedUnmapped(n),
        2 => Told::Garbage(n),
        _ => Told::Landed(n),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_number_of_workers_asks_once_for_each_event_and_counts_each_record_once(
        partitions in prop::collection::vec(prop::collection::vec(told(), 0..40), 1..5),
        workers in 1usize..4,
        chunk in 1usize..15,
    ) {
        prop_assert_eq!(run(&partitions, workers, chunk, &HashMap::new()), oracle(&partitions));
    }

    #[test]
    fn what_is_read_again_after_a_restart_is_not_counted_again(
        partitions in prop::collection::vec(prop::collection::vec(told(), 0..40), 1..4),
        cut in 0usize..40,
        workers in 1usize..4,
    ) {
        let before: Vec<Vec<Told>> =
            partitions.iter().map(|records| records[..cut.min(records.len())].to_vec()).collect();
        let first = run(&before, workers, 7, &HashMap::new());
        let at = |to: u64| Position::new(Incarnation::default(), to);
        let counted_to = first.counted_to.iter().map(|(p, to)| (("events".into(), *p), at(*to))).collect();
        // Offsets were not committed: everything is read again.
        let second = run(&partitions, 1, 5, &counted_to);
        let mut counts = first.counts;
        for (word, count) in second.counts {
            *counts.entry(word).or_default() += count;
        }
        prop_assert_eq!(counts, oracle(&partitions).counts);
    }
}
