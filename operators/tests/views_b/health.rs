//! Stream health adds up what readers and operators notice, and forgets how late events were long ago.

use dbb_events::{Micros, Place};
use dbb_operators::{
    Epoch,
    publish::Publisher,
    replicas::Notice,
    views::{
        Scan,
        stream_health::{Count, Counters, Health, Heard, Hearing, Noticed, Read, gathered, stream_health},
    },
};
use std::{cell::RefCell, rc::Rc, sync::Arc};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{InputHandle, operators::Input},
};

type Handle<D> = InputHandle<Epoch, CapacityContainerBuilder<Vec<D>>>;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

/// A record read at `read_at` of an event that was made `late` microseconds before; unreadable if `None`.
fn read(hearing: &mut Hearing, partition: i32, offset: u64, read_at: i64, late: Option<i64>) {
    let place = Place {
        stream: "raws".into(),
        partition,
        offset,
        line: None,
    };
    hearing.read(Read {
        place: &place,
        read_at: Micros(read_at),
        appended_at: None,
        created_at: late.map(|late| Micros(read_at - late)),
    });
}

fn taken(hearing: &mut Hearing) -> Vec<Heard> {
    let mut heard = Vec::new();
    hearing.take(&mut heard);
    heard
}

#[test]
fn a_summary_counts_gaps_repeats_and_lateness() {
    let mut hearing = Hearing::default();
    read(&mut hearing, 0, 7, 10, Some(2 * SECOND));
    read(&mut hearing, 0, 8, 20, None);
    read(&mut hearing, 0, 11, 30, Some(-SECOND));
    read(&mut hearing, 0, 8, 40, Some(2 * SECOND));
    read(&mut hearing, 1, 100, 50, Some(0));
    let heard = taken(&mut hearing);
    let counts: Vec<_> = heard
        .iter()
        .map(|h| (h.partition, h.next, h.records, h.again, h.unreadable, h.gaps))
        .collect();
    assert_eq!(
        counts,
        [(0, 12, 4, 1, 1, 2), (1, 101, 1, 0, 0, 0)],
        "the first offset leaves no gap"
    );
    let late: Vec<u32> = heard[0].lateness.iter().map(|(_, count)| *count).collect();
    assert_eq!(late, [1, 2], "an event from the future is not late");
    assert_eq!(taken(&mut hearing), [], "nothing was read since");

    let stream: Arc<str> = "raws".into();
    hearing.lag(&stream, 1, 5);
    hearing.lost(&stream, 1, 10, 111);
    read(&mut hearing, 1, 111, 60, Some(0));
    let heard = taken(&mut hearing);
    assert_eq!((heard[0].lag, heard[0].gaps, heard[0].next), (Some(5), 10, 112));
    assert_eq!(heard.len(), 1);

    // Offsets of a file are places of lines.
    for (line, offset) in [(1, 0), (2, 950), (3, 1900)] {
        let place = Place {
            stream: "night.ndjson".into(),
            partition: 0,
            offset,
            line: Some(line),
        };
        hearing.read(Read {
            place: &place,
            read_at: Micros(0),
            appended_at: None,
            created_at: None,
        });
    }
    assert_eq!(taken(&mut hearing)[0].gaps, 0);
}

/// The table as text, cells parted by spaces, `-` for what is not told.
fn shown(publisher: &Publisher) -> Vec<String> {
    let published = publisher.newest().expect("something is published");
    let mut lines = Vec::new();
    for batch in published.tables["stream_health"].scan(&Scan::default()) {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                if column.is_null(row) {
                    return "-".to_owned();
                }
                let any = column.as_any();
                if let Some(texts) = any.downcast_ref::<arrow::array::StringArray>() {
                    texts.value(row).to_owned()
                } else if let Some(seconds) = any.downcast_ref::<arrow::array::Float64Array>() {
                    format!("{:.2}s", seconds.value(row))
                } else if let Some(numbers) = any.downcast_ref::<arrow::array::Int32Array>() {
                    numbers.value(row).to_string()
                } else {
                    any.downcast_ref::<arrow::array::Int64Array>()
                        .unwrap()
                        .value(row)
                        .to_string()
                }
            });
            lines.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    lines
}

