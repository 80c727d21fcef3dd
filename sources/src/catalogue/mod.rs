//! Catalogue: Rucio's own table of replicas, its state and its changes, where a database administrator grants it.
//!
//! ```text
//!   PostgreSQL: snapshot of `replicas` --\
//!               changes since ------------> thread --bounded channel--> records
//! ```
//!
//! In:    one session with the database; after a fault a new one, which begins with a snapshot again.
//! Out:   records of the stream [`STREAM`]: partition [`SNAPSHOT`] has lines of a listing, partition [`CHANGES`]
//!        rows of a replica journal, in the forms in which both are recorded.
//! State: the records of the channel.
//!
//! Nothing is stored and nothing acked: every start reads the table as it is.

mod changes;
mod connect;
mod rses;
mod session;
mod settings;
mod status;

pub use connect::check;
pub use settings::CatalogueSettings;
pub use status::CatalogueStatus;

use crate::{Offsets, Partition, Polled, Source, SourceError, Waker};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use dbb_events::{Place, Received};
use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The stream under which the catalogue's records go.
pub const STREAM: &str = "rucio.replicas";
/// The partition of the lines of snapshots.
pub const SNAPSHOT: i32 = 0;
/// The partition of changes.
pub const CHANGES: i32 = 1;

/// Records on their way from the thread.
const CHANNEL: usize = 8192;
/// The longest time between two tries to reach the database.
const PATIENCE: Duration = Duration::from_secs(3);

type Woken = Arc<Mutex<Option<Waker>>>;

struct CatalogueSource {
    records: Receiver<Result<Received, SourceError>>,
    /// What came after records that were handed out first.
    failed: Option<SourceError>,
    /// Set by the thread once it has told the whole table.
    told_all: Arc<AtomicBool>,
    waker: Woken,
    /// The thread ends once this has gone.
    _alive: Arc<()>,
}

/// The catalogue as a source, read by a thread of its own; one worker has it.
///
/// With `once` it ends after one snapshot. What the database refuses before the first snapshot ends it with an error; what
/// it refuses later is trouble, and is tried again.
///
/// # Errors
///
/// No thread can be started.
pub fn open(
    settings: &CatalogueSettings,
    once: bool,
) -> Result<(Box<dyn Source>, CatalogueStatus), SourceError> {
    let (sender, records) = crossbeam_channel::bounded(CHANNEL);
    let waker = Woken::default();
    let alive = Arc::new(());
    let told_all = Arc::new(AtomicBool::new(false));
    let (settings, woken, wanted) = (settings.clone(), Arc::clone(&waker), Arc::downgrade(&alive));
    let told = Arc::clone(&told_all);
    let status = CatalogueStatus::new();
    let tells = status.clone();
    std::thread::Builder::new()
        .name("catalogue".into())
        .spawn(move || follow(&settings, once, &sender, &woken, &wanted, &told, &tells))
        .map_err(|e| SourceError::Configuration(format!("no thread for the catalogue: {e}")))?;
    let source = Box::new(CatalogueSource {
        records,
        failed: None,
        told_all,
        waker,
        _alive: alive,
    });
    Ok((source, status))
}

/// Sessions after each other, until nobody listens.
fn follow(
    settings: &CatalogueSettings,
    once: bool,
    sender: &Sender<Result<Received, SourceError>>,
    waker: &Woken,
    wanted: &Weak<()>,
    told_all: &AtomicBool,
    status: &CatalogueStatus,
) {
    let mut next = [0u64; 2];
    let mut pause = Duration::from_secs(1);
    // What was said last, and how often it has failed since it answered.
    let (mut told, mut tries) = (String::new(), 0u64);
    let stream: Arc<str> = STREAM.into();
    loop {
        let before = next;
        let ended = session::session(settings, once, status, &mut |partition, record| {
            if record.is_null() {
                told_all.store(true, Ordering::Release);
                return wanted.strong_count() > 0;
            }
            let offset = &mut next[usize::from(partition == CHANGES)];
            let received = Received {
                place: Place {
                    stream: Arc::clone(&stream),
                    partition,
                    offset: *offset,
                    line: None,
                },
                topic: None,
                appended_at: None,
                marks: None,
                body: record.to_string().into(),
            };
            *offset += 1;
            let taken = sender.send(Ok(received)).is_ok();
            wake(waker);
            taken
        });
        match ended {
            Ok(()) => {
                told_all.store(true, Ordering::Release);
                status.ended();
                return;
            }
            // What worked before is no fault of the settings: somebody changes the tables, and will be done.
            Err(error) if !error.is_transient() && next == [0, 0] => {
                // Nobody may be there to hear it; then it does not matter.
                let _ = sender.send(Err(error));
                wake(waker);
                return;
            }
            Err(error) => {
                status.failed(error.to_string());
                if next != before || told != error.to_string() {
                    tracing::warn!(%error, seconds = pause.as_secs(), tries, "the catalogue will be read anew");
                }
                (told, tries) = (error.to_string(), tries + 1);
            }
        }
        if next != before {
            (pause, tries) = (Duration::from_secs(1), 0);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PATIENCE);
        if wanted.strong_count() == 0 {
            return;
        }
    }
}

fn wake(waker: &Woken) {
    if let Some(waker) = &*waker.lock().unwrap_or_else(PoisonError::into_inner) {
        waker();
    }
}

impl Source for CatalogueSource {
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for _ in 0..max {
            match self.records.try_recv() {
                Ok(Ok(record)) => batch.push(record),
                Ok(Err(error)) => {
                    self.failed = Some(error);
                    return Ok(Polled::More);
                }
                Err(TryRecvError::Empty) => return Ok(Polled::Idle),
                Err(TryRecvError::Disconnected) => return Ok(Polled::Finished),
            }
        }
        Ok(Polled::More)
    }

    fn known_to(&self, _: &Partition) -> u64 {
        // Nothing of it is ever for a Butler.
        u64::MAX
    }

    fn caught_up(&self) -> bool {
        self.told_all.load(Ordering::Acquire) && self.records.is_empty()
    }

    fn ack(&mut self, _: &Offsets) -> Result<(), SourceError> {
        Ok(())
    }

    fn set_waker(&mut self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }
}
