//! Whatever is lost, repeated, sent again or read again: what is missing is what has not come, no more and no less.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{Entry, Gap, Lane, Micros, Numbers, Ranges};
use dbb_operators::{
    Epoch,
    sequences::{
        Follow, Following, MOST_GAPS, MOST_PIECES, Noted, Noticed, Numbered, Said, Times, sequences,
    },
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle,
        operators::{Input, Inspect},
    },
};

const PATIENCE: i64 = 60;

fn lane(partition: i32) -> Lane {
    Lane {
        topic: "R-raw".into(),
        partition,
    }
}

fn times(now: i64) -> Times {
    Times {
        now: Micros(now),
        ask: Micros(now + PATIENCE),
    }
}

/// What the ledger would hold of a lane.
#[derive(Debug, Clone, Default)]
struct Books {
    begins: Option<u64>,
    last: u64,
    gaps: BTreeMap<u64, Gap>,
}

impl Books {
    fn write(&mut self, numbers: Numbers) {
        (self.begins, self.last) = (numbers.begins, numbers.last);
        for gap in numbers.gaps {
            self.gaps.insert(gap.first, gap);
        }
    }

    fn restored(&self, lane: Lane) -> Numbers {
        let open = self.gaps.values().filter(|gap| !gap.is_filled());
        Numbers {
            lane,
            begins: self.begins,
            last: self.last,
            gaps: open.cloned().collect(),
            at: Micros(0),
        }
    }

    fn missing(&self) -> BTreeSet<u64> {
        let of = |ranges: &Ranges| ranges.iter().cloned().flatten().collect::<Vec<_>>();
        self.gaps
            .values()
            .flat_map(|gap| of(&gap.left).into_iter().chain(of(&gap.gone)))
            .collect()
    }
}

/// What a mirror, a hub and a machine may do.
#[derive(Debug, Clone)]
enum Step {
    /// The next records come, or are lost on the way.
    Next(u8, bool),
    /// The mirror goes back and sends again.
    Back(u8),
    /// One that was published some time ago is sent again.
    Resent(u16),
    /// The hub tells the number of its last record.
    Heartbeat,
    /// The hub does not have these any more.
    Gone(u16, u8),
    /// The epoch ends, and is durable.
    Durable,
    /// The process is killed: what is not durable is read again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..5, any::<bool>()).prop_map(|(count, lost)| Step::Next(count, lost)),
        1 => (1u8..9).prop_map(Step::Back),
        2 => any::<u16>().prop_map(Step::Resent),
        1 => Just(Step::Heartbeat),
        1 => (any::<u16>(), 1u8..9).prop_map(|(from, count)| Step::Gone(from, count)),
        3 => Just(Step::Durable),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_missing_is_what_was_published_and_has_not_come(
        begins in 1u64..5,
        opens in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut follow = Follow::new(lane(0));
        let mut books = Books::default();
        // The topic as the mirror fills it, and how far it was read, durably and at all.
        let mut topic: Vec<(u64, bool)> = vec![(begins, false)];
        let (mut read, mut durable) = (0, 0);
        let mut published = begins;
        let mut now = 0;
        let mut told = BTreeSet::new();
        let ignore = &mut |_: Noticed| {};
        let mut come = |follow: &mut Follow, topic: &[(u64, bool)], read: &mut usize, now: i64| {
            for (at, (number, resent)) in topic.iter().enumerate().skip(*read) {
                follow.number(*number, (at == 0 && opens, *resent), times(now), ignore);
            }
            *read = topic.len();
        };
        for step in steps {
            now += 1;
            match step {
                Step::Next(count, lost) => {
                    if !lost {
                        topic.extend((1..=u64::from(count)).map(|n| (published + n, false)));
                    }
                    published += u64::from(count);
                }
                Step::Back(count) => {
                    let from = topic.len().saturating_sub(usize::from(count));
                    let again = topic[from..].to_vec();
                    topic.extend(again);
                }
                Step::Resent(pick) => topic.push((1 + u64::from(pick) % published, true)),
                Step::Heartbeat => follow.promise(published, Micros(now)),
                Step::Gone(from, count) => {
                    let from = 1 + u64::from(from) % published;
                    follow.gone(from, from + u64::from(count), &mut |_| {});
                }
                Step::Durable => {
                    follow.take(Micros(now)).into_iter().for_each(|numbers| books.write(numbers));
                    durable = read;
                }
                Step::Crash => {
                    follow = Follow::restore(books.restored(lane(0)));
                    read = durable;
                }
            }
            come(&mut follow, &topic, &mut read, now);
            told.insert(follow.missing());
        }
        // The hub's last word, long enough ago, and all is read.
        follow.promise(published, Micros(now));
        let late = times(now + PATIENCE);
        follow.at_end(PATIENCE, late, &mut |_| {});
        follow.take(late.now).into_iter().for_each(|numbers| books.write(numbers));

        let came: BTreeSet<u64> = topic.iter().map(|(number, _)| *number).collect();
        let from = if opens { 1 } else { begins };
        let missing: BTreeSet<u64> = (from..=published).filter(|number| !came.contains(number)).collect();
        prop_assert_eq!(books.missing(), missing.clone());
        prop_assert_eq!(follow.missing(), missing.len() as u64);
        // And once they come, nothing is.
        for number in missing {
            follow.number(number, (false, true), late, &mut |_| {});
        }
        follow.take(late.now).into_iter().for_each(|numbers| books.write(numbers));
        prop_assert!(books.gaps.values().all(Gap::is_filled));
    }
}

