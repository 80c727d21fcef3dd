//! Two processes on one ledger: the older one never commits again.

use crate::support::{Fresh, On, counted, entry, find, new, on_both, who};
use dbb_events::{Counted, Entry, EventId, Incarnation, Micros, Outcome, Position};
use dbb_sinks::ledger::{Generation, Ledger, LedgerError, Process, Who};
use dbb_test_services::Postgres;
use std::{
    process::{Child, Command},
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
    time::Duration,
};

on_both! {
    a_newer_generation_shuts_the_older_one_out
    a_holder_that_lives_is_named_and_one_that_is_gone_is_no_obstacle
    a_holder_elsewhere_lives_as_long_as_it_beats
    the_mark_rises_with_each_write_and_is_never_ahead_of_what_is_durable
    another_ledger_or_an_older_copy_in_its_place_is_noticed_in_the_next_transaction
    counts_and_offsets_of_a_topic_made_again_are_its_own
    whatever_the_moment_nothing_old_is_committed_after_a_newer_one_began
}

fn a_newer_generation_shuts_the_older_one_out(on: On) {
    let place = new(on);
    let (mut old, first) = place.begin();
    let (mut new, second) = place.begin();
    assert!(second > first);
    old.write(second, &[entry(1, Outcome::Ingested, 20)]).unwrap();
    let error = old.write(first, &[entry(2, Outcome::Ingested, 20)]).unwrap_err();
    assert!(
        matches!(error, LedgerError::Fenced { ours, newest } if ours == first.0 && newest == second.0),
        "{error}"
    );
    assert!(!error.is_transient());
    for error in [
        old.store_handled(first, &[(("t".into(), 0), Position::default())].into())
            .unwrap_err(),
        old.prune(first, Micros(0), 10).unwrap_err(),
    ] {
        assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    }
    assert_eq!(find(&mut new, 2), None);
    assert!(new.handled_to().unwrap().is_empty());
    let holder = new.holder().unwrap().unwrap();
    assert_eq!((holder.generation, holder.who), (second, who()));
}

/// A process that holds the ledger, and can be killed.
struct Other(Child);

impl Other {
    fn start() -> (Self, Who) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let started = stat.split_ascii_whitespace().nth(21).unwrap().parse().unwrap();
        let process = Process {
            pid: child.id(),
            started,
            ..Process::this()
        };
        (Self(child), Who { process, ..who() })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_holder_that_lives_is_named_and_one_that_is_gone_is_no_obstacle(on: On) {
    let place = new(on);
    let mut ledger = place.open();
    // Nobody waits here: what is not free at the first look is refused.
    let at_once = || true;
    let first = ledger.hold(&who(), &at_once).unwrap();
    ledger.let_go(first).unwrap();

    let (other, holder) = Other::start();
    let second = ledger.hold(&holder, &at_once).unwrap();
    let refused = ledger.hold(&who(), &at_once).unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Held { host, pid, .. } if host == "here" && *pid == holder.process.pid),
        "{refused}"
    );
    assert!(!refused.is_transient());
    ledger.write(second, &[entry(1, Outcome::Ingested, 20)]).unwrap();
    drop(other);
    let third = ledger.hold(&who(), &at_once).unwrap();
    assert!(third > second);

    // The same name is the same program, wherever it was before.
    let elsewhere = Who {
        host: "there".into(),
        process: Process {
            boot: "another machine".into(),
            ..holder.process.clone()
        },
        instance: "site".into(),
        ..holder
    };
    ledger.begin_generation(&elsewhere).unwrap();
    assert!(matches!(
        ledger.hold(&who(), &at_once),
        Err(LedgerError::Held { .. })
    ));
    let named = Who {
        instance: "site".into(),
        ..who()
    };
    ledger.hold(&named, &at_once).unwrap();
}

/// Nothing is seen of a process on another machine; its beats are.
fn a_holder_elsewhere_lives_as_long_as_it_beats(on: On) {
    let place = new(on);
    let mut ledger = place.open();
    let elsewhere = Who {
        host: "there".into(),
        process: Process {
            boot: "another machine".into(),
            ..Process::this()
        },
        ..who()
    };
    let theirs = ledger.begin_generation(&elsewhere).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ledger = place.open();
            while !stop.load(Ordering::SeqCst) {
                ledger.beat(theirs).unwrap();
                thread::sleep(std::time::Duration::from_millis(500));
            }
        });
        let refused = ledger.hold(&who(), &|| false);
        stop.store(true, Ordering::SeqCst);
        assert!(matches!(refused, Err(LedgerError::Held { host, .. }) if host == "there"));
    });
    let ours = ledger.hold(&who(), &|| false).unwrap();
    assert!(matches!(ledger.beat(theirs), Err(LedgerError::Fenced { newest, .. }) if newest == ours.0));
}

