//! A panic ends the process, unless it is that of a thread which serves a connection or a statement.
//!
//! Without this a worker that panics leaves its siblings waiting for its progress for ever. Nothing is
//! lost: what had no durable outcome is read again. A connection is nobody's sibling: it alone ends, see
//! [`dbb_serving::panics`].

use std::backtrace::Backtrace;

/// The exit status after a panic, `EX_SOFTWARE`: a fault of the program itself.
pub const STATUS: i32 = 70;

/// Makes it so, for this process. For a program's `main`, not for a library or its tests.
pub fn ends_the_process() {
    std::panic::set_hook(Box::new(|panic| {
        if dbb_serving::panics::is_of_a_door(panic) {
            return;
        }
        let backtrace = Backtrace::capture();
        tracing::error!(%panic, %backtrace, "a thread panicked: this process ends, and nothing is lost");
        std::process::exit(STATUS);
    }));
}
