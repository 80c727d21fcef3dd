//! The frontier behind `deliver` never passes a request that has not been answered, batches keep to
//! their limits, and a busy port makes large batches instead of many.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_operators::{
    Batching, Epoch,
    deliver::{Delivery, Lane, deliver},
    port::{Served, port},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle,
        operators::{Input, Probe},
    },
};

type Request = (Epoch, u64);

fn delivery(batching: Batching) -> Delivery<Request, u64> {
    Delivery {
        name: "deliver",
        exchange: Box::new(|request| request.1 % 2),
        lane: Box::new(|request| Lane {
            port: (request.1 % 2) as usize,
            group: request.1 % 3,
        }),
        bytes: Box::new(|_| 100),
        batching,
        clock: Box::new(Instant::now),
        on_lost: Box::new(|port| panic!("port {port} lost")),
    }
}

/// Answers after a while that differs from batch to batch; remembers what it was given.
fn serve(
    served: Served<Request, Request>,
    seen: Arc<Mutex<Vec<Vec<Request>>>>,
    answered: Arc<Mutex<BTreeSet<Request>>>,
) {
    std::thread::spawn(move || {
        for batch in &served.batches {
            std::thread::sleep(Duration::from_micros(batch.id * 7919 % 3000));
            seen.lock().unwrap().push(batch.requests.clone());
            answered.lock().unwrap().extend(batch.requests.iter().copied());
            served.answer(batch.id, batch.requests);
        }
    });
}

#[test]
fn the_frontier_passes_an_epoch_only_when_all_of_it_is_answered() {
    let (first, first_served) = port(1);
    let (second, second_served) = port(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    serve(first_served, Arc::clone(&seen), Arc::clone(&answered));
    serve(second_served, Arc::clone(&seen), Arc::clone(&answered));
    let batching = Batching {
        max_datasets: 10,
        max_bytes: 700,
        max_wait_ms: 2,
    };
    let answered_by_then = Arc::clone(&answered);
    timely::execute(timely::Config::process(2), move |worker| {
        let probe = ProbeHandle::new();
        let mut input = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Request>>>::new();
        let ports = vec![first.clone(), second.clone()];
        worker.dataflow(|scope| {
            deliver(scope.input_from(&mut input), ports, delivery(batching)).probe_with(&probe);
        });
        let mut sent: BTreeMap<Epoch, Vec<Request>> = BTreeMap::new();
        let check = |sent: &mut BTreeMap<Epoch, Vec<Request>>| {
            let done = answered_by_then.lock().unwrap();
            while let Some(entry) = sent.first_entry() {
                if probe.less_equal(entry.key()) {
                    break;
                }
                for request in entry.remove() {
                    assert!(
                        done.contains(&request),
                        "epoch {} closed before {request:?} was answered",
                        request.0
                    );
                }
            }
        };
        for epoch in 0..60 {
            for n in 0..(epoch * 7 % 23) {
                let request = (epoch, (worker.index() as u64) * 1_000_000 + epoch * 1000 + n);
                sent.entry(epoch).or_default().push(request);
                input.send(request);
            }
            input.advance_to(epoch + 1);
            worker.step();
            check(&mut sent);
        }
        input.close();
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(1)));
            check(&mut sent);
        }
        check(&mut sent);
        assert!(sent.is_empty());
    })
    .unwrap()
    .join()
    .into_iter()
    .for_each(|result| result.unwrap());
    let seen = seen.lock().unwrap();
    let delivered: usize = seen.iter().map(Vec::len).sum();
    assert_eq!(
        delivered,
        answered.lock().unwrap().len(),
        "each request is delivered once"
    );
    assert!(delivered > 1000, "{delivered}");
    for batch in seen.iter() {
        assert!(
            batch.len() <= 7,
            "700 bytes hold 7 requests of 100, not {}",
            batch.len()
        );
        assert!(
            batch
                .iter()
                .all(|r| r.1 % 2 == batch[0].1 % 2 && r.1 % 3 == batch[0].1 % 3),
            "one lane a batch"
        );
    }
}

#[test]
fn a_busy_port_gathers_full_batches() {
    let (busy, served) = port::<Request, Request>(1);
    let (other, _other_served) = port::<Request, Request>(1);
    let batching = Batching {
        max_datasets: 100,
        max_bytes: 1 << 20,
        max_wait_ms: 1,
    };
    timely::execute_directly(move |worker| {
        let probe = ProbeHandle::new();
        let mut input = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Request>>>::new();
        worker.dataflow(|scope| {
            deliver(
                scope.input_from(&mut input),
                vec![busy, other],
                delivery(batching),
            )
            .probe_with(&probe);
        });
        // All in the lane (port 0, group 0): multiples of 6.
        for epoch in 0..50 {
            for n in 0..2 {
                input.send((epoch, (epoch * 2 + n) * 6));
            }
            input.advance_to(epoch + 1);
            worker.step_or_park(Some(Duration::from_millis(2)));
            std::thread::sleep(Duration::from_millis(1));
        }
        let first = served.batches.recv().unwrap();
        assert!(
            first.requests.len() < 10,
            "an idle port gets what there is after max_wait_ms"
        );
        worker.step();
        assert!(
            served.batches.is_empty(),
            "while it is busy, nothing but a full batch is cut"
        );
        let rest = 100 - first.requests.len();
        served.answer(first.id, first.requests);
        worker.step_while(|| served.batches.is_empty());
        let second = served.batches.recv().unwrap();
        assert_eq!(second.requests.len(), rest);
        served.answer(second.id, second.requests);
        input.close();
        worker.step_while(|| !probe.done());
    });
}
