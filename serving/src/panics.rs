//! Panics of threads that serve somebody: they cost that connection or that statement, not the process.
//!
//! ```text
//!   a thread of a door      --> marked     --> panic --> counted, logged with its place --> its connection ends
//!   any other (a worker...) --> not marked --> panic --> the program's hook ends the process
//! ```
//!
//! In:    the mark of a thread; a panic, by the program's hook.
//! Out:   whether the panic was a marked thread's; `dbb_panics_caught_total`.
//! State: how often each place panicked, for the log.
//!
//! A door is a name that operators know: `sql`, `http`, `peers`, `cluster`. What a thread of a door holds is given back while
//! it unwinds; so nothing with an end of its own may be built with `panic = "abort"`.

use crate::labels::Door;
use prometheus_client::metrics::{counter::Counter, family::Family};
use std::{
    any::Any,
    backtrace::Backtrace,
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{LazyLock, Mutex, PoisonError},
};

thread_local! {
    static DOOR: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Of the whole process: doors are older than the metrics of a run.
static CAUGHT: LazyLock<Family<Door, Counter>> = LazyLock::new(Family::default);
/// How often each place has panicked. A place may be reached again and again from outside.
static PLACES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// A panic that was caught: what was under way is lost, the thread may go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fault of this program: {0}")]
pub struct Panicked(pub String);

/// Marks the calling thread for good: all that it runs is for somebody at `door`.
pub fn mark_thread(door: &'static str) {
    DOOR.set(Some(door));
}

/// The door that the calling thread serves; `None` for a thread whose panic ends the process.
pub fn marked() -> Option<&'static str> {
    DOOR.get()
}

/// Runs `work` for somebody at `door`, on the calling thread, and gives the thread back as it was.
///
/// # Errors
///
/// It panicked. What it has changed elsewhere stays as it was at that moment.
pub fn guarded<T>(door: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = DOOR.replace(Some(door));
    let done = catch_unwind(AssertUnwindSafe(work));
    DOOR.set(before);
    done.map_err(|payload| Panicked(words(&*payload)))
}

/// Runs on the calling thread what keeps `door` open: the tasks of its connections may panic, it itself may not.
///
/// # Panics
///
/// `keeper` did, and then as an unmarked thread: nothing would be let in any more, and nobody would know.
pub fn keeping<T>(door: &'static str, keeper: impl FnOnce() -> T) -> T {
    match guarded(door, keeper) {
        Ok(done) => done,
        #[expect(clippy::panic, reason = "the process is to end")]
        Err(panicked) => panic!("the door `{door}` is kept by nobody: {panicked}"),
    }
}

/// Whether `panic` costs a connection or a statement alone; then it is counted and logged, and the process goes on.
pub fn is_of_a_door(panic: &PanicHookInfo<'_>) -> bool {
    let Some(door) = marked() else { return false };
    CAUGHT.get_or_create(&Door { door }).inc();
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let times = places.entry(place).or_default();
    *times += 1;
    let times = *times;
    drop(places);
    // The first time in full; then at 10, 100, 1000: whoever has found a way in may use it all day. Where it came from is
    // told if the environment asks for it: to name the frames takes more memory than a statement may.
    if times == 1 {
        let backtrace = Backtrace::capture();
        tracing::error!(door, %panic, %backtrace, "a fault of this program has ended one connection or statement; please report it");
    } else if times.to_string().trim_end_matches('0') == "1" {
        tracing::error!(door, %panic, times, "a fault of this program ends connections or statements");
    }
    true
}

/// How many were caught at `door`, in this process.
pub fn caught_so_far(door: &'static str) -> u64 {
    CAUGHT.get_or_create(&Door { door }).get()
}

/// Panics that were caught, by door.
pub(crate) fn caught() -> &'static Family<Door, Counter> {
    &CAUGHT
}

/// What a panic said.
pub(crate) fn words(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().copied();
    said.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it says no more")
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_guarded_panic_is_an_error_and_leaves_the_thread_unmarked() {
        assert_eq!(marked(), None);
        let marks = guarded("sql", marked);
        assert_eq!(marks, Ok(Some("sql")));
        let nested = guarded("http", || {
            guarded("sql", || panic!("{} is odd", 3)).map_err(|error| (marked(), error))
        });
        let (outer, error) = nested.unwrap().unwrap_err();
        assert_eq!(
            (outer, error.to_string().as_str()),
            (Some("http"), "a fault of this program: 3 is odd")
        );
        assert_eq!(marked(), None);
    }

    #[test]
    fn who_keeps_a_door_open_panics_as_an_unmarked_thread() {
        let kept = catch_unwind(|| keeping("http", || panic!("no more")));
        assert!(words(&*kept.unwrap_err()).contains("`http` is kept by nobody"));
        assert_eq!(marked(), None);
        assert_eq!(keeping("http", || 1), 1);
    }
}
