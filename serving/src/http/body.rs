//! The rows of one answer, made on a thread of their own while the client takes them.

use super::{ask::Ask, format::Writer};
use crate::Metrics;
use arrow::{
    array::{Array, RecordBatch, Scalar, StringArray},
    compute::{and, cast, filter_record_batch, kernels::cmp::eq},
    error::ArrowError,
};
use axum::body::Body;
use bytes::Bytes;
use dbb_operators::views::{Scan, Table, Unread};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{
    runtime::Handle,
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, Sender},
    },
    time::{Instant, timeout_at},
};

/// Pieces that are made before the first of them is taken.
const AHEAD: usize = 2;

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the request took too long")]
    TooLong,
    #[error("the answer has more than {0} rows")]
    TooManyRows(u64),
    #[error("the client has gone")]
    Gone,
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl Broken {
    fn outcome(&self) -> &'static str {
        match self {
            Self::TooLong => "timed_out",
            Self::TooManyRows(_) => "too_many_rows",
            Self::Gone => "cancelled",
            Self::Unread(_) | Self::Arrow(_) => "failed",
        }
    }
}

/// Counts a request once, when it ends in whatever way.
pub(super) struct Counted {
    metrics: Metrics,
    since: Instant,
    outcome: &'static str,
}

impl Counted {
    pub(super) fn new(metrics: Metrics) -> Self {
        metrics.connections("http", 1);
        Self {
            metrics,
            since: Instant::now(),
            outcome: "cancelled",
        }
    }

    pub(super) fn ended(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.connections("http", -1);
        self.metrics.question("http", self.outcome, self.since.elapsed());
    }
}

/// An answer that is about to be made.
pub(super) struct Making {
    pub(super) table: Arc<dyn Table>,
    pub(super) ask: Ask,
    pub(super) deadline: Instant,
    pub(super) max_rows: u64,
    pub(super) counted: Counted,
    pub(super) place: OwnedSemaphorePermit,
}

impl Making {
    /// Begins, and gives what the client will read. What breaks off ends without its last piece, so that the client
    /// can tell.
    pub(super) fn start(mut self) -> Body {
        let (pieces, mut taken) = mpsc::channel::<Bytes>(AHEAD);
        let handle = Handle::current();
        // Apart from the pieces, of which there may be no room for one more: it must not be lost.
        let broken_by = Arc::new(Mutex::new(None));
        let breaks = Arc::clone(&broken_by);
        tokio::task::spawn_blocking(move || {
            let made = self.make(&handle, &pieces);
            self.counted.ended(match &made {
                Ok(()) => "answered",
                Err(broken) => broken.outcome(),
            });
            *breaks.lock().unwrap_or_else(PoisonError::into_inner) = made.err();
            drop((self.place, pieces));
        });
        Body::from_stream(futures::stream::poll_fn(move |cx| {
            taken.poll_recv(cx).map(|piece| {
                let broken = || broken_by.lock().unwrap_or_else(PoisonError::into_inner).take();
                piece.map(Ok).or_else(|| broken().map(Err))
            })
        }))
    }

    fn make(&self, handle: &Handle, pieces: &Sender<Bytes>) -> Result<(), Broken> {
        let send = |piece: Vec<u8>| {
            if piece.is_empty() {
                return Ok(());
            }
            let sending = timeout_at(self.deadline, pieces.send(piece.into()));
            match handle.block_on(sending) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Broken::Gone),
                Err(_) => Err(Broken::TooLong),
            }
        };
        let schema = Arc::new(self.table.schema().project(&self.ask.columns)?);
        let mut writer = Writer::new(self.ask.format, &schema)?;
        let mut left = self.ask.limit.unwrap_or(u64::MAX);
        let mut rows = 0;
        for batch in self.table.scan(&self.scan()) {
            if Instant::now() >= self.deadline {
                return Err(Broken::TooLong);
            }
            if pieces.is_closed() {
                return Err(Broken::Gone);
            }
            let batch = self.wanted(&batch?)?;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
            let batch = batch.slice(0, take);
            left -= take as u64;
            rows += take as u64;
            if rows > self.max_rows {
                return Err(Broken::TooManyRows(self.max_rows));
            }
            if take > 0 {
                send(writer.rows(&batch)?)?;
                self.counted.metrics.rows_sent("http", take as u64);
            }
            if left == 0 {
                break;
            }
        }
        send(writer.end()?)
    }

    /// What the table is asked for: the wanted columns, then those that are only compared.
    fn scan(&self) -> Scan {
        let schema = self.table.schema();
        let compared = self.ask.equal.iter().map(|(place, _)| *place);
        let named = self.ask.equal.iter();
        Scan {
            projection: Some(self.ask.columns.iter().copied().chain(compared).collect()),
            equal: named
                .map(|(place, value)| (schema.field(*place).name().clone(), value.clone()))
                .collect(),
        }
    }

    /// The rows that have the values asked for, for a table may give others too, in the wanted columns.
    fn wanted(&self, batch: &RecordBatch) -> Result<RecordBatch, Broken> {
        let columns = self.ask.columns.len();
        let mut keep = None;
        for (n, (_, value)) in self.ask.equal.iter().enumerate() {
            let column = batch.column(columns + n);
            let values = match column.data_type() {
                arrow::datatypes::DataType::Dictionary(_, values) => values,
                kind => kind,
            };
            let value = cast(&StringArray::from_iter_values([value]), values)?;
            let same = eq(column, &Scalar::new(value))?;
            keep = Some(match keep {
                Some(others) => and(&others, &same)?,
                None => same,
            });
        }
        let wanted: Vec<usize> = (0..columns).collect();
        let batch = match keep {
            Some(keep) => filter_record_batch(batch, &keep)?,
            None => batch.clone(),
        };
        Ok(batch.project(&wanted)?)
    }
}
