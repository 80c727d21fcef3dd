//! One published epoch, held for as long as a statement needs it.

use super::SqlError;
use dbb_operators::{
    publish::{Published, Publisher},
    views::Unread,
};
use std::{sync::Arc, time::Duration};

/// The view that is published only for those who ask.
pub(super) const REPLICAS: &str = "replicas";

/// Whatever gives published epochs.
pub trait Epochs: Send + Sync {
    /// What was published last.
    fn newest(&self) -> Option<Arc<Published>>;

    /// Waits, for at most `patience`, for something published that has the replicas too.
    ///
    /// # Errors
    ///
    /// Another process has some of them, and does not answer.
    fn with_replicas(&self, patience: Duration) -> Result<Option<Arc<Published>>, Unread>;
}

impl Epochs for Publisher {
    fn newest(&self) -> Option<Arc<Published>> {
        Self::newest(self)
    }

    fn with_replicas(&self, patience: Duration) -> Result<Option<Arc<Published>>, Unread> {
        Ok(Self::with_replicas(self, patience))
    }
}

/// One epoch for ever: the end of a replay.
impl Epochs for Arc<Published> {
    fn newest(&self) -> Option<Arc<Published>> {
        Some(Self::clone(self))
    }

    fn with_replicas(&self, _: Duration) -> Result<Option<Arc<Published>>, Unread> {
        Ok(Some(Self::clone(self)))
    }
}

/// The epoch of a statement; none, before the first is published.
pub(super) async fn pin(
    epochs: &Arc<dyn Epochs>,
    needs_replicas: bool,
    patience: Duration,
) -> Result<Option<Arc<Published>>, SqlError> {
    if !needs_replicas {
        return Ok(epochs.newest());
    }
    let asked = Arc::clone(epochs);
    // It waits for the dataflow, on a thread that nothing else needs.
    let waited = tokio::task::spawn_blocking(move || asked.with_replicas(patience)).await;
    match waited {
        Ok(Ok(Some(published))) => Ok(Some(published)),
        Ok(Err(unread)) => Err(unread.into()),
        Ok(Ok(None)) => Err(SqlError::TooLong(patience)),
        Err(_) => Err(SqlError::Cancelled),
    }
}
