//! Tell: what one event says, as facts.

use crate::{
    Epoch,
    facts::{Attempt, Change, Complete, DidName, Said, Told, Wanted},
};
use dbb_events::Event;
use timely::dataflow::Stream;

/// The facts of a source, each kind a stream of its own: what all views are made from.
pub struct Facts<'s> {
    /// Changes of replicas.
    pub changes: Stream<'s, Epoch, Vec<Change>>,
    /// Names of their files.
    pub names: Stream<'s, Epoch, Vec<DidName>>,
    /// Listings that named everything.
    pub completes: Stream<'s, Epoch, Vec<Complete>>,
    /// Steps of requests, repeats among them.
    pub attempts: Stream<'s, Epoch, Vec<Attempt>>,
    /// The rest.
    pub said: Stream<'s, Epoch, Vec<Said>>,
}

/// Makes facts of events, and remembers which files it has named lately.
#[derive(Debug)]
pub struct Teller {
    wanted: Wanted,
}

impl Teller {
    /// One that makes what is wanted.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted }
    }

    /// Appends the facts of `event`, which was read from `body`, to `told`.
    pub fn tell(&mut self, event: &Event<'_>, body: &[u8], told: &mut Told) {
        let _ = (self.wanted, event, body, told);
    }
}
