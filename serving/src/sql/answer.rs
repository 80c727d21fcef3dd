//! The rows of a statement, made as they are taken, within its limits.

use super::SqlError;
use crate::Metrics;
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use dbb_operators::publish::Published;
use futures::{Stream, StreamExt};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, Sleep},
};

/// How long one statement may take, from when it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) limit: Duration,
}

/// Tells that a statement is no longer wanted.
pub(super) type Cancel = watch::Receiver<u64>;

/// A statement's rows. Dropping it stops the statement and frees all that it holds.
pub struct Answer {
    schema: SchemaRef,
    published: Option<Arc<Published>>,
    batches: Option<SendableRecordBatchStream>,
    timer: Pin<Box<Sleep>>,
    deadline: Deadline,
    cancelled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    max_rows: u64,
    rows: u64,
    account: Account,
}

impl Answer {
    pub(super) fn new(
        batches: SendableRecordBatchStream,
        published: Option<Arc<Published>>,
        deadline: Deadline,
        cancel: Option<Cancel>,
        max_rows: u64,
        account: Account,
    ) -> Self {
        Self {
            schema: batches.schema(),
            published,
            batches: Some(batches),
            timer: Box::pin(tokio::time::sleep_until(deadline.at)),
            deadline,
            cancelled: cancel.map(|cancel| Box::pin(cancelled(cancel)) as _),
            max_rows,
            rows: 0,
            account,
        }
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The epoch that it is the answer of; none before the first.
    pub fn published(&self) -> Option<&Arc<Published>> {
        self.published.as_ref()
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<RecordBatch, SqlError>>> {
        let Some(batches) = &mut self.batches else {
            return Poll::Ready(None);
        };
        if let Some(cancelled) = &mut self.cancelled
            && cancelled.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(SqlError::Cancelled)));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(SqlError::TooLong(self.deadline.limit))));
        }
        batches.poll_next_unpin(cx).map(|next| {
            next.map(|batch| {
                let batch = batch?;
                self.rows += batch.num_rows() as u64;
                if self.rows > self.max_rows {
                    return Err(SqlError::TooManyRows { max: self.max_rows });
                }
                Ok(batch)
            })
        })
    }
}

/// Resolves when the statement is no longer wanted; never, when nobody is left who could say so.
pub(super) async fn cancelled(mut cancel: Cancel) {
    if cancel.changed().await.is_err() {
        std::future::pending().await
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.poll_batch(cx));
        match &next {
            Some(Ok(batch)) => self.account.sent(batch.num_rows() as u64),
            Some(Err(error)) => {
                self.account.ended(error.outcome());
                self.batches = None;
                self.published = None;
            }
            None => {
                if self.batches.take().is_some() {
                    self.account.ended("answered");
                }
                self.published = None;
            }
        }
        Poll::Ready(next)
    }
}

/// Counts a statement once, when it ends in whatever way.
#[derive(Debug)]
pub(super) struct Account {
    metrics: Metrics,
    since: Instant,
    open: bool,
}

impl Account {
    pub(super) fn open(metrics: Metrics) -> Self {
        Self {
            metrics,
            since: Instant::now(),
            open: true,
        }
    }

    /// Counts what failed; of what did not, somebody else keeps the account.
    pub(super) fn unless_ended<T>(mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        match &result {
            Ok(_) => self.open = false,
            Err(error) => self.ended(error.outcome()),
        }
        result
    }

    fn sent(&self, rows: u64) {
        self.metrics.rows_sent("sql", rows);
    }

    pub(super) fn ended(&mut self, outcome: &'static str) {
        if std::mem::take(&mut self.open) {
            self.metrics.question("sql", outcome, self.since.elapsed());
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ended("cancelled");
    }
}
