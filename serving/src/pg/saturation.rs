//! Whether SQL still has room: a door at which everybody waits looks, from outside, like one that is broken.
//!
//! ```text
//!   places of connections, threads of statements --each half second--> all taken, for a while? --> /readyz says so
//! ```

use super::Door;
use crate::Health;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// How long all may be taken before it is said: a dashboard that opens takes all for a moment.
const PATIENCE: Duration = Duration::from_secs(10);
/// The name of the condition.
const CONDITION: &str = "sql";

/// Tells `health` until it is dropped with its runtime.
pub(super) async fn tell(door: Arc<Door>, health: Arc<Health>) {
    let mut since = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(what) = taken(&door) else {
            since = None;
            health.clear(CONDITION);
            continue;
        };
        let since = *since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            health.fail(
                CONDITION,
                format!(
                    "{what} have been taken for {} seconds; `select * from statements()` names who takes them, and \
                     `pg_terminate_backend` ends one",
                    since.elapsed().as_secs()
                ),
            );
        }
    }
}

/// What is all taken now.
fn taken(door: &Door) -> Option<String> {
    if door.places.available_permits() == 0 {
        let most = door.settings.max_connections;
        return Some(format!("all {most} connections (`sql.max_connections`)"));
    }
    let most = door.settings.limits().threads;
    (door.engine.running().working() >= most)
        .then(|| format!("all {most} places for statements that are worked on"))
}
