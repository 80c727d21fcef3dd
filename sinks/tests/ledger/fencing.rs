//! Two processes on one ledger: the older one never commits again.

use crate::support::{On, entry, find, new, on_both, who};
use dbb_events::{EventId, Micros, Outcome};
use dbb_sinks::ledger::{Generation, LedgerError};
use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
};

on_both! {
    a_newer_generation_shuts_the_older_one_out
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
    let (holder, found) = new.holder().unwrap().unwrap();
    assert_eq!((holder, found), (second, who()));
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
