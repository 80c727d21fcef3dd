//! From records to what a hub publishes: whatever the number of workers, the order, the repeats and what look-ups say, each
//! event goes where a plain reading of the rules sends it, once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{
    Again, Class, Dependency, Did, Entry, EventId, Found, Labels, Micros, Outcome, Outgoing, Place, Reason,
    Received, Refusal, Sent,
};
use dbb_operators::{
    Batching, Epoch, Incoming,
    decode::{Role, decode},
    facts::Wanted,
    hub::{Embargo, LookingUp, Namer, Rules, TopicSettings, enrich},
    identify::{Remember, identify},
    port::port,
};
use proptest::prelude::*;
use serde_json::{Value, json};
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

const SIDECAR: &str = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument"]},"dataId":{"dataId":{"instrument":"LSSTCam","day_obs":20261120}},"run":"LSSTCam/raw/all"}"#;

/// What an event tells, of which file.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// Without labels in the event; the number decides what a look-up says.
    Landed(u8),
    /// With labels in the event.
    Labelled(u8),
    LandedNowhere(u8),
    Deleted(u8),
    Queued(u8),
    Garbage(u8),
}

fn body(told: Told) -> String {
    let event = |event_type: &str, n: u8, rse: &str, labels: &str| {
        format!(
            r#"{{"event_type": "{event_type}", "payload": {{"request-id": "{event_type}{rse}{n}", "scope": "raw", "name": "f{n}", "rse": "{rse}", "dst-rse": "{rse}", "dst-url": "davs://h/{rse}/raw/f{n}", "url": "davs://h/{rse}/raw/f{n}", "transferred_at": "2026-11-21 19:14:45"{labels}}}, "created_at": "2026-11-21 19:14:49.938629"}}"#
        )
    };
    match told {
        Told::Landed(n) => event("transfer-done", n, "A_DISK", ""),
        Told::Labelled(n) => event(
            "transfer-done",
            n,
            "B_DISK",
            r#", "rubin_butler": "zip_file", "rubin_sidecar": """#,
        ),
        Told::LandedNowhere(n) => event("transfer-done", n, "NOBODYS_DISK", ""),
        Told::Deleted(n) => event("deletion-done", n, "A_DISK", ""),
        Told::Queued(n) => event("transfer-queued", n, "A_DISK", ""),
        Told::Garbage(n) => format!("{{\"event_type\": {n}"),
    }
}

/// What is known of file `n`.
fn found(n: u8) -> Found {
    let labels = |labels: &[(&str, Value)]| {
        let labels: Labels = labels
            .iter()
            .map(|(name, value)| (Arc::from(*name), value.clone()))
            .collect();
        Found::Labels(Arc::new(labels))
    };
    match n % 5 {
        0 => labels(&[]),
        1 => Found::Later(Outcome::Waiting {
            dependency: Dependency::Labels,
            not_before: Micros(9),
            detail: "Rucio is away".into(),
            counts: false,
        }),
        2 => Found::Refused(Refusal {
            reason: Reason::BadSidecar,
            detail: "no dataset".into(),
        }),
        3 => labels(&[
            ("rubin_butler", json!("zip_file")),
            ("rubin_sidecar", json!("")),
            ("other", json!(1)),
        ]),
        _ => labels(&[
            ("rubin_butler", json!("raw_file")),
            ("rubin_sidecar", json!(SIDECAR)),
        ]),
    }
}

fn topics() -> Arc<TopicSettings> {
    let text = r#"{"rses": ["{A,B}_DISK"]}"#;
    Arc::new(serde_json::from_str(text).unwrap())
}

fn rules() -> Rules {
    Rules {
        labels: vec!["rubin_butler".into(), "rubin_sidecar".into()],
        ..Rules::default()
    }
}

/// What came out.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// (topic, body), once each.
    published: BTreeSet<(String, String)>,
    count: usize,
    ended: BTreeMap<EventId, &'static str>,
    letters: BTreeSet<EventId>,
    counts: BTreeMap<String, u64>,
    asked: BTreeSet<String>,
}

