//! The threads on which statements are parsed, planned, run and let go.
//!
//! Each piece of work has a thread of its own for as long as it takes, so that the system shares the processors out
//! between statements, whatever loop one of them is in; none of them can keep connections, timers or another statement
//! waiting. They have a lower priority than the dataflow, stacks for the deepest statement that is let in, and a panic on
//! one of them is the error of its statement.

use super::{SqlError, watch::Watch};
use crate::panics;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::runtime::{Builder, Handle, Runtime};

/// The stack of each: for the deepest statement that [`judge`](super::judge) lets through, in a build that is not
/// optimised. Of what is never used, nothing is taken.
pub(crate) const STACK_BYTES: usize = 256 << 20;
/// The name of each.
pub const THREAD_NAME: &str = "sql-statement";
/// How much more is asked of the processors for others, 0 to 19, as `nice` has it.
const NICENESS: i32 = 10;
/// How long one is kept that has nothing to do: hardly, for what it used of its stack is its own until it ends.
const KEPT: Duration = Duration::from_millis(1);

/// All of them.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// At most `most` at once; further work waits its turn.
    pub(super) fn new(most: usize) -> io::Result<Self> {
        // Nothing ever drives it: of it only the threads that may block are used.
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(most.max(1))
            .thread_stack_size(STACK_BYTES)
            .thread_keep_alive(KEPT)
            .thread_name(THREAD_NAME)
            .on_thread_start(give_way)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }

    /// Does `work` as a part of the statement of `watch`.
    ///
    /// # Errors
    ///
    /// What `work` says, or that it panicked.
    pub(super) fn run<T, W>(
        &self,
        watch: &Arc<Watch>,
        work: W,
    ) -> impl Future<Output = Result<T, SqlError>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, SqlError> + Send + 'static,
    {
        let watch = Arc::clone(watch);
        let done = self.handle().map(|handle| {
            handle.spawn_blocking(move || {
                unless_it_panics(|| {
                    // Who waits for a thread may have gone in the meantime.
                    watch.check()?;
                    watch.during(work)
                })
            })
        });
        async move {
            match done {
                Some(done) => done.await.unwrap_or(Err(SqlError::Cancelled)),
                None => Err(SqlError::Cancelled),
            }
        }
    }

    /// Lets go of `what`, which may be deep.
    pub(super) fn let_go(&self, what: impl Send + 'static) {
        if let Some(handle) = self.handle() {
            handle.spawn_blocking(move || {
                unless_it_panics(|| {
                    drop(what);
                    Ok(())
                })
            });
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // What still runs ends by its watch.
            runtime.shutdown_background();
        }
    }
}

fn give_way() {
    // A panic here is a statement's, and no reason to end the process.
    panics::mark_thread("sql");
    // Of this thread alone. Where it is forbidden, statements are as important as all else.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// A panic becomes an error.
pub(super) fn unless_it_panics<T>(work: impl FnOnce() -> Result<T, SqlError>) -> Result<T, SqlError> {
    // What was being worked on is let go of, and nothing else knows of it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panics::words(&*panic);
        Err(SqlError::Panicked(
            said.lines().next().unwrap_or_default().to_owned(),
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Instant;

    fn run<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let threads = Threads::new(1).unwrap();
        let minute = Duration::from_secs(60);
        let watch = Watch::new(1, Instant::now() + minute, minute, 1 << 20);
        futures::executor::block_on(threads.run(&watch, work))
    }

    #[test]
    fn a_panic_is_an_error_that_says_why() {
        let error = run(|| -> Result<(), _> { panic!("index 3 of {}", 2) }).unwrap_err();
        assert_eq!(error.state(), "XX000");
        assert!(error.to_string().contains("index 3 of 2"), "{error}");
    }

    #[test]
    fn statements_give_way_to_the_dataflow() {
        let mine = rustix::process::getpriority_process(None).unwrap();
        let theirs = run(|| Ok(rustix::process::getpriority_process(None).unwrap())).unwrap();
        assert_eq!(theirs, mine.max(NICENESS));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), mine);
    }
}
