//! An event that was counted before a stop is not counted again after it.

use crate::{
    run::{EVERY, Fact, Run, run},
    stored::Stored,
};
use dbb_events::{Action, Did, EventId, Kind, Micros, Place, Rse};
use dbb_operators::{
    Arrival, Epoch,
    checkpoint::{Checkpoints, Collected, Keep, Restored},
    facts::{Attempt, DidKey, RseName, ScopeName, Step, UNKNOWN_MS},
    identify::{Remember, identify},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle,
        operators::{Input, Inspect, Probe},
    },
};

fn done(event: u64) -> Fact {
    Fact::Attempt(Attempt {
        event: EventId::of_bytes(&event.to_le_bytes()),
        did: DidKey::new("raw", "a"),
        scope: ScopeName::new("raw"),
        step: Step::Done,
        at: Micros(0),
        src: None,
        rse: RseName::new("SLAC"),
        bytes: None,
        dataset: None,
        rule: None,
        failure: None,
        waited_ms: UNKNOWN_MS,
        queued_ms: UNKNOWN_MS,
        ran_ms: UNKNOWN_MS,
        noticed_ms: UNKNOWN_MS,
    })
}

#[test]
fn events_are_remembered_over_a_stop_for_as_long_as_was_said() {
    let remember = Some(10 * EVERY);
    let first = run(Run {
        facts: &[(0, done(1)), (4, done(2))],
        workers: 2,
        last: 2 * EVERY,
        remember,
        ..Run::default()
    });
    let mut stored = Stored::default();
    // The run died: its end is in no checkpoint.
    let collected = first.collected.into_iter().filter(|collected| !collected.is_last);
    collected.for_each(|collected| stored.take(collected));
    assert_eq!(
        (stored.epoch(), stored.count("distinct_attempts")),
        (2 * EVERY, 2)
    );

    let count = |after: Epoch| {
        let epoch = 2 * EVERY + after;
        let ran = run(Run {
            facts: &[(epoch, done(1)), (epoch, done(2)), (epoch, done(3))],
            last: epoch,
            restored: Some(stored.clone()),
            remember,
            ..Run::default()
        });
        let rows = &ran.views["transfers"];
        let done = rows[0].split("\"done\":").nth(1).unwrap();
        done.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(count(1), 3);
    assert_eq!(count(8 * EVERY), 3);
    assert_eq!(
        count(50 * EVERY),
        5,
        "forgotten in the end, as in a run that goes on"
    );
}

fn arrival(event: u64, seconds: i64) -> Arrival {
    Arrival {
        event: EventId::of_bytes(&event.to_le_bytes()),
        place: Place {
            stream: "topic".into(),
            partition: 0,
            offset: 0,
            line: None,
        },
        topic: None,
        event_type: "transfer-done".into(),
        did: Did::new("raw", "a"),
        rse: Rse("SLAC".into()),
        action: Action::Register(Kind::RawFile),
        created_at: Micros(0),
        url: "".into(),
        sidecar: "".into(),
        bytes: None,
        adler32: None,
        landed_at: None,
        appended_at: None,
        read_at: Micros(1_700_000_000_000_000).plus_seconds(seconds),
        again: None,
        body: bytes::Bytes::new(),
    }
}

/// How many arrivals pass, and what is collected. Each is at the epoch of its place in the list, after those of a
/// checkpoint.
fn identified(arrivals: &[Arrival], workers: usize, from: Option<Stored>) -> (usize, Vec<Collected>) {
    let after = from.as_ref().map(|stored| stored.epoch());
    let (checkpoints, receiver) = Checkpoints::new(EVERY, after);
    let checkpoints = Arc::new(checkpoints);
    let keep = Keep {
        checkpoints: Arc::clone(&checkpoints),
        restored: from.map(|stored| Arc::new(stored) as Arc<dyn Restored>),
    };
    let (passed, arrivals) = (Arc::new(AtomicUsize::new(0)), arrivals.to_vec());
    let counted = Arc::clone(&passed);
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mut input = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Arrival>>>::new();
        let probe = ProbeHandle::new();
        let counted = Arc::clone(&counted);
        worker.dataflow(|scope| {
            let remember = Remember {
                seconds: 3600,
                epochs: Some(1000),
            };
            identify(scope.input_from(&mut input), remember, Some(&keep), |_| {})
                .inspect(move |_| {
                    counted.fetch_add(1, Ordering::Relaxed);
                })
                .probe_with(&probe);
        });
        let first = after.map_or(0, |after| after + 1);
        input.advance_to(first);
        worker.step_while(|| first > 0 && probe.less_than(&first));
        for (epoch, arrival) in (first..).zip(&arrivals) {
            if worker.index() == 0 {
                checkpoints.minted(epoch, Micros(0));
                input.send(arrival.clone());
            }
            input.advance_to(epoch + 1);
        }
    });
    guards.unwrap().join().into_iter().for_each(Result::unwrap);
    (passed.load(Ordering::Relaxed), receiver.try_iter().collect())
}

#[test]
fn an_arrival_that_was_identified_before_a_stop_is_known_after_it() {
    for (before, after) in [(1, 1), (2, 1), (1, 4)] {
        let first: Vec<Arrival> = (0..10).map(|n| arrival(n, n as i64)).collect();
        let (passed, collected) = identified(&first, before, None);
        assert_eq!(passed, 10);
        let mut stored = Stored::default();
        collected.into_iter().for_each(|collected| stored.take(collected));
        // The first word after the stop comes late, and the identities are not forgotten with it.
        let again: Vec<Arrival> = (0..20).map(|n| arrival(n, 3000 + 10 * n as i64)).collect();
        assert_eq!(
            identified(&again, after, Some(stored)).0,
            10,
            "{before} to {after} workers"
        );
    }
}
