//! The real services that tests run against: Apache Kafka, MirrorMaker 2, ActiveMQ, PostgreSQL, Rucio, S3, a Python with a
//! Butler.
//!
//! ```text
//!   test process --(pipe)--> supervisor --> broker, server, worker
//!                     |
//!                     +-- end of file, however the test process ended: all is killed and removed
//! ```
//!
//! A service that is not there is an error that says how to get it (`make setup`), never a test
//! that is silently skipped.

mod activemq;
mod certificates;
mod kafka;
mod mirror;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod proxy;
mod rucio;
mod rucio_stub;
mod s3;
mod stomp;
mod stomp_stub;
mod topics;

pub use activemq::ActiveMq;
pub use certificates::Certificates;
pub use kafka::{Kafka, KafkaOptions};
pub use mirror::Mirror;
pub use pgbouncer::{PgBouncer, PoolMode};
pub use ports::free_port;
pub use postgres::Postgres;
pub use process::{Process, Program};
pub use proxy::Proxy;
pub use rucio::{Rucio, RucioOptions};
pub use rucio_stub::{Metadata, RucioStub};
pub use s3::S3;
pub use stomp::{Stomp, StompFrame};
pub use stomp_stub::{Harm, StompStub};
pub use topics::watermarks;

use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The top folder of the clone.
pub fn root() -> &'static Path {
    static ROOT: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.join("../..").canonicalize().unwrap_or_else(|_| here.into())
    });
    &ROOT
}

/// The Python that has a real Butler, `.venv/bin/python`.
pub fn python() -> Result<PathBuf> {
    let python = root().join(".venv/bin/python");
    ensure!(
        python.exists(),
        "there is no Python with a Butler at {}: run `make setup`",
        python.display()
    );
    Ok(python)
}

/// A new folder under `target/services/`, removed when dropped.
pub fn scratch(name: &str) -> Result<tempfile::TempDir> {
    let parent = root().join("target/services");
    std::fs::create_dir_all(&parent).with_context(|| format!("could not make {}", parent.display()))?;
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(&parent)
        .with_context(|| format!("could not make a folder in {}", parent.display()))
}

/// Asks `ready` again and again until it says true; an error after `limit` that says what was awaited.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        if ready().with_context(|| format!("while waiting until {what}"))? {
            return Ok(());
        }
        ensure!(
            start.elapsed() < limit,
            "waited {} s in vain until {what}",
            limit.as_secs()
        );
        thread::sleep(Duration::from_millis(20));
    }
}