#[test]
fn a_heartbeat_read_before_its_records_is_no_gap_until_all_was_read_long_enough() {
    let mut follow = Follow::new(lane(0));
    let mut missed = Vec::new();
    let mut tell = |noticed| missed.push(noticed);
    follow.promise(9, Micros(0));
    follow.number(1, (false, false), times(1), &mut tell);
    follow.at_end(PATIENCE, times(30), &mut tell);
    follow.number(2, (false, false), times(31), &mut tell);
    follow.at_end(PATIENCE, times(61), &mut tell);
    assert!(follow.is_owed());
    follow.at_end(PATIENCE, times(91), &mut tell);
    assert_eq!(missed, [Noticed::Missing { first: 3, last: 9 }]);
}

#[test]
fn a_lane_heard_of_before_it_has_records_begins_with_the_first() {
    let mut follow = Follow::new(lane(0));
    let mut missed = Vec::new();
    follow.promise(0, Micros(0));
    follow.number(3, (false, false), times(1), &mut |noticed| missed.push(noticed));
    assert_eq!(missed, [Noticed::Missing { first: 1, last: 2 }]);
}

#[test]
fn a_lane_that_was_there_before_the_site_lacks_nothing_of_that_time() {
    let mut follow = Follow::new(lane(0));
    let mut missed = Vec::new();
    follow.promise(100, Micros(0));
    follow.at_end(PATIENCE, times(60), &mut |noticed| missed.push(noticed));
    assert_eq!((missed.as_slice(), follow.missing()), (&[][..], 0));
    // A backlog that takes longer than patience.
    follow.number(40, (false, false), times(70), &mut |noticed| missed.push(noticed));
    follow.at_end(PATIENCE, times(100), &mut |noticed| missed.push(noticed));
    assert!(missed.is_empty());
    follow.at_end(PATIENCE, times(200), &mut |noticed| missed.push(noticed));
    assert_eq!(missed, [Noticed::Missing { first: 41, last: 100 }]);
}

#[test]
fn more_gaps_than_are_kept_apart_stay_exact() {
    let mut follow = Follow::new(lane(0));
    let numbers = (1..6001).step_by(2);
    for number in numbers.clone() {
        follow.number(number, (false, false), times(1), &mut |_| {});
    }
    assert_eq!(follow.missing(), 2999);
    let told = follow.take(Micros(2)).unwrap();
    assert_eq!(told.gaps.len(), MOST_GAPS);
    for number in numbers {
        follow.number(number + 1, (false, true), times(1), &mut |_| {});
    }
    assert_eq!(follow.missing(), 0);
}

