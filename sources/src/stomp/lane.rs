//! Lane: what one broker has delivered, and what may be acknowledged of it.
//!
//! ```text
//!   delivered --> offset                                handled below an offset --> acknowledgements, in order
//!        \--> delivered before, on a connection that ended: no offset, but it waits for that of the first time
//! ```
//!
//! State: a few words for each message that is delivered and not acknowledged, and as many of the last connection.

use std::collections::{HashMap, VecDeque};

/// One broker's deliveries.
#[derive(Debug)]
pub(super) struct Lane {
    /// The offset of the next message.
    next: u64,
    /// All below has a durable outcome.
    handled: u64,
    connection: u64,
    /// Delivered on this connection, in this order, and not acknowledged.
    waiting: VecDeque<Waiting>,
    /// Acknowledged on this connection: whether the broker has heard of it, nobody knows when it breaks.
    acked: VecDeque<(Box<str>, u64)>,
    /// What was delivered on earlier connections, with the offset it has.
    earlier: HashMap<Box<str>, u64>,
    /// What was emitted and has no outcome yet: its offset, and the bytes that it is counted as.
    flying: VecDeque<(u64, u64)>,
    remember: u64,
}

#[derive(Debug)]
struct Waiting {
    /// The message, by the broker's name for it.
    id: Box<str>,
    /// This delivery of it.
    ack: Box<str>,
    offset: u64,
}

impl Lane {
    /// A lane whose first message has the offset `next`; what was acknowledged last is remembered for `remember` messages.
    pub(super) fn new(next: u64, remember: u64) -> Self {
        Self {
            next,
            handled: next,
            connection: 0,
            waiting: VecDeque::new(),
            acked: VecDeque::new(),
            earlier: HashMap::new(),
            flying: VecDeque::new(),
            remember,
        }
    }

    /// The connection whose deliveries may be acknowledged.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    /// Takes a delivery; its offset, or `None` if this message was emitted already.
    pub(super) fn deliver(&mut self, connection: u64, id: &str, ack: &str) -> Option<u64> {
        if connection != self.connection {
            self.connection = connection;
            // A broker gives again what it gave last: as many as it may send ahead, and perhaps as many acknowledgements
            // were on their way to it.
            let oldest = self.handled.min(self.next.saturating_sub(2 * self.remember));
            self.earlier.retain(|_, offset| *offset >= oldest);
            self.earlier.extend(self.acked.drain(..));
            let waiting = self.waiting.drain(..);
            self.earlier
                .extend(waiting.map(|waiting| (waiting.id, waiting.offset)));
        }
        // A message without a name could be any.
        let known = self.earlier.get(id).copied().filter(|_| !id.is_empty());
        let offset = known.unwrap_or(self.next);
        self.waiting.push_back(Waiting {
            id: id.into(),
            ack: ack.into(),
            offset,
        });
        if known.is_some() {
            return None;
        }
        self.next += 1;
        Some(offset)
    }

    /// The message that was emitted last counts as so many bytes until it is handled.
    pub(super) fn weigh(&mut self, offset: u64, bytes: u64) {
        self.flying.push_back((offset, bytes));
    }

    /// Everything below `offset` has a durable outcome; the bytes of what had none before.
    pub(super) fn handle(&mut self, offset: u64) -> u64 {
        self.handled = self.handled.max(offset);
        let mut landed = 0;
        while let Some((_, bytes)) = self.flying.pop_front_if(|(offset, _)| *offset < self.handled) {
            landed += bytes;
        }
        landed
    }

