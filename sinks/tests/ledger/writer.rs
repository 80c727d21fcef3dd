//! The writer's thread: what it answers is durable, what is due comes once, failures hold it and no more.

// An event that finds no room goes back as it is: nothing is put in a box for that.
#![allow(clippy::result_large_err)]

use crate::support::{On, arrival, dimension, entry, new, on_both, waiting};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dbb_events::{Dependency, Due, Entry, EventId, Micros, Outcome};
use dbb_sinks::ledger::{Condition, Generation, Health, Ledger, LedgerError, LedgerPorts, State, writer};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
};

on_both! {
    every_batch_is_answered_after_it_is_there
    what_is_due_comes_once_until_its_next_outcome
    what_found_no_room_comes_later
    what_a_wrong_clock_has_parked_is_due_and_what_is_held_stays
    a_newer_generation_ends_the_writer
    a_full_ledger_answers_nothing_says_so_and_holds_nobody_up_who_leaves
}

struct Running {
    entries: Sender<(u64, Vec<Entry>)>,
    answers: Receiver<u64>,
    due: Receiver<Due>,
    fatal: Receiver<String>,
    health: Health,
    now: Arc<AtomicI64>,
    thread: JoinHandle<Result<(), LedgerError>>,
}

/// A writer with room for `room` events that are due.
fn start(ledger: Ledger, generation: Generation, room: usize) -> Running {
    let (entries, batches) = bounded(100);
    let (answer, answers) = unbounded();
    let (offer, due) = bounded(room);
    let (fail, fatal) = unbounded();
    let now = Arc::new(AtomicI64::new(0));
    let clock = now.clone();
    let health = Health::default();
    let ports = LedgerPorts {
        entries: batches,
        answer: Box::new(move |id| {
            let _ = answer.send(id);
        }),
        due: Box::new(move |due| offer.try_send(due).err().map(|e| e.into_inner())),
        written: Box::new(|_, _| {}),
        going_round: Box::new(|_| {}),
        longest_wait_s: 3600,
        on_fatal: Box::new(move |e| drop(fail.send(e.to_string()))),
        now: Box::new(move || Micros(clock.load(Ordering::SeqCst))),
        health: health.clone(),
    };
    let thread = std::thread::spawn(move || writer::run(ledger, generation, ports));
    Running {
        entries,
        answers,
        due,
        fatal,
        health,
        now,
        thread,
    }
}

fn what_a_wrong_clock_has_parked_is_due_and_what_is_held_stays(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let month = 30 * 86_400 * 1_000_000;
    let in_an_hour = 3000 * 1_000_000;
    let entries = [
        entry(1, waiting(Dependency::Repository, month, false), month),
        entry(2, waiting(Dependency::Time, in_an_hour, false), 20),
        entry(3, waiting(Dependency::Embargo, i64::MAX, false), 20),
    ];
    ledger.write(generation, &entries).unwrap();
    let running = start(ledger, generation, 10);
    let due = running.due.recv().unwrap();
    assert_eq!(due.event, EventId(1));
    // It does not wait since a time that is still to come.
    assert_eq!(due.waiting_since, Some(Micros(0)));
    let mut reader = place.open();
    assert_eq!(reader.due_count(Micros(in_an_hour)).unwrap(), 2);
    // What an operator wakes is all that is not held.
    assert_eq!(reader.wake(Some("other"), None, Micros(0)).unwrap(), 0);
    assert_eq!(
        reader
            .wake(Some("main"), Some(&Dependency::Repository), Micros(0))
            .unwrap(),
        0
    );
    assert_eq!(reader.wake(Some("main"), None, Micros(0)).unwrap(), 1);
    assert_eq!(running.due.recv().unwrap().event, EventId(2));
    assert!(running.due.try_recv().is_err());
}

fn every_batch_is_answered_after_it_is_there(on: On) {
    let place = new(on);
    let (ledger, generation) = place.begin();
    let mut reader = place.open();
    let running = start(ledger, generation, 10);
    for id in 0..20u64 {
        let batch = vec![entry(id.into(), Outcome::Ingested, 20)];
        running.entries.send((id, batch)).unwrap();
    }
    for id in 0..20u64 {
        assert_eq!(running.answers.recv().unwrap(), id);
        let found = reader.states("main", &[EventId(id.into())]).unwrap();
        assert_eq!(found.len(), 1, "{id} was answered before it was there");
    }
    drop(running.entries);
    running.thread.join().unwrap().unwrap();
    assert!(running.health.is_ok());
}