#[test]
fn a_record_that_another_site_asked_for_begins_no_lane() {
    let mut follow = Follow::new(lane(0));
    let mut missed = Vec::new();
    follow.number(3, (false, true), times(1), &mut |noticed| missed.push(noticed));
    follow.number(90, (false, false), times(2), &mut |noticed| missed.push(noticed));
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_gap_in_more_pieces_than_are_kept_is_asked_for_until_all_has_come() {
    let mut follow = Follow::new(lane(0));
    follow.number(1, (false, false), times(1), &mut |_| {});
    follow.number(4002, (false, false), times(1), &mut |_| {});
    let ways: [Vec<u64>; 2] = [(3..4000).step_by(2).collect(), (2..4002).collect()];
    for (numbers, left) in ways.into_iter().zip([2001..4000, 0..1]) {
        for number in numbers {
            follow.number(number, (false, true), times(1), &mut |_| {});
        }
        let told = follow.take(Micros(2)).unwrap();
        assert!(told.gaps[0].left.pieces() <= MOST_PIECES);
        assert!(
            left.contains(&follow.missing()),
            "{} are missing",
            follow.missing()
        );
    }
}

type Told = Arc<Mutex<BTreeMap<Lane, Books>>>;

/// Lanes spread over workers; each epoch's entries come out at that epoch or before it ends.
fn run(workers: usize, restored: Vec<Numbers>, read: Vec<(Epoch, i32, u64)>) -> BTreeMap<Lane, Books> {
    let told: Told = Arc::default();
    let out = Arc::clone(&told);
    timely::execute(timely::Config::process(workers), move |worker| {
        let mut input = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Numbered>>>::new();
        let following = Following {
            patience_us: PATIENCE,
            restored: restored.clone(),
        };
        let out = Arc::clone(&out);
        worker.dataflow(|scope| {
            let numbered = scope.input_from(&mut input);
            let ends = timely::dataflow::operators::generic::operator::empty(scope);
            let (entries, _) = sequences(numbered, ends, following, |_, _| {});
            entries.inspect(move |entry| {
                if let Entry::Numbers(numbers) = entry {
                    out.lock()
                        .unwrap()
                        .entry(numbers.lane.clone())
                        .or_default()
                        .write((**numbers).clone());
                }
            });
        });
        if worker.index() == 0 {
            for (epoch, partition, sequence) in &read {
                input.advance_to(*epoch);
                input.send(Numbered {
                    lane: lane(*partition),
                    noted: Noted::Record {
                        sequence: *sequence,
                        opens: false,
                        resent: false,
                        of: ("usdf.R-raw".into(), *partition),
                    },
                    at: Micros(*epoch as i64),
                });
                input.send(Numbered {
                    lane: lane(*partition),
                    noted: Noted::Said(Said::Heartbeat(*sequence)),
                    at: Micros(*epoch as i64),
                });
            }
        }
    })
    .unwrap();
    Arc::try_unwrap(told).unwrap().into_inner().unwrap()
}

#[test]
fn another_number_of_workers_goes_on_where_the_last_run_ended() {
    let lanes = 0..7;
    let first: Vec<_> = (1..50u64)
        .filter(|number| number % 9 != 0)
        .flat_map(|number| lanes.clone().map(move |of| (number / 10, of, number)))
        .collect();
    let mut books = run(2, Vec::new(), first.clone());
    for workers in [1, 3] {
        let restored = books.iter().map(|(lane, of)| of.restored(lane.clone())).collect();
        // All is read again, and 49 to 60 for the first time; 18 was sent again.
        let mut read = first.clone();
        read.extend(
            (52..60)
                .chain([18])
                .flat_map(|number| lanes.clone().map(move |of| (9, of, number))),
        );
        for (lane, of) in run(workers, restored, read) {
            let mut gaps = books[&lane].gaps.clone();
            gaps.extend(of.gaps);
            books.insert(lane, Books { gaps, ..of });
        }
        for (lane, of) in &books {
            assert_eq!(of.last, 59, "{lane}");
            assert_eq!(
                of.missing(),
                BTreeSet::from([9, 27, 36, 45, 50, 51]),
                "{lane} on {workers} workers"
            );
        }
    }
}
