//! The two ends of a wire between an operator and the thread that does the work.
//!
//! ```text
//!   operator: Port --- bounded channel of batches ---> Served: thread
//!                  <-- answers, and a wake-up --------
//! ```
//!
//! The channel towards the thread is bounded, and the operator keeps what does not fit: it never
//! blocks. The channel back is not: it holds at most the answers to what is in flight.

use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use timely::scheduling::SyncActivator;

/// Requests that go together, with a number that their answer repeats.
#[derive(Debug)]
pub struct Batch<Q> {
    /// Which batch of this port this is.
    pub id: u64,
    /// At least one.
    pub requests: Vec<Q>,
}

/// All that a batch was answered.
#[derive(Debug)]
pub struct Answer<A> {
    /// The number of the batch.
    pub id: u64,
    /// Any number, in any order: what the operator emits.
    pub answers: Vec<A>,
}

type Waker = Arc<Mutex<Option<Arc<SyncActivator>>>>;

/// The operator's end. Clones are the same wire: at any time only one worker may use it.
#[derive(Debug, Clone)]
pub struct Port<Q, A> {
    batches: Sender<Batch<Q>>,
    answers: Receiver<Answer<A>>,
    waker: Waker,
}

/// The thread's end.
#[derive(Debug, Clone)]
pub struct Served<Q, A> {
    /// What to do; disconnected when the dataflow has gone.
    pub batches: Receiver<Batch<Q>>,
    answers: Sender<Answer<A>>,
    waker: Waker,
}

/// A wire that holds `depth` batches on their way to the thread.
pub fn port<Q, A>(depth: usize) -> (Port<Q, A>, Served<Q, A>) {
    let (batch_in, batches) = crossbeam_channel::bounded(depth);
    let (answer_in, answers) = crossbeam_channel::unbounded();
    let waker = Waker::default();
    (
        Port {
            batches: batch_in,
            answers,
            waker: Arc::clone(&waker),
        },
        Served {
            batches,
            answers: answer_in,
            waker,
        },
    )
}

impl<Q, A> Port<Q, A> {
    pub(crate) fn wake_with(&self, activator: &Arc<SyncActivator>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(activator));
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.batches.is_full()
    }

    pub(crate) fn try_send(&self, batch: Batch<Q>) -> Result<(), TrySendError<Batch<Q>>> {
        self.batches.try_send(batch)
    }

    pub(crate) fn answered(&self) -> impl Iterator<Item = Answer<A>> + '_ {
        self.answers.try_iter()
    }
}

impl<Q, A> Served<Q, A> {
    /// Gives the answers to batch `id`; everything that was asked is finished with.
    ///
    /// A dataflow that has gone no longer wants it: then it is dropped.
    pub fn answer(&self, id: u64, answers: Vec<A>) {
        let _ = self.answers.send(Answer { id, answers });
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = waker.activate();
        }
    }
}