#[test]
fn totals_are_as_of_the_published_epoch_and_the_window_slides() {
    timely::execute_directly(|worker| {
        let publisher = Arc::new(Publisher::new(1));
        let (mut heard, mut counts) = (Handle::<Heard>::new(), Handle::<Count>::new());
        worker.dataflow(|scope| {
            let health = Health {
                publisher: Arc::clone(&publisher),
                window_us: 10 * MINUTE,
                clock: Box::new(|| Micros(1_000_250_000)),
            };
            stream_health(
                scope.input_from(&mut heard),
                scope.input_from(&mut counts),
                health,
            );
        });
        let mut hearing = Hearing::default();
        let mut epoch = 0;
        let mut tell = |hearing: &mut Hearing, noticed: &[Count]| {
            publisher.minted(epoch, Micros(1_000_000_000));
            for summary in taken(hearing) {
                heard.send(summary);
            }
            for count in noticed {
                counts.send(*count);
            }
            epoch += 1;
            heard.advance_to(epoch);
            counts.advance_to(epoch);
            for _ in 0..100 {
                worker.step();
            }
            assert_eq!(publisher.newest().unwrap().epoch + 1, epoch);
            shown(&publisher)
        };
        for offset in 0..99 {
            read(&mut hearing, 0, offset, MINUTE, Some(10_000));
        }
        read(&mut hearing, 0, 99, MINUTE, Some(50_000));
        hearing.lag(&"raws".into(), 0, 3);
        let repeats = Count {
            what: Noticed::Repeat,
            times: 4,
        };
        assert_eq!(
            tell(&mut hearing, &[repeats]),
            [
                "(all) - - 3 0.01s 100 4 0 0 - 0 0 0 0.25s",
                "raws 0 100 3 0.01s 100 0 0 0 - - - - 0.25s",
            ]
        );
        // One more late one is more than 1 %.
        read(&mut hearing, 0, 102, 2 * MINUTE, Some(50_000));
        read(&mut hearing, 1, 5, 2 * MINUTE, None);
        assert_eq!(
            tell(&mut hearing, &[]),
            [
                "(all) - - 3 0.05s 102 4 1 2 - 0 0 0 0.25s",
                "raws 0 103 3 0.05s 101 0 0 2 - - - - 0.25s",
                "raws 1 6 - - 1 0 1 0 - - - - 0.25s",
            ]
        );
        // Ten minutes later only the newest counts, though all stay counted.
        read(&mut hearing, 0, 103, 12 * MINUTE, Some(1_000));
        let shown = tell(&mut hearing, &[]);
        assert_eq!(shown[1], "raws 0 104 3 0.00s 102 0 0 2 - - - - 0.25s");
    });
}

#[test]
fn what_callbacks_count_is_told_before_its_epoch_ends() {
    for workers in [1, 2] {
        let publisher = Arc::new(Publisher::new(0));
        let shared = Arc::clone(&publisher);
        timely::execute(timely::Config::process(workers), move |worker| {
            let mut late = Handle::<u8>::new();
            let counters = Counters::default();
            let hearing = Rc::new(RefCell::new(Hearing::default()));
            let (counted, listened) = (counters.clone(), Rc::clone(&hearing));
            worker.dataflow(|scope| {
                let late = scope.input_from(&mut late);
                let heard = gathered(late.clone(), "heard", move |out| {
                    listened.borrow_mut().take(out);
                });
                let counts = gathered(late, "counts", move |out| counted.take(out));
                let health = Health {
                    publisher: Arc::clone(&shared),
                    window_us: MINUTE,
                    clock: Box::new(|| Micros(0)),
                };
                stream_health(heard, counts, health);
            });
            for epoch in 0..5 {
                counters.notice(Notice::TooLate);
                counters.add(Noticed::Conflict, epoch);
                read(&mut hearing.borrow_mut(), worker.index() as i32, epoch, 0, None);
                late.send(1);
                late.advance_to(epoch + 1);
                worker.step();
            }
        })
        .unwrap();
        let n = workers as u64;
        let all = format!("(all) - - - - {0} 0 {0} 0 - {1} 0 {0} -", 5 * n, 10 * n);
        assert_eq!(shown(&publisher)[0], all);
        assert_eq!(shown(&publisher).len(), workers + 1);
    }
}