fn what_is_due_comes_once_until_its_next_outcome(on: On) {
    let mut place = new(on);
    place.settings.due_poll_ms = 5;
    let (ledger, generation) = place.begin();
    let running = start(ledger, generation, 10);
    let wait = |at| entry(1, waiting(dimension("exposure/X/1"), 1000, true), at);
    running.entries.send((0, vec![wait(20)])).unwrap();
    running.answers.recv().unwrap();
    running
        .entries
        .send((1, vec![arrival(9, &["dimension:exposure/X/1"], 30)]))
        .unwrap();
    running.now.store(100, Ordering::SeqCst);
    assert_eq!(running.due.recv().unwrap().event, EventId(1));
    // Many looks later it is still in flight: nothing more has come.
    for id in 2..20 {
        running.entries.send((id, Vec::new())).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(running.due.is_empty());
    // Its next outcome is to wait again, until another time.
    running.entries.send((20, vec![wait(110)])).unwrap();
    while running.answers.recv().unwrap() != 20 {}
    running.now.store(1000, Ordering::SeqCst);
    assert_eq!(running.due.recv().unwrap().event, EventId(1));
    drop(running.entries);
    running.thread.join().unwrap().unwrap();
}

fn what_found_no_room_comes_later(on: On) {
    let mut place = new(on);
    place.settings.due_poll_ms = 5;
    place.settings.due_batch = 4;
    let (ledger, generation) = place.begin();
    let running = start(ledger, generation, 1);
    let batch = (0..9).map(|n| entry(n, waiting(Dependency::Time, 50, true), 20));
    running.entries.send((0, batch.collect())).unwrap();
    running.now.store(100, Ordering::SeqCst);
    let mut seen = Vec::new();
    while seen.len() < 9 {
        let due = running.due.recv().unwrap();
        seen.push(due.event.0);
        let done = entry(due.event.0, Outcome::Ingested, 200);
        running.entries.send((1, vec![done])).unwrap();
    }
    seen.sort();
    assert_eq!(seen, (0..9).collect::<Vec<_>>());
    drop(running.entries);
    running.thread.join().unwrap().unwrap();
    let events: Vec<EventId> = (0..9).map(EventId).collect();
    let found = place.open().states("main", &events).unwrap();
    assert!(found.values().all(|state| *state == State::Ingested));
}

fn a_newer_generation_ends_the_writer(on: On) {
    let place = new(on);
    let (ledger, generation) = place.begin();
    let running = start(ledger, generation, 10);
    place.begin();
    running
        .entries
        .send((7, vec![entry(1, Outcome::Ingested, 20)]))
        .unwrap();
    assert!(running.fatal.recv().unwrap().contains("another dbb"));
    let error = running.thread.join().unwrap().unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert!(running.answers.is_empty());
    assert!(matches!(running.health.condition(), Condition::Fatal { .. }));
}

fn a_full_ledger_answers_nothing_says_so_and_holds_nobody_up_who_leaves(on: On) {
    let mut place = new(on);
    place.settings.max_bytes = Some(1);
    let (ledger, generation) = place.begin();
    let running = start(ledger, generation, 10);
    running
        .entries
        .send((7, vec![entry(1, Outcome::Ingested, 20)]))
        .unwrap();
    let message = loop {
        if let Condition::Failing { message, .. } = running.health.condition() {
            break message;
        }
        std::thread::yield_now();
    };
    assert!(message.contains("ledger.max_bytes"), "{message}");
    assert!(running.answers.is_empty());
    assert!(place.open().states("main", &[EventId(1)]).unwrap().is_empty());
    assert!(!running.thread.is_finished(), "it goes on trying");
    // A process that leaves is not held up for ever: what was not answered was not acked either.
    drop(running.entries);
    running.thread.join().unwrap().unwrap();
    assert!(running.answers.is_empty());
}
