//! Whether a running statement may still run, asked from inside of whatever it does.
//!
//! ```text
//!   deadline, cancel, client gone --> Watch <-- may it go on? operators, join filters, functions, on its thread
//! ```
//!
//! A library's loop cannot be left from outside. What it calls in every round can fail, though: so the statement's thread
//! knows the watch of what it works on, and everything that is called from within asks it.

use super::SqlError;
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Watch>>> = const { RefCell::new(None) };
}

/// Of one statement.
#[derive(Debug)]
pub(super) struct Watch {
    pid: i32,
    called_off: watch::Sender<bool>,
    deadline: Instant,
    limit: Duration,
    memory_bytes: usize,
    /// Bytes that functions have made since the last batch went by, and may make until the next.
    made: AtomicUsize,
    may_make: AtomicUsize,
}

impl Watch {
    /// Of the connection `pid`, until `deadline`, which is `limit` after the statement was asked; it may keep `memory_bytes`.
    pub(super) fn new(pid: i32, deadline: Instant, limit: Duration, memory_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            pid,
            called_off: watch::Sender::new(false),
            deadline,
            limit,
            memory_bytes,
            made: AtomicUsize::new(0),
            may_make: AtomicUsize::new(CONSTANTS.min(memory_bytes / SHARE_OF_A_CALL)),
        })
    }

    /// The statement is no longer wanted.
    pub(super) fn call_off(&self) {
        self.called_off.send_replace(true);
    }

    pub(super) fn check(&self) -> Result<(), SqlError> {
        if *self.called_off.borrow() {
            return Err(SqlError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(SqlError::TooLong(self.limit));
        }
        Ok(())
    }

    /// Resolves when the statement must end.
    pub(super) async fn ended(&self) -> SqlError {
        let mut called_off = self.called_off.subscribe();
        tokio::select! {
            _ = called_off.wait_for(|off| *off) => SqlError::Cancelled,
            () = tokio::time::sleep_until(self.deadline.into()) => SqlError::TooLong(self.limit),
        }
    }

    /// Does `work` as a part of this statement.
    pub(super) fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// Also when `work` panics.
        struct Restore(Option<Arc<Watch>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let before = self.0.take();
                CURRENT.with_borrow_mut(|current| *current = before);
            }
        }
        let before = CURRENT.with_borrow_mut(|current| current.replace(Arc::clone(self)));
        let _restore = Restore(before);
        work()
    }
}

/// The number of the connection whose statement this thread works on; 0, if there is none.
pub(super) fn pid() -> i32 {
    CURRENT.with_borrow(|current| current.as_ref().map_or(0, |watch| watch.pid))
}

/// A batch has gone by: what functions made for it is what the batch holds.
pub(super) fn batch_passed() -> Result<(), SqlError> {
    CURRENT.with_borrow(|current| {
        let Some(watch) = current else { return Ok(()) };
        watch.made.store(0, Relaxed);
        watch.check()
    })
}

/// The statement is planned: its functions go on with rows.
pub(super) fn is_planned() {
    CURRENT.with_borrow(|current| {
        if let Some(watch) = current {
            watch.made.store(0, Relaxed);
            watch.may_make.store(watch.memory_bytes / 2, Relaxed);
        }
    });
}

/// What all functions together may make of constants while a statement is planned, in bytes: it is the plan's until its end,
/// and is written out as a name, hashed and compared in each of a planner's rounds.
const CONSTANTS: usize = 2 << 20;

/// Whoever makes less in a call is not counted: constants are folded again in each of a planner's rounds.
const LITTLE: usize = 16 << 10;

/// One call of a function may make this part of the statement's memory.
const SHARE_OF_A_CALL: usize = 16;

/// A function is about to make up to `bytes`. One call may make a sixteenth of the statement's memory, and all calls for
/// one batch half of it.
pub(super) fn will_make(function: &str, bytes: u64) -> Result<(), SqlError> {
    CURRENT.with_borrow(|current| {
        let Some(watch) = current else { return Ok(()) };
        watch.check()?;
        let most = watch.memory_bytes / SHARE_OF_A_CALL;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > most {
            return Err(SqlError::TooMuchMemory(format!(
                "`{function}` could make {bytes} bytes for one batch of rows, and may make {most}"
            )));
        }
        if bytes < LITTLE {
            return Ok(());
        }
        let made = watch.made.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let most = watch.may_make.load(Relaxed);
        if made > most {
            return Err(SqlError::TooMuchMemory(format!(
                "functions could make {made} bytes for one batch of rows, or of constants, and may make {most}"
            )));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one call may make.
    const CALL: usize = 1 << 20;

    fn watch(left: Duration) -> Arc<Watch> {
        Watch::new(7, Instant::now() + left, left, 16 * CALL)
    }

    #[test]
    fn what_is_called_off_or_over_may_not_go_on() {
        let called_off = watch(Duration::from_secs(60));
        assert!(called_off.during(batch_passed).is_ok());
        called_off.call_off();
        assert!(matches!(
            called_off.during(batch_passed),
            Err(SqlError::Cancelled)
        ));
        let over = watch(Duration::ZERO);
        assert!(matches!(over.during(batch_passed), Err(SqlError::TooLong(_))));
        // Nobody's thread.
        assert!(batch_passed().is_ok());
    }

    #[test]
    fn a_thread_is_nobodys_again_after_a_panic() {
        let called_off = watch(Duration::ZERO);
        let _ = std::panic::catch_unwind(|| called_off.during(|| std::panic::resume_unwind(Box::new(()))));
        assert!(batch_passed().is_ok());
    }

    #[test]
    fn what_functions_make_is_bounded_by_call_and_by_batch() {
        let watch = watch(Duration::from_secs(60));
        watch.during(|| {
            assert!(matches!(
                will_make("replace", CALL as u64 + 1),
                Err(SqlError::TooMuchMemory(_))
            ));
            // Of constants.
            assert!(will_make("replace", CALL as u64).is_ok());
            assert!(will_make("replace", LITTLE as u64 - 1).is_ok());
            assert!(matches!(
                will_make("replace", LITTLE as u64),
                Err(SqlError::TooMuchMemory(_))
            ));
            is_planned();
            for _ in 0..8 {
                assert!(will_make("replace", CALL as u64).is_ok());
            }
            assert!(matches!(
                will_make("replace", CALL as u64),
                Err(SqlError::TooMuchMemory(_))
            ));
            assert!(batch_passed().is_ok());
            assert!(will_make("replace", CALL as u64).is_ok());
        });
    }
}