    /// What may be acknowledged now: of the deliveries of this connection as many as there is none before them that may not.
    pub(super) fn release(&mut self) -> Vec<Box<str>> {
        let mut acks = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.offset < self.handled)
            && let Some(waiting) = self.waiting.pop_front()
        {
            acks.push(waiting.ack);
            self.acked.push_back((waiting.id, waiting.offset));
        }
        let excess = self.acked.len().saturating_sub(self.remember as usize);
        self.acked.drain(..excess);
        acks
    }

    /// True if nothing waits for its acknowledgement.
    pub(super) fn is_clear(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn acks(lane: &mut Lane, handled: u64) -> Vec<Box<str>> {
        let _ = lane.handle(handled);
        lane.release()
    }

    #[test]
    fn only_what_is_handled_is_acked_and_only_where_it_was_delivered() {
        let mut lane = Lane::new(10, 100);
        assert_eq!(lane.deliver(1, "a", "1"), Some(10));
        assert_eq!(lane.deliver(1, "b", "2"), Some(11));
        assert_eq!(acks(&mut lane, 11), ["1".into()]);
        // The connection breaks; the broker has not heard of the first acknowledgement either.
        assert_eq!(lane.deliver(2, "a", "5"), None);
        assert_eq!(lane.deliver(2, "b", "6"), None);
        assert_eq!(lane.deliver(2, "c", "7"), Some(12));
        assert_eq!(lane.release(), ["5".into()]);
        assert_eq!(acks(&mut lane, 12), ["6".into()]);
        assert!(!lane.is_clear());
        assert_eq!(acks(&mut lane, 13), ["7".into()]);
        assert!(lane.is_clear());
    }

    #[test]
    fn a_message_counts_until_it_is_handled_whatever_becomes_of_its_connection() {
        let mut lane = Lane::new(0, 100);
        for (connection, id, bytes) in [(1, "a", 10), (1, "b", 20), (2, "c", 40)] {
            let offset = lane.deliver(connection, id, "1").unwrap();
            lane.weigh(offset, bytes);
        }
        assert_eq!([lane.handle(1), lane.handle(1), lane.handle(3)], [10, 0, 60]);
    }

    #[test]
    fn a_message_without_a_name_is_never_taken_for_another() {
        let mut lane = Lane::new(0, 100);
        assert_eq!(lane.deliver(1, "", "1"), Some(0));
        assert_eq!(lane.deliver(2, "", "2"), Some(1));
    }

    /// A broker that gives again, in order, whatever was not acknowledged when the connection broke.
    #[derive(Debug, Clone)]
    enum Step {
        Deliver,
        Handle(u8),
        /// So many of the acknowledgements on their way are lost.
        Break(u8),
    }

    proptest! {
        #[test]
        fn each_message_is_emitted_once_and_acked_only_once_handled(
            steps in prop::collection::vec(
                prop_oneof![
                    4 => Just(Step::Deliver),
                    2 => (0u8..6).prop_map(Step::Handle),
                    1 => (0u8..4).prop_map(Step::Break),
                ],
                1..200,
            )
        ) {
            let mut lane = Lane::new(0, 1000);
            let (mut connection, mut given, mut next) = (1u64, VecDeque::new(), 0u64);
            // Message numbers the broker still has, and those told to it on this connection.
            let (mut held, mut heard) = (VecDeque::<u64>::new(), VecDeque::<u64>::new());
            let (mut emitted, mut handled) = (HashMap::<u64, u64>::new(), 0u64);
            for step in steps {
                match step {
                    Step::Deliver => {
                        let message = given.pop_front().unwrap_or_else(|| {
                            next += 1;
                            held.push_back(next - 1);
                            next - 1
                        });
                        let ack = format!("{connection}/{message}");
                        if let Some(offset) = lane.deliver(connection, &message.to_string(), &ack) {
                            prop_assert_eq!(emitted.insert(message, offset), None, "emitted twice");
                        }
                    }
                    Step::Handle(more) => {
                        handled = (handled + u64::from(more)).min(emitted.len() as u64);
                        let _ = lane.handle(handled);
                    }
                    Step::Break(lost) => {
                        let kept = heard.len().saturating_sub(usize::from(lost));
                        held.retain(|message| !heard.iter().take(kept).any(|acked| acked == message));
                        heard.clear();
                        connection += 1;
                        given = held.clone();
                    }
                }
                for ack in lane.release() {
                    let (of, message) = ack.split_once('/').unwrap();
                    // What is released for an older connection is dropped by whoever sends.
                    if of.parse::<u64>().unwrap() == connection {
                        let message: u64 = message.parse().unwrap();
                        prop_assert!(emitted[&message] < handled, "acked before it was handled");
                        heard.push_back(message);
                    }
                }
            }
        }
    }
}
