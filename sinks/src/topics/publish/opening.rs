//! Opening lanes: where each ends, and what an earlier process has written down and not sent.

use super::{CHUNK, End, Going, Open, Publisher};
use crate::topics::{TopicsError, sent_log::SentLog};
use dbb_events::{Lane, Rse};
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use tracing::{info, warn};

impl Publisher {
    /// Finds out where lanes end, and sends what an earlier process has written down and not sent.
    ///
    /// # Errors
    ///
    /// The outer one: told to stop, or a fault of the sent log. The inner one: what the brokers say.
    pub(in crate::topics) fn open_lanes(
        &mut self,
        lanes: &[(Lane, Rse)],
    ) -> Result<Result<(), KafkaError>, TopicsError> {
        let names: Vec<Lane> = lanes.iter().map(|(lane, _)| lane.clone()).collect();
        let tails = match self.own.tails(&names) {
            Ok(tails) => tails,
            Err(error) => return Ok(Err(error)),
        };
        for (lane, rse) in lanes {
            let tail = tails.get(lane).copied().unwrap_or_default();
            let logged = self.log.as_ref().and_then(|log| log.lanes().get(lane)).cloned();
            let appended = match (tail.last, &logged) {
                // What is sent again may be all that the topic has.
                (Some((last, _)), logged) => last.max(logged.as_ref().map_or(0, |logged| logged.confirmed)),
                (None, Some(logged)) => {
                    if logged.next > 1 {
                        info!(%lane, last = logged.next - 1, "the topic is empty: numbers go on from the sent log");
                    }
                    logged.confirmed
                }
                (None, None) if tail.empty && tail.end > 0 => {
                    warn!(%lane, next = tail.end + 1, "the topic has lost its records and nothing is kept: numbers go on above all it can have had");
                    tail.end as u64
                }
                (None, None) => 0,
            };
            let index = self.lanes.len();
            self.by_name.insert(lane.clone(), index);
            self.lanes.push(Open {
                text: lane.to_string(),
                warm: None,
                lane: lane.clone(),
                rse: rse.clone(),
                next: appended + 1,
                confirmed: appended,
            });
            if let Some(logged) = logged
                && logged.next > appended + 1
            {
                self.send_left(index, logged.next - 1)?;
            }
            let open = &self.lanes[index];
            self.confirmed.confirm(&open.lane, &open.rse, open.confirmed);
        }
        Ok(Ok(()))
    }

    /// Sends what is in the sent log after the end of a lane's topic, up to number `to`.
    fn send_left(&mut self, index: usize, to: u64) -> Result<(), TopicsError> {
        let lane = self.lanes[index].lane.clone();
        let Some(keeper) = self.log.as_ref().map(SentLog::keeper) else {
            return Ok(());
        };
        info!(%lane, from = self.lanes[index].next, to, "sending what was written down and may not have been sent");
        let mut at = Default::default();
        while self.lanes[index].next <= to {
            let from = self.lanes[index].next;
            let until = to.min(from + CHUNK as u64 - 1);
            let found = keeper.find(&lane, from, until, &mut at).unwrap_or_else(|error| {
                warn!(%lane, from, %error, "the sent log could not be read");
                BTreeMap::new()
            });
            let consecutive = (from..)
                .zip(found)
                .take_while(|(number, (found, _))| number == found);
            let mut going: Vec<Going> = consecutive
                .map(|(number, (_, kept))| Going {
                    logged: number,
                    ..Going::new(kept, index)
                })
                .collect();
            if going.is_empty() {
                warn!(%lane, from, to, "the sent log lacks records: they are read from the source again");
                break;
            }
            self.publish(&mut going)?;
            for going in going {
                if let End::Refused(_, detail) = going.end {
                    warn!(%lane, id = %going.kept.id, detail, "a record that was written down is not taken");
                }
            }
        }
        Ok(())
    }
}
