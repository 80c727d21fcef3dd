//! Link: the sessions with one broker, one after the other, until told to leave.
//!
//! ```text
//!   session --ended--> wait, longer each time --> session ...
//!      \--> messages --> the worker, which is woken; as many as there is room for (`flight`)
//! ```

use super::{
    flight::{Flight, OVERHEAD},
    frame::Frame,
    session::{Broker, Ended, Order, Session, Terms},
    status::Board,
};
use crate::Waker;
use bytes::Bytes;
use crossbeam_channel::Sender;
use dbb_events::Micros;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// Shortest and longest time between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A session that went well for so long starts the pauses anew.
const WELL: Duration = Duration::from_secs(10);

/// What a worker gets.
pub(super) enum Given {
    /// A broker that it is to read from now on.
    Link(Arc<Handle>),
    /// A message.
    Message(Delivery),
}

/// A broker, as its worker knows it.
pub(super) struct Handle {
    /// The number of the link.
    pub(super) number: usize,
    /// `stomp:HOST:PORT/DESTINATION`.
    pub(super) stream: Arc<str>,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) flight: Arc<Flight>,
}

/// A message, as it came.
pub(super) struct Delivery {
    pub(super) link: usize,
    pub(super) connection: u64,
    pub(super) id: String,
    pub(super) ack: String,
    pub(super) at: Option<Micros>,
    pub(super) body: Bytes,
}

impl Delivery {
    /// The memory that it costs, in bytes.
    pub(super) fn weight(&self) -> u64 {
        (self.id.len() + self.ack.len() + self.body.len()) as u64 + OVERHEAD
    }
}

/// Where a worker is reached.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) given: Sender<Given>,
    pub(super) waker: Arc<Mutex<Option<Waker>>>,
}

impl Desk {
    pub(super) fn give(&self, given: Given) {
        // Without a receiver the source has gone, and what it got comes again.
        if self.given.send(given).is_ok() && self.given.len() <= 1 {
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*waker {
            waker();
        }
    }
}

pub(super) struct Link {
    pub(super) number: usize,
    pub(super) broker: Broker,
    pub(super) terms: Arc<Terms>,
    pub(super) orders: UnboundedReceiver<Order>,
    pub(super) flight: Arc<Flight>,
    pub(super) desk: Desk,
    pub(super) board: Board,
}

impl Link {
    /// Runs until told to leave.
    pub(super) async fn run(mut self) {
        let (mut connection, mut pause) = (0, PAUSES.0);
        loop {
            connection += 1;
            let begun = Instant::now();
            let ended = self.session(connection).await;
            let Err(ended) = ended else { break };
            let first = self.board.failed(self.number, &ended);
            if begun.elapsed() >= WELL {
                pause = PAUSES.0;
            }
            let broker = &self.broker.name;
            let again_in_seconds = pause.as_secs_f32();
            match (&ended, first) {
                (Ended::Refused(reason), _) => {
                    tracing::error!(
                        broker,
                        reason,
                        again_in_seconds,
                        "a broker refuses; the others are read on"
                    );
                }
                (Ended::Away(reason), true) => {
                    tracing::warn!(
                        broker,
                        reason,
                        again_in_seconds,
                        "a broker is away; the others are read on"
                    );
                }
                (Ended::Away(reason), false) => {
                    tracing::debug!(broker, reason, again_in_seconds, "a broker is still away");
                }
            }
            if self.rest(pause).await {
                break;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        self.board.left(self.number);
    }

    async fn session(&mut self, connection: u64) -> Result<(), Ended> {
        let mut session = Session::connect(&self.broker, &self.terms).await?;
        let (number, desk, flight) = (self.number, self.desk.clone(), Arc::clone(&self.flight));
        let mut deliver = move |frame: Frame| {
            let text = |name| frame.header(name).unwrap_or_default().to_owned();
            let millis = frame.header("timestamp").and_then(|at| at.parse::<i64>().ok());
            let (id, ack) = (text("message-id"), text("ack"));
            let delivery = Delivery {
                link: number,
                connection,
                id,
                ack,
                at: millis
                    .filter(|at| *at > 0)
                    .map(|at| Micros(at.saturating_mul(1000))),
                body: frame.body,
            };
            flight.took(delivery.weight());
            desk.give(Given::Message(delivery));
        };
        session.subscribe(&self.terms.settings).await?;
        let (board, name, settings) = (&self.board, &self.broker.name, &self.terms.settings);
        let subscribed = || {
            board.connected(number);
            tracing::info!(
                broker = name,
                destination = settings.destination,
                client_id = settings.client_id,
                "subscribed"
            );
        };
        session
            .run(
                connection,
                &mut self.orders,
                &self.flight,
                &mut deliver,
                subscribed,
            )
            .await
    }

    /// Waits; true if told to leave meanwhile.
    async fn rest(&mut self, pause: Duration) -> bool {
        let wait = tokio::time::sleep(pause);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return false,
                order = self.orders.recv() => match order {
                    // Of a connection that is no more.
                    Some(Order::Ack { .. }) => {}
                    Some(Order::Leave) | None => return true,
                },
            }
        }
    }
}
