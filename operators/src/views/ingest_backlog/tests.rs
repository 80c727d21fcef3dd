#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;
use std::sync::Mutex;
use timely::dataflow::{InputHandle, operators::Input};

/// Steps at their epochs, as the oracle and the dataflow read them.
type Story = Vec<(Epoch, Step)>;

fn step(event: u8, created_at: i64, answer: Option<(i64, bool)>) -> Step {
    let text = |prefix: &str, n: u8| Arc::from(format!("{prefix}{n}"));
    Step {
        to: Destination {
            repository: text("repo", event % 2),
            rse: text("RSE", event / 2 % 2),
            scope: "raw".into(),
        },
        event: EventId(u128::from(event)),
        created_at: Micros(created_at),
        bytes: 10 + u64::from(event),
        answer: answer.map(|(at, is_final)| Answer {
            at: Micros(at),
            is_final,
        }),
    }
}

/// The rows as of `epoch`, by going over the whole story.
fn fold(story: &Story, epoch: Epoch) -> BTreeMap<Destination, IngestBacklog> {
    let mut events: BTreeMap<EventId, Vec<&Step>> = BTreeMap::new();
    for (_, step) in story.iter().filter(|(at, _)| *at <= epoch) {
        events.entry(step.event).or_default().push(step);
    }
    let mut rows: BTreeMap<Destination, IngestBacklog> = BTreeMap::new();
    for steps in events.values() {
        let answers: Vec<Answer> = steps.iter().filter_map(|step| step.answer).collect();
        let asked = steps.len() - answers.len();
        let waits = answers.iter().max().is_some_and(|answer| !answer.is_final);
        if asked <= answers.len() && !waits {
            continue;
        }
        let row = rows.entry(steps[0].to.clone()).or_insert_with(|| IngestBacklog {
            to: steps[0].to.clone(),
            files: 0,
            bytes: 0,
            waiting: 0,
            waiting_bytes: 0,
            oldest: Micros(i64::MAX),
        });
        row.files += 1;
        row.bytes += steps[0].bytes as i64;
        row.waiting += i64::from(waits);
        row.waiting_bytes += if waits { steps[0].bytes as i64 } else { 0 };
        row.oldest = row.oldest.min(steps[0].created_at);
    }
    rows
}

/// What the dataflow says at each epoch, on `workers` that share the story out.
fn run(story: &Story, workers: usize, until: Epoch) -> Vec<BTreeMap<Destination, IngestBacklog>> {
    let (story, out) = (Arc::new(story.clone()), Arc::new(Mutex::new(Vec::new())));
    let given = Arc::clone(&out);
    timely::execute(timely::Config::process(workers), move |worker| {
        let mut input = InputHandle::<Epoch, timely::container::CapacityContainerBuilder<Vec<Step>>>::new();
        let given = Arc::clone(&given);
        worker.dataflow(|scope| {
            backlog(scope.input_from(&mut input)).inspect(move |update| {
                given.lock().unwrap().push(update.clone());
            });
        });
        for epoch in 0..until {
            for (n, (_, step)) in story.iter().enumerate().filter(|(_, (at, _))| *at == epoch) {
                if n % worker.peers() == worker.index() {
                    input.send(step.clone());
                }
            }
            input.advance_to(epoch + 1);
            worker.step();
        }
    })
    .unwrap();
    let out = out.lock().unwrap();
    (0..until)
        .map(|epoch| {
            let mut rows: BTreeMap<IngestBacklog, isize> = BTreeMap::new();
            for (row, _, times) in out.iter().filter(|(_, at, _)| *at <= epoch) {
                *rows.entry(row.clone()).or_default() += times;
            }
            rows.retain(|_, times| *times != 0);
            assert!(rows.values().all(|times| *times == 1), "{rows:?}");
            rows.into_keys().map(|row| (row.to.clone(), row)).collect()
        })
        .collect()
}

prop_compose! {
    /// What happens to one event: it is asked for, answered, asked for again; answers follow each other, and each
    /// may come before the end of the epoch of what it answers.
    fn life()(
        created_at in 0i64..50,
        turns in prop::collection::vec((0u64..4, any::<bool>(), any::<bool>()), 0..4),
    ) -> Vec<(Epoch, i64, Option<(i64, bool)>)> {
        let mut life = Vec::new();
        let (mut epoch, mut at) = (0, 0);
        for (gap, is_answered, is_final) in turns {
            epoch += gap;
            // The answer may have an epoch less than the request's, but never less than the last answer's.
            let asked = epoch + u64::from(gap == 1);
            life.push((asked, created_at, None));
            if !is_answered {
                break;
            }
            at += 1;
            life.push((epoch, created_at, Some((at, is_final))));
        }
        life
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_each_epoch_it_is_the_fold_of_all_steps_so_far(
        lives in prop::collection::vec(life(), 1..12),
        workers in 1usize..=2,
        seed in any::<u64>(),
    ) {
        let mut story: Story = lives
            .iter()
            .enumerate()
            .flat_map(|(event, life)| {
                life.iter().map(move |(epoch, created, answer)| (*epoch, step(event as u8, *created, *answer)))
            })
            .collect();
        // Steps of one epoch come in any order.
        let count = story.len() as u64;
        for n in (1..story.len()).rev() {
            story.swap(n, (seed.wrapping_mul(n as u64 + count) >> 33) as usize % (n + 1));
        }
        let until = 20;
        let rows = run(&story, workers, until);
        for epoch in 0..until {
            prop_assert_eq!(&rows[epoch as usize], &fold(&story, epoch), "epoch {}", epoch);
        }
    }
}

#[test]
fn nothing_is_kept_of_what_is_final() {
    let mut piles = Piles::default();
    let mut rows = Vec::new();
    for (epoch, answer) in [(0, None), (1, Some((1, false))), (2, None), (3, Some((2, true)))] {
        assert!(epoch == 0 || !piles.0.is_empty());
        let records = vec![step(1, 7, answer)];
        piles.apply(Closed { epoch, records }, &mut rows);
    }
    assert!(piles.0.is_empty());
    assert_eq!(rows.iter().map(|(_, _, times)| times).sum::<isize>(), 0);
}