fn the_mark_rises_with_each_write_and_is_never_ahead_of_what_is_durable(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let mut before = ledger.mark().unwrap();
    for n in 1..5 {
        ledger
            .write(generation, &[entry(n, Outcome::Ingested, 20)])
            .unwrap();
        let known = ledger.newest_mark().get().unwrap();
        let durable = place.open().mark().unwrap();
        assert_eq!(known, durable);
        assert!(durable.holds(before) && !before.holds(durable));
        before = durable;
    }
    // A write that fails leaves it.
    let (_, _newer) = place.begin();
    assert!(
        ledger
            .write(generation, &[entry(9, Outcome::Ingested, 20)])
            .is_err()
    );
    assert_eq!(ledger.newest_mark().get(), Some(before));
    assert_ne!(
        new(on).open().mark().unwrap().ledger,
        before.ledger,
        "each ledger has its own"
    );
}

fn another_ledger_or_an_older_copy_in_its_place_is_noticed_in_the_next_transaction(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let write = |ledger: &mut Ledger, n| ledger.write(generation, &[entry(n, Outcome::Ingested, 20)]);
    write(&mut ledger, 1).unwrap();
    let at = ledger.mark().unwrap();
    for (key, value) in [("mark", at.at - 1), ("identity", at.ledger ^ 1)] {
        put(&place, key, value);
        for error in [write(&mut ledger, 2).unwrap_err(), ledger.mark().unwrap_err()] {
            assert!(matches!(error, LedgerError::Replaced { .. }), "{error}");
            assert!(!error.is_transient());
        }
        put(&place, key, if key == "mark" { at.at } else { at.ledger });
    }
    write(&mut ledger, 2).unwrap();
}

/// As a copy from before, or of another, would have it.
fn put(place: &Fresh, key: &str, value: u64) {
    let sql = format!("UPDATE meta SET value = {value} WHERE key = '{key}'");
    match place.settings.sqlite_path() {
        Some(path) => {
            let ledger = rusqlite::Connection::open(path).unwrap();
            ledger.busy_timeout(Duration::from_secs(20)).unwrap();
            ledger.execute(&sql, []).unwrap();
        }
        None => {
            let database = place.settings.url.rsplit('/').next().unwrap();
            Postgres::shared().unwrap().sql(database, &sql).unwrap();
        }
    }
}

fn counts_and_offsets_of_a_topic_made_again_are_its_own(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let of = |incarnation, to| match counted(to, &[("events", 1)]) {
        Entry::Counted(counted) => Entry::Counted(Counted {
            incarnation,
            ..counted
        }),
        other => other,
    };
    let (one, two) = (Incarnation::of(1), Incarnation::of(2).cut());
    for (incarnation, to) in [(one, 900), (one, 800), (two, 3), (two, 3), (two, 4)] {
        ledger.write(generation, &[of(incarnation, to)]).unwrap();
        let key = ("t".into(), 0);
        let handled = Position::new(incarnation, to);
        ledger
            .store_handled(generation, &[(key, handled)].into())
            .unwrap();
    }
    assert_eq!(ledger.counts().unwrap()["events"], 3);
    let counted = ledger.counted_to().unwrap();
    assert_eq!(counted.into_values().collect::<Vec<_>>(), [Position::new(two, 4)]);
    let handled = ledger.handled_to().unwrap();
    assert_eq!(handled.into_values().collect::<Vec<_>>(), [Position::new(two, 4)]);
}

struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// A chain of processes takes the ledger over from each other as each writes as fast as it can.
fn whatever_the_moment_nothing_old_is_committed_after_a_newer_one_began(on: On) {
    let place = new(on);
    let newest = AtomicI64::new(0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3u128 {
            let (place, newest, stop) = (&place, &newest, &stop);
            scope.spawn(move || {
                let _others_stop_too = StopOnPanic(stop);
                let mut ledger = place.open();
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    let generation: Generation = match ledger.begin_generation(&who()) {
                        Ok(generation) => generation,
                        // Too busy for too long: three write without a pause.
                        Err(e) if e.is_transient() => continue,
                        Err(e) => panic!("{e}"),
                    };
                    newest.fetch_max(generation.0, Ordering::SeqCst);
                    loop {
                        // Known to have been overtaken before this write began.
                        let overtaken = newest.load(Ordering::SeqCst) > generation.0;
                        let event = writer * 1_000_000 + n;
                        match ledger.write(generation, &[entry(event, Outcome::Ingested, 20)]) {
                            Ok(_) => assert!(!overtaken, "an older generation wrote"),
                            Err(LedgerError::Fenced { .. }) => break,
                            Err(e) if e.is_transient() => continue,
                            Err(e) => panic!("{e}"),
                        }
                        n += 1;
                        let written = ledger.states("main", &[EventId(event)]).unwrap();
                        assert_eq!(written.len(), 1);
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        while newest.load(Ordering::SeqCst) < 15 && !stop.load(Ordering::SeqCst) {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
    });
}
