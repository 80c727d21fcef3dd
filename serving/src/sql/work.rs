//! A statement that is being answered: its operators, and the runtime that is its own.
//!
//! It goes to a thread for each piece of its answer, and rests between them: who takes rows slowly keeps no thread.

use super::{SqlError, watch::Watch};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Bytes of rows after which a piece is full.
const PIECE_BYTES: usize = 128 << 10;
/// Threads on which a statement may wait for others.
const WAITING_THREADS: usize = 4;

/// Makes of a batch what is sent of it, each with its size in bytes.
pub type Encode<T> = Box<dyn FnMut(RecordBatch) -> Box<dyn Iterator<Item = (T, usize)> + Send> + Send>;

/// The runtime of one statement: what its operators start, they start on the statement's own thread.
pub(super) struct Local(Option<Runtime>);

impl Local {
    pub(super) fn new() -> Result<Self, SqlError> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(WAITING_THREADS)
            .build()
            .map_err(|error| SqlError::Failed(format!("no statement can be begun: {error}")))?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn block_on<T>(
        &self,
        doing: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        match &self.0 {
            Some(runtime) => runtime.block_on(doing),
            None => Err(SqlError::Cancelled),
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Whatever waits in it is not waited for.
            runtime.shutdown_background();
        }
    }
}

/// What was started, before anybody takes of it. The order of the fields is that in which they are let go.
pub(super) struct Started {
    pub(super) batches: SendableRecordBatchStream,
    pub(super) local: Local,
}

impl Started {
    pub(super) fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }
}

/// What a thread goes on with.
pub(super) struct Work<T> {
    rest: Option<Box<dyn Iterator<Item = (T, usize)> + Send>>,
    encode: Encode<T>,
    started: Started,
    watch: Arc<Watch>,
    rows: u64,
    max_rows: u64,
}

/// Some of the answer, and how to go on; not at all, when that was all.
pub(super) struct Piece<T> {
    pub(super) items: Vec<T>,
    pub(super) rows: u64,
    pub(super) work: Option<Box<Work<T>>>,
}

impl<T> Work<T> {
    pub(super) fn new(started: Started, encode: Encode<T>, watch: Arc<Watch>, max_rows: u64) -> Self {
        Self {
            rest: None,
            encode,
            started,
            watch,
            rows: 0,
            max_rows,
        }
    }

    /// The next piece.
    ///
    /// # Errors
    ///
    /// The statement fails, or must end.
    pub(super) fn next(mut self: Box<Self>) -> Result<Piece<T>, SqlError> {
        let before = self.rows;
        let mut items = Vec::new();
        let mut bytes = 0;
        loop {
            while let Some((item, more)) = self.rest.as_mut().and_then(Iterator::next) {
                items.push(item);
                bytes += more;
                if bytes >= PIECE_BYTES {
                    break;
                }
            }
            if !items.is_empty() {
                return Ok(Piece {
                    items,
                    rows: self.rows - before,
                    work: Some(self),
                });
            }
            match self.batch()? {
                Some(batch) => self.rest = Some((self.encode)(batch)),
                None => {
                    return Ok(Piece {
                        items,
                        rows: 0,
                        work: None,
                    });
                }
            }
        }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let Started { batches, local } = &mut self.started;
        let watch = &self.watch;
        let next = local.block_on(async {
            tokio::select! {
                biased;
                error = watch.ended() => Err(error),
                next = batches.next() => Ok(next.transpose()?),
            }
        })?;
        if let Some(batch) = &next {
            self.rows += batch.num_rows() as u64;
            if self.rows > self.max_rows {
                return Err(SqlError::TooManyRows { max: self.max_rows });
            }
        }
        Ok(next)
    }
}
