//! Patience: what the store refuses is tried again, for a time.

use super::{error::CheckpointError, status::Status};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Between two looks whether there is still time.
const LOOK: Duration = Duration::from_millis(100);

/// Does `attempt` until it works, for at most `give_up`, and not once [`Status::leave`] was said. Only what the store
/// may do later is tried again.
pub(super) fn persist<T>(
    status: &Status,
    give_up: Duration,
    mut attempt: impl FnMut() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    let begun = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let error = match attempt() {
            Ok(done) => {
                status.works();
                return Ok(done);
            }
            Err(error) => error,
        };
        let text = chain(&error);
        status.fails(&text);
        if !matches!(error, CheckpointError::Store { .. })
            || begun.elapsed() >= give_up
            || status.is_leaving()
        {
            return Err(error);
        }
        tracing::warn!(error = text, "a checkpoint could not be written: trying again");
        let until = Instant::now() + pause;
        while Instant::now() < until && !status.is_leaving() {
            thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
