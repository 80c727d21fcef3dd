//! The backlog shows what a Butler has not answered yet, and holds nobody back while it has not.

use bytes::Bytes;
use dbb_events::{
    Action, Dependency, Did, EventId, Kind, Micros, Outcome, Place, Reason, Refusal, Request, Rse, Settled,
    Verified,
};
use dbb_operators::{
    Epoch,
    publish::{END, Publisher, publish},
    views::{Scan, ingest_backlog::ingest_backlog},
};
use std::{sync::Arc, time::Duration};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{InputHandle, ProbeHandle, operators::Input},
};

type Handle<D> = InputHandle<Epoch, CapacityContainerBuilder<Vec<D>>>;

pub(crate) fn request(event: u8) -> Request {
    let text: Arc<str> = "x".into();
    Request {
        event: EventId(u128::from(event)),
        target: if event < 10 { "main" } else { "second" }.into(),
        place: Place {
            stream: Arc::clone(&text),
            partition: 0,
            offset: 0,
            line: None,
        },
        event_type: Arc::clone(&text),
        did: Did::new("raw", format!("file{event}")),
        rse: Rse::new("FRDF"),
        action: Action::Register(Kind::ALL[0]),
        created_at: Micros(1_000_000 * i64::from(event)),
        url: Arc::clone(&text),
        uri: Arc::clone(&text),
        sidecar: Arc::clone(&text),
        bytes: Some(100),
        adler32: None,
        landed_at: None,
        appended_at: None,
        read_at: Micros(0),
        attempts: 0,
        waiting_since: None,
        was_unrouted: false,
        topic: None,
        body: Bytes::new(),
    }
}

pub(crate) fn settled(event: u8, at: i64, outcome: Outcome) -> Settled {
    Settled {
        request: request(event),
        outcome,
        at: Micros(at),
        took: None,
        uuids: Vec::new(),
        verified: Verified::NotAsked,
        provides: Vec::new(),
    }
}

pub(crate) fn waiting() -> Outcome {
    Outcome::Waiting {
        dependency: Dependency::Repository,
        not_before: Micros(0),
        detail: String::new(),
        counts: false,
    }
}

/// The view as text, one line a row: repository, files, bytes, waiting, oldest in seconds.
fn shown(publisher: &Publisher) -> Vec<String> {
    let published = publisher.newest().expect("something is published");
    let table = &published.tables["ingest_backlog"];
    let mut lines = Vec::new();
    for batch in table.scan(&Scan::default()) {
        let batch = batch.unwrap();
        let text = |n: usize| {
            batch
                .column(n)
                .as_any()
                .downcast_ref::<arrow::array::StringArray>()
                .unwrap()
        };
        let number = |n: usize| {
            batch
                .column(n)
                .as_any()
                .downcast_ref::<arrow::array::Int64Array>()
                .unwrap()
        };
        let oldest = batch
            .column(7)
            .as_any()
            .downcast_ref::<arrow::array::TimestampMicrosecondArray>()
            .unwrap();
        for row in 0..batch.num_rows() {
            lines.push(format!(
                "{} {} {} {} {} {} {}",
                text(0).value(row),
                text(1).value(row),
                text(2).value(row),
                number(3).value(row),
                number(4).value(row),
                number(5).value(row),
                oldest.value(row) / 1_000_000,
            ));
        }
    }
    lines
}

/// Steps until `epoch` is open; it needs nobody else, so not for ever.
pub(crate) fn reach(worker: &mut timely::worker::Worker, probe: &ProbeHandle<Epoch>, epoch: Epoch) {
    for _ in 0..1000 {
        if !probe.less_than(&epoch) {
            break;
        }
        worker.step();
    }
    assert!(!probe.less_than(&epoch), "epoch {epoch} waits for an answer");
    worker.step();
}

#[test]
fn what_is_not_answered_is_shown_before_it_is_answered() {
    timely::execute_directly(|worker| {
        let publisher = Arc::new(Publisher::new(1));
        let (mut meant, mut answers) = (Handle::<Request>::new(), Handle::<Settled>::new());
        let probe = ProbeHandle::new();
        worker.dataflow(|scope| {
            let rows = ingest_backlog(scope.input_from(&mut meant), scope.input_from(&mut answers));
            publish(rows.clone().probe_with(&probe), &publisher);
        });
        for event in [3, 4, 11] {
            meant.send(request(event));
        }
        meant.advance_to(5);
        // The first request of the answers' own epoch is not answered: their frontier stays at 0.
        reach(worker, &probe, 5);
        assert_eq!(publisher.newest().unwrap().epoch, 4);
        assert_eq!(
            shown(&publisher),
            ["main FRDF raw 2 200 0 3", "second FRDF raw 1 100 0 11"]
        );

        answers.send(settled(3, 1, Outcome::Ingested));
        answers.send(settled(4, 2, waiting()));
        answers.flush();
        worker.step();
        meant.advance_to(6);
        reach(worker, &probe, 6);
        assert_eq!(
            shown(&publisher),
            ["main FRDF raw 1 100 1 4", "second FRDF raw 1 100 0 11"]
        );

        // It is sent again by the ledger: the same one.
        meant.send(request(4));
        meant.advance_to(7);
        reach(worker, &probe, 7);
        assert_eq!(
            shown(&publisher),
            ["main FRDF raw 1 100 1 4", "second FRDF raw 1 100 0 11"]
        );
        answers.send(settled(4, 3, Outcome::AlreadyThere));
        let refusal = Refusal {
            reason: Reason::Butler,
            detail: String::new(),
        };
        answers.send(settled(11, 3, Outcome::Refused(refusal)));
        answers.flush();
        worker.step();
        meant.advance_to(8);
        reach(worker, &probe, 8);
        assert_eq!(shown(&publisher), [""; 0]);
    });
}

#[test]
fn the_end_waits_for_the_last_answer() {
    for workers in [1, 2] {
        let publisher = Arc::new(Publisher::new(0));
        let shared = Arc::clone(&publisher);
        timely::execute(timely::Config::process(workers), move |worker| {
            let (mut meant, mut answers) = (Handle::<Request>::new(), Handle::<Settled>::new());
            worker.dataflow(|scope| {
                let rows = ingest_backlog(scope.input_from(&mut meant), scope.input_from(&mut answers));
                publish(rows, &shared);
            });
            let mine = |event: u8| usize::from(event) % worker.peers() == worker.index();
            for event in (0..20).filter(|event| mine(*event)) {
                meant.advance_to(u64::from(event));
                meant.send(request(event));
            }
            meant.close();
            for _ in 0..50 {
                worker.step();
            }
            assert!(shared.newest().is_none(), "nothing has been answered");
            // The Butler's answers all come from one worker.
            if worker.index() == 0 {
                for event in (0..20).filter(|event| event % 5 != 0) {
                    let outcome = if event == 13 { waiting() } else { Outcome::Ingested };
                    answers.send(settled(event, 9, outcome));
                }
            }
        })
        .unwrap();
        let last = publisher.beyond(None, Duration::from_secs(0)).unwrap();
        assert_eq!(last.epoch, END);
        assert_eq!(
            shown(&publisher),
            ["main FRDF raw 2 200 0 0", "second FRDF raw 3 300 1 10"]
        );
    }
}
