//! Two processes on one ledger: the older one never commits again.

use crate::support::{On, entry, find, new, on_both, who};
use dbb_events::{EventId, Micros, Outcome};
use dbb_sinks::ledger::{Generation, LedgerError, Process, Who};
use std::{
    process::{Child, Command},
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
};

on_both! {
    a_newer_generation_shuts_the_older_one_out
    a_holder_that_lives_is_named_and_one_that_is_gone_is_no_obstacle
    a_holder_elsewhere_lives_as_long_as_it_beats
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
        old.store_handled(first, &[(("t".into(), 0), 5)].into())
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
