//! How long attempts took: from what the ledger had counted on, answer by answer.

use super::backlog::{reach, request, settled, waiting};
use arrow::array::{Array, Float64Array, Int64Array, StringArray};
use dbb_events::{Outcome, Request, Settled, sketch};
use dbb_operators::{
    Epoch,
    publish::{Publisher, publish},
    views::{
        Scan,
        attempts::{Tried, attempts},
    },
};
use std::{sync::Arc, time::Duration};
use timely::dataflow::{ProbeHandle, operators::Input};

type Handle<D> = timely::dataflow::InputHandle<Epoch, timely::container::CapacityContainerBuilder<Vec<D>>>;

/// One line a row: repository, outcome, how many, and the quantiles in seconds.
fn shown(publisher: &Publisher) -> Vec<String> {
    let published = publisher.newest().expect("something is published");
    let mut lines = Vec::new();
    for batch in published.tables["attempts"].scan(&Scan::default()) {
        let batch = batch.unwrap();
        let text = |n: usize, row| {
            let column = batch.column(n).as_any().downcast_ref::<StringArray>().unwrap();
            column.value(row).to_owned()
        };
        let count = batch.column(2).as_any().downcast_ref::<Int64Array>().unwrap();
        let seconds = |n: usize, row| {
            let column = batch.column(n).as_any().downcast_ref::<Float64Array>().unwrap();
            format!("{:.3}", column.value(row))
        };
        for row in 0..batch.num_rows() {
            lines.push(format!(
                "{} {} {} {} {} {}",
                text(0, row),
                text(1, row),
                count.value(row),
                seconds(3, row),
                seconds(4, row),
                seconds(5, row),
            ));
        }
    }
    lines
}

fn took(ms: u64, settled: Settled) -> Settled {
    Settled {
        took: Some(Duration::from_millis(ms)),
        ..settled
    }
}

#[test]
fn attempts_are_counted_on_from_those_of_the_ledger_and_wait_for_no_answer() {
    timely::execute_directly(|worker| {
        let publisher = Arc::new(Publisher::new(1));
        let (mut meant, mut answers) = (Handle::<Request>::new(), Handle::<Settled>::new());
        let probe = ProbeHandle::new();
        let before = vec![Tried {
            at: ("main".into(), "ingested".into()),
            bucket: sketch::bucket(10),
            count: 98,
        }];
        worker.dataflow(|scope| {
            let (meant, answers) = (scope.input_from(&mut meant), scope.input_from(&mut answers));
            let rows = attempts(meant, answers, before);
            publish(rows.clone().probe_with(&probe), &publisher);
        });
        meant.send(request(3));
        meant.advance_to(5);
        // The frontier of the answers stays at 0: a repository that is slow holds up nobody.
        reach(worker, &probe, 5);
        assert_eq!(shown(&publisher), ["main ingested 98 0.010 0.010 0.010"]);

        answers.send(took(40, settled(3, 1, Outcome::Ingested)));
        answers.send(took(50, settled(4, 1, Outcome::Ingested)));
        answers.send(took(20, settled(11, 1, waiting())));
        // Nobody was asked.
        answers.send(settled(5, 2, waiting()));
        answers.flush();
        worker.step();
        meant.advance_to(6);
        reach(worker, &probe, 6);
        assert_eq!(
            shown(&publisher),
            [
                "main ingested 100 0.010 0.010 0.040",
                "second waiting 1 0.020 0.020 0.020"
            ]
        );
    });
}
