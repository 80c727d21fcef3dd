//! The rows of a statement, made as they are taken, within its limits.
//!
//! ```text
//!   taken --> a statement thread makes a piece --> taken, and so on      ended: by time, by call, by being dropped
//! ```
//!
//! Whoever takes the rows never waits for a thread to notice: an answer that must end has ended, and the thread learns of
//! it from its watch.

use super::{
    SqlError,
    running::{Listed, Who},
    threads::Threads,
    watch::Watch,
    work::{Piece, Work},
};
use crate::Metrics;
use arrow::datatypes::SchemaRef;
use dbb_operators::publish::Published;
use futures::Stream;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How long one statement may take, from when it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) limit: Duration,
}

/// Tells that a statement is no longer wanted.
pub(super) type Cancel = watch::Receiver<u64>;

/// A statement that is asked: when, by whom, for how long at most, and who may call it off.
#[derive(Debug, Clone)]
pub struct Asked {
    pub(super) deadline: Deadline,
    pub(super) cancel: Option<Cancel>,
    pub(super) who: Who,
    pub(super) text: Arc<str>,
}

impl Asked {
    pub(super) fn left(&self) -> Duration {
        self.deadline.at.saturating_duration_since(Instant::now())
    }

    /// Resolves when what `watch` watches must end.
    pub(super) fn ended(&self, watch: &Arc<Watch>) -> Pin<Box<dyn Future<Output = SqlError> + Send>> {
        let (watch, cancel) = (Arc::clone(watch), self.cancel.clone());
        Box::pin(async move {
            match cancel {
                Some(cancel) => tokio::select! {
                    error = watch.ended() => error,
                    () = cancelled(cancel) => SqlError::Cancelled,
                },
                None => watch.ended().await,
            }
        })
    }

    pub(super) async fn unless_ended<T>(
        &self,
        watch: &Arc<Watch>,
        doing: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        tokio::select! {
            done = doing => done,
            error = self.ended(watch) => Err(error),
        }
    }
}

/// Resolves when the statement is no longer wanted; never, when nobody is left who could say so.
async fn cancelled(mut cancel: Cancel) {
    if cancel.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Calls off what is done for nobody any more.
pub(super) struct CallOff(pub(super) Arc<Watch>);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

type Working<T> = Pin<Box<dyn Future<Output = Result<Piece<T>, SqlError>> + Send>>;

enum State<T> {
    Resting(Box<Work<T>>),
    Working(Working<T>),
    Ended,
}

/// A statement's rows, each as `T`. Dropping it stops the statement and frees all that it holds.
pub struct Answer<T: Send + 'static> {
    schema: SchemaRef,
    published: Option<Arc<Published>>,
    items: std::vec::IntoIter<T>,
    state: State<T>,
    threads: Arc<Threads>,
    watch: CallOff,
    ended: Pin<Box<dyn Future<Output = SqlError> + Send>>,
    listed: Option<Listed>,
    account: Account,
}

impl<T: Send + 'static> Answer<T> {
    #[expect(clippy::too_many_arguments, reason = "all that a statement is")]
    pub(super) fn new(
        schema: SchemaRef,
        work: Work<T>,
        published: Option<Arc<Published>>,
        threads: Arc<Threads>,
        watch: CallOff,
        asked: &Asked,
        listed: Listed,
        account: Account,
    ) -> Self {
        listed.works(false);
        Self {
            schema,
            published,
            items: Vec::new().into_iter(),
            state: State::Resting(Box::new(work)),
            threads,
            ended: asked.ended(&watch.0),
            watch,
            listed: Some(listed),
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

    fn works(&self, works: bool) {
        if let Some(listed) = &self.listed {
            listed.works(works);
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, SqlError>>> {
        loop {
            if let Some(item) = self.items.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            if matches!(self.state, State::Ended) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(error) = self.ended.as_mut().poll(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Resting(work) => {
                    self.works(true);
                    let working = self.threads.run(&self.watch.0, move || work.next());
                    self.state = State::Working(Box::pin(working));
                }
                State::Working(mut working) => match working.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Working(working);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(piece)) => {
                        self.works(false);
                        self.account.sent(piece.rows);
                        self.items = piece.items.into_iter();
                        if let Some(work) = piece.work {
                            self.state = State::Resting(work);
                        }
                    }
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Lets go of what is left, on a thread that has the stack for it.
    fn let_go(&mut self) {
        if let State::Resting(work) = std::mem::replace(&mut self.state, State::Ended) {
            self.threads.let_go(work);
        }
        self.watch.0.call_off();
        self.published = None;
        self.listed = None;
    }
}

impl<T: Send + Unpin + 'static> Stream for Answer<T> {
    type Item = Result<T, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.poll_item(cx));
        match &next {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.account.ended(error.outcome());
                self.let_go();
            }
            None => {
                self.account.ended("answered");
                self.let_go();
            }
        }
        Poll::Ready(next)
    }
}

impl<T: Send + 'static> Drop for Answer<T> {
    fn drop(&mut self) {
        self.let_go();
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