/// Runs partition p on worker p mod `workers`; files with an odd number are known already, where a look-up finds labels.
fn run(partitions: &[Vec<Told>], workers: usize, chunk: usize) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (partitions, out) = (partitions.to_vec(), Arc::clone(&seen));
    timely::execute(timely::Config::process(workers), move |worker| {
        let probe = ProbeHandle::new();
        let mut input = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Incoming>>>::new();
        let (port, served) = port::<Outgoing, (Outgoing, Found)>(1);
        let asked = Arc::clone(&out);
        for served in [served.clone(), served] {
            let asked = Arc::clone(&asked);
            std::thread::spawn(move || {
                for batch in &served.batches {
                    let answer = |outgoing: Outgoing| {
                        asked.lock().unwrap().asked.insert(outgoing.did.name.to_string());
                        let n = outgoing.did.name[1..].parse().unwrap();
                        (outgoing, found(n))
                    };
                    let answers = batch.requests.into_iter().map(answer).collect();
                    served.answer(batch.id, answers);
                }
            });
        }
        worker.dataflow(|scope| {
            let decoded = decode(
                scope.input_from(&mut input),
                Role::Hub(topics()),
                HashMap::new(),
                Wanted::default(),
                |_, _| {},
                |_, _| {},
            );
            let hour = Remember {
                seconds: 3600,
                epochs: None,
            };
            let outgoing = identify(decoded.outgoing, hour, None, |_| {});
            let looking_up = LookingUp {
                port,
                known: Arc::new(|did: &Did| {
                    let n: u8 = did.name[1..].parse().unwrap();
                    match found(n) {
                        Found::Labels(labels) if n % 2 == 1 => Some(labels),
                        _ => None,
                    }
                }),
                batching: Batching {
                    max_datasets: 3,
                    max_bytes: 1 << 20,
                    max_wait_ms: 1,
                },
                on_lost: Box::new(|| panic!("the thread has gone")),
            };
            let namer = || Namer::new(topics());
            let enriched = enrich(
                outgoing,
                Arc::new(rules()),
                namer,
                Some(looking_up),
                || Micros(7),
                |_| {},
            );
            let published = Arc::clone(&out);
            enriched
                .outgoing
                .inspect(move |outgoing| {
                    let mut seen = published.lock().unwrap();
                    let body = String::from_utf8(outgoing.body.to_vec()).unwrap();
                    seen.count += 1;
                    seen.published.insert((outgoing.topic.to_string(), body));
                })
                .probe_with(&probe);
            for entries in [decoded.entries, enriched.entries] {
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
                    input.send(incoming(*partition, offset, &body(*told)));
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
    let mut seen = seen.lock().unwrap();
    std::mem::take(&mut *seen)
}

fn incoming(partition: usize, offset: usize, body: &str) -> Incoming {
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
        body: body.to_owned().into(),
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
        Entry::Sent(sent) => {
            seen.ended.insert(sent.outgoing.event, sent.outcome.as_str());
        }
        Entry::DeadLetter(letter) => {
            seen.letters.insert(letter.event);
        }
        Entry::Counted(counted) => {
            for (word, count) in &counted.counts {
                *seen.counts.entry(word.to_string()).or_default() += count;
            }
        }
        Entry::Settled(_) | Entry::Numbers(_) => unreachable!("there is no site here"),
    }
}

/// The plain reading that it must equal; but for what was asked.
fn oracle(partitions: &[Vec<Told>]) -> Seen {
    let mut seen = Seen::default();
    for told in partitions.iter().flatten() {
        let body = body(*told);
        let id = || {
            dbb_events::decode(body.as_bytes())
                .unwrap()
                .identity(body.as_bytes())
        };
        let mut publish = |topic: &str, body: String| seen.published.insert((topic.into(), body));
        let word = match *told {
            Told::Landed(n) => {
                match found(n) {
                    Found::Labels(labels) if labels.is_empty() => {
                        publish("A_DISK-raw-files", body);
                    }
                    Found::Labels(labels) => {
                        // As Python writes them: this sidecar has no character that it writes otherwise than serde.
                        let label = |name: &str| json!(labels[name].as_str().unwrap()).to_string();
                        let (butler, sidecar) = (label("rubin_butler"), label("rubin_sidecar"));
                        let added = format!(
                            r#", "rubin_butler": {butler}, "rubin_sidecar": {sidecar}}}, "created_at""#
                        );
                        publish("A_DISK-raw", body.replace(r#"}, "created_at""#, &added));
                    }
                    Found::Later(_) => drop(seen.ended.insert(id(), "waiting")),
                    Found::Refused(_) => drop(seen.ended.insert(id(), "refused")),
                }
                "landing"
            }
            Told::Labelled(_) => {
                publish("B_DISK-raw", body);
                "landing"
            }
            Told::LandedNowhere(_) => {
                publish("dbb-dead-letters", body);
                "unroutable"
            }
            Told::Deleted(_) => {
                publish("A_DISK-raw-deletions", body);
                "deletion"
            }
            Told::Queued(_) => "other_event_type",
            Told::Garbage(_) => {
                seen.letters.insert(EventId::of_bytes(body.as_bytes()));
                publish("dbb-dead-letters", body);
                "dead_letter"
            }
        };
        *seen.counts.entry(word.into()).or_default() += 1;
    }
    seen.count = seen.published.len();
    seen
}

fn told() -> impl Strategy<Value = Told> {
    (0u8..7, 0u8..12).prop_map(|(what, n)| match what {
        0 => Told::Deleted(n),
        1 => Told::LandedNowhere(n),
        2 => Told::Garbage(n),
        3 => Told::Labelled(n),
        4 => Told::Queued(n),
        _ => Told::Landed(n),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_event_goes_once_to_the_topic_that_the_rules_name(
        partitions in prop::collection::vec(prop::collection::vec(told(), 0..40), 1..5),
        workers in 1usize..4,
        chunk in 1usize..15,
    ) {
        let mut seen = run(&partitions, workers, chunk);
        let asked = std::mem::take(&mut seen.asked);
        prop_assert_eq!(seen, oracle(&partitions));
        let landed: BTreeSet<String> = partitions.iter().flatten().filter_map(|told| match told {
            // What is known, and what landed nowhere, is never asked for.
            Told::Landed(n) if !(n % 2 == 1 && matches!(found(*n), Found::Labels(_))) => Some(format!("f{n}")),
            _ => None,
        }).collect();
        prop_assert_eq!(asked, landed);
    }
}

/// What becomes of one event on its way through all of a hub, with these labels in Rucio.
fn concluded(
    rules: &Rules,
    body: &str,
    labels: Labels,
    again: Option<Again>,
) -> dbb_operators::hub::Concluded {
    let mut incoming = incoming(0, 0, body);
    incoming.again = again;
    let mut namer = Namer::new(Arc::default());
    let decoded = dbb_events::decode(&incoming.received.body);
    let judged = dbb_operators::hub::judge::judge(&incoming, &decoded, &mut namer);
    let dbb_operators::Classified::Outgoing(outgoing) = judged else {
        panic!("{judged:?}")
    };
    rules.conclude(
        *outgoing,
        Some(Found::Labels(Arc::new(labels))),
        &mut namer,
        Micros(7),
    )
}

fn embargo() -> Rules {
    let embargo: Embargo =
        serde_json::from_value(json!({"name": "80h", "scope": "raw", "partners": ["A_*"], "hours": 80}))
            .unwrap();
    Rules {
        embargoes: vec![embargo],
        ..rules()
    }
}

fn raw(day_obs: u32) -> Labels {
    let sidecar = SIDECAR.replace("20261120", &day_obs.to_string());
    [
        ("rubin_butler", json!("raw_file")),
        ("rubin_sidecar", json!(sidecar)),
    ]
    .into_iter()
    .map(|(name, value)| (Arc::from(name), value))
    .collect()
}

fn held(concluded: dbb_operators::hub::Concluded) -> Option<Sent> {
    match concluded {
        dbb_operators::hub::Concluded::Ended(sent) => Some(*sent),
        dbb_operators::hub::Concluded::Publish(_) => None,
    }
}

#[test]
fn a_file_that_landed_at_a_partner_under_embargo_is_held_until_an_operator_releases_it() {
    let (rules, landed) = (embargo(), body(Told::Landed(4)));
    let sent = held(concluded(&rules, &landed, raw(20261119), None)).expect("landed two days too early");
    let Outcome::Waiting {
        dependency, detail, ..
    } = sent.outcome
    else {
        panic!()
    };
    assert_eq!(dependency, Dependency::Embargo);
    assert_eq!(
        detail,
        "landed at `A_DISK` under embargo `80h`: it is of day_obs 20261119, free from 2026-11-23T20:00:00.000000Z on; \
         an operator has to release it"
    );
    let released = Again {
        event: EventId(1),
        target: "topics".into(),
        attempts: 0,
        waiting_since: Some(Micros(1)),
        released: true,
    };
    assert_eq!(
        held(concluded(&rules, &landed, raw(20261119), Some(released.clone()))),
        None
    );
    // Time alone changes nothing: what counts is when it landed.
    let due = Again {
        released: false,
        ..released
    };
    assert!(held(concluded(&rules, &landed, raw(20261119), Some(due))).is_some());
    assert_eq!(
        held(concluded(&rules, &landed, raw(20261115), None)),
        None,
        "it was free"
    );
    assert_eq!(
        held(concluded(&rules, &body(Told::Labelled(1)), raw(20261119), None)),
        None,
        "no partner"
    );
    assert!(
        held(concluded(&rules, &landed, Labels::new(), None)).is_some(),
        "nobody knows how old it is"
    );
    assert_eq!(
        held(concluded(&rules, &body(Told::Deleted(1)), Labels::new(), None)),
        None,
        "it is gone"
    );
}

#[test]
fn a_file_that_no_policy_wants_there_is_published_and_told() {
    let policy = json!({"name": "tracts", "scope": "raw", "not_in_datasets": ["raw:*/Tract{1..5}/*"], "must_not": ["A_*"]});
    let rules = Rules {
        policies: Arc::from([serde_json::from_value(policy).unwrap()]),
        ..rules()
    };
    let of_dataset = |dataset: &str| {
        let label = format!(r#""scope": "raw", "datasetScope": "raw", "dataset": "{dataset}""#);
        body(Told::Landed(4)).replace(r#""scope": "raw""#, &label)
    };
    let told = |body: &str| match concluded(&rules, body, raw(20261119), None) {
        dbb_operators::hub::Concluded::Publish(outgoing) => {
            assert_eq!(
                (outgoing.class, outgoing.topic.as_ref()),
                (Class::Landed, "A_DISK-raw")
            );
            rules.unexpected(&outgoing).map(|policy| policy.name.clone())
        }
        ended => panic!("{ended:?}"),
    };
    assert_eq!(
        told(&of_dataset("LSSTCam/raw/Tract9/20261119")).as_deref(),
        Some("tracts")
    );
    assert_eq!(told(&of_dataset("LSSTCam/raw/Tract3/20261119")), None);
    assert_eq!(
        told(&body(Told::Landed(4))),
        None,
        "nobody knows in which datasets it is"
    );
}
