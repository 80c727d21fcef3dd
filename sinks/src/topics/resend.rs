//! Resend: what a site asks for is sent again.
//!
//! ```text
//!   {rse}-requests --> job: numbers of a lane --> some of each job in turn --> sent log --> the same lane
//!                                                                          \--> own topic --/    \-- neither has it:
//!                                                                                                {rse}-heartbeats
//! ```
//!
//! In:       `dbb-resend` messages.
//! Out:      the records with the same ids, keys, numbers and bodies, marked; what is kept nowhere is told.
//! State:    the jobs; of each partition of requests the offsets that are not done.
//! Frontier: an offset is committed when all requests below it have been answered.

use crate::topics::{
    Messenger, Post, RequestSettings, TopicsError, TopicsFigures, TopicsSettings,
    error::chain,
    lanes::Lanes,
    own::Own,
    publish::marks,
    requests::{Asked, Request, Requests},
    sent_log::{At, Keeper, Kept},
    sink::now,
};
use dbb_events::{Lane, Message, Rse, Word};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Most records of one job before the next one has its turn.
const TURN: u64 = 500;

/// Most requests that are not answered yet; further ones wait in their topics.
const JOBS: usize = 1000;

struct Job {
    request: Request,
    rse: Rse,
    /// The next number to send.
    next: u64,
    /// The last one.
    to: u64,
    at: At,
    /// The lowest number that is kept, once it has been looked for.
    lowest: Option<u64>,
    resent: u64,
    unavailable: u64,
}

pub(super) struct Resender {
    requests: Requests,
    heartbeats: crate::topics::HeartbeatSettings,
    per_second: f64,
    /// No other process answers requests, so those for lanes that nothing was published to yet are ours too.
    alone: bool,
    keeper: Option<Keeper>,
    own: Own,
    messenger: Messenger,
    lanes: Lanes,
    figures: TopicsFigures,
    jobs: VecDeque<Job>,
    stop: Arc<AtomicBool>,
}

impl Resender {
    pub(super) fn open(
        settings: &TopicsSettings,
        requests: &RequestSettings,
        alone: bool,
        keeper: Option<Keeper>,
        lanes: Lanes,
        figures: TopicsFigures,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TopicsError> {
        Ok(Self {
            requests: Requests::open(&settings.kafka, requests)?,
            heartbeats: settings.heartbeats.clone(),
            per_second: f64::from(requests.records_per_second),
            alone,
            keeper,
            own: Own::open(&settings.kafka)?,
            messenger: Messenger::open(&settings.kafka, stop.clone())?,
            lanes,
            figures,
            jobs: VecDeque::new(),
            stop,
        })
    }

    pub(super) fn run(mut self) {
        while !self.stop.load(Relaxed) {
            self.listen();
            match self.work() {
                Ok(()) | Err(TopicsError::Stopped) => {}
                Err(error) => {
                    warn!(error = chain(&error), "sending again failed; it is tried again");
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Takes what was asked.
    fn listen(&mut self) {
        let wait = if self.jobs.is_empty() {
            Duration::from_millis(100)
        } else {
            Duration::ZERO
        };
        for asked in self.requests.poll(wait, self.jobs.len() < JOBS) {
            match asked {
                Asked::Bad { place, detail } => {
                    self.figures.add_bad_request();
                    warn!(place, detail, "a request cannot be understood: it is skipped");
                }
                Asked::Resend(request) => self.take(request),
            }
        }
    }

    fn take(&mut self, request: Request) {
        let (lane, standing) = (&request.lane, self.lanes.get(&request.lane));
        let (rse, last) = match (standing, &request.rse) {
            (Some(standing), _) => (standing.rse, standing.confirmed),
            // Nothing was published to it since the start; its topic tells.
            (None, Some(rse)) if self.alone => (rse.clone(), u64::MAX),
            (None, _) => {
                if self.alone {
                    self.figures.add_bad_request();
                    warn!(site = %request.site, %lane, "a site asks for a partition that nothing is published to");
                }
                self.requests.done(&request);
                return;
            }
        };
        if request.to > last {
            warn!(site = %request.site, %lane, to = request.to, last, "a site asks for more than was published: that is left out");
        }
        info!(site = %request.site, %lane, from = request.from, to = request.to, "a site asks for records again");
        self.jobs.push_back(Job {
            rse,
            next: request.from,
            // What is above has never been published, or is just being.
            to: request.to.min(last),
            at: At::default(),
            lowest: None,
            resent: 0,
            unavailable: 0,
            request,
        });
    }

    /// Some of the next job.
    fn work(&mut self) -> Result<(), TopicsError> {
        let Some(mut job) = self.jobs.pop_front() else {
            return Ok(());
        };
        let begun = Instant::now();
        let turn = TURN.min(self.per_second.ceil() as u64);
        let result = self.turn(&mut job, turn);
        if result.is_ok() && job.next > job.to {
            info!(site = %job.request.site, lane = %job.request.lane, resent = job.resent, unavailable = job.unavailable, "a request is answered");
            self.figures.add_request();
            self.requests.done(&job.request);
        } else {
            self.jobs.push_back(job);
        }
        // No more in a second than is allowed.
        let pause = Duration::from_secs_f64(turn as f64 / self.per_second).saturating_sub(begun.elapsed());
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.stop.load(Relaxed) {
            thread::sleep(pause.min(Duration::from_millis(20)));
        }
        result
    }

    fn turn(&mut self, job: &mut Job, most: u64) -> Result<(), TopicsError> {
        if job.next > job.to {
            return Ok(());
        }
        let lowest = match job.lowest {
            Some(lowest) => lowest,
            None => self.survey(job)?,
        };
        job.lowest = Some(lowest);
        let from = job.next;
        if from < lowest {
            let until = job.to.min(lowest - 1);
            self.unavailable(job, &[(from, until)])?;
            job.next = until.saturating_add(1);
            return Ok(());
        }
        if from > job.to {
            return Ok(());
        }
        let to = job.to.min(from.saturating_add(most - 1));
        let found = self.find(job, from, to)?;
        let lane = job.request.lane.clone();
        let text = lane.to_string();
        let mut posts: Vec<Post> = Vec::new();
        for (number, kept) in &found {
            let marks = marks(kept, &text, *number, true);
            posts.push(Post {
                topic: lane.topic.clone(),
                partition: Some(lane.partition),
                key: kept.key.clone(),
                headers: marks
                    .into_iter()
                    .map(|(name, value)| (name, value.into_owned()))
                    .collect(),
                body: kept.body.to_vec(),
            });
        }
        let (mut missing, resent) = (missing(&found, from, to), posts.len());
        let not = self.messenger.send(&posts)?;
        if let Some(first) = not.first() {
            warn!(%lane, records = not.len(), detail = first.detail, "records cannot be sent again");
            // They are kept, but the topic will not have them.
            let numbers: Vec<u64> = found.keys().copied().collect();
            missing.extend(not.iter().map(|not| (numbers[not.index], numbers[not.index])));
        }
        self.unavailable(job, &missing)?;
        let resent = (resent - not.len()) as u64;
        self.figures.add_resent(resent);
        job.resent += resent;
        job.next = to.saturating_add(1);
        Ok(())
    }

    /// The lowest number that is kept anywhere, one above the last if there is none; where the lane ends is looked
    /// up if it is not known.
    fn survey(&mut self, job: &mut Job) -> Result<u64, TopicsError> {
        let lane = &job.request.lane;
        if self.lanes.get(lane).is_none() {
            let tails = self
                .own
                .tails(std::slice::from_ref(lane))
                .map_err(|error| unreachable(lane, &error))?;
            let last = tails
                .get(lane)
                .and_then(|tail| tail.last)
                .map_or(0, |(last, _)| last);
            job.to = job.to.min(last);
        }
        let in_log = self.keeper.as_ref().and_then(|keeper| keeper.lowest(lane));
        if in_log.is_some_and(|lowest| lowest <= job.next) {
            return Ok(job.next);
        }
        let in_topic = self.own.lowest(lane).map_err(|error| unreachable(lane, &error))?;
        let lowest = in_log.into_iter().chain(in_topic).min();
        Ok(lowest.unwrap_or(job.to.saturating_add(1)).max(1))
    }

    /// Records of numbers, out of the sent log or else of their own topic.
    fn find(&mut self, job: &mut Job, from: u64, to: u64) -> Result<BTreeMap<u64, Kept>, TopicsError> {
        let lane = &job.request.lane;
        let mut found = BTreeMap::new();
        if let Some(keeper) = &self.keeper {
            found = keeper.find(lane, from, to, &mut job.at).unwrap_or_else(|error| {
                warn!(%lane, from, to, %error, "the sent log could not be read: looking in the topic");
                BTreeMap::new()
            });
        }
        if found.len() as u64 <= to - from {
            let in_topic = self
                .own
                .find(lane, from, to)
                .map_err(|error| unreachable(lane, &error))?;
            for (number, kept) in in_topic {
                found.entry(number).or_insert(kept);
            }
        }
        Ok(found)
    }

    fn unavailable(&mut self, job: &mut Job, missing: &[(u64, u64)]) -> Result<(), TopicsError> {
        if missing.is_empty() {
            return Ok(());
        }
        self.tell_missing(job, missing)?;
        let records = missing.iter().map(|(from, to)| to - from + 1).sum::<u64>();
        self.figures.add_unavailable(records);
        job.unavailable += records;
        Ok(())
    }

    fn tell_missing(&mut self, job: &Job, missing: &[(u64, u64)]) -> Result<(), TopicsError> {
        let topic: Arc<str> = self.heartbeats.topic_of(job.rse.as_str()).into();
        let lane: &Lane = &job.request.lane;
        let posts: Vec<Post> = missing
            .iter()
            .map(|(from, to)| {
                let word = Word::Unavailable {
                    lane: lane.clone(),
                    from: *from,
                    to: *to,
                    detail: "neither the sent log of the hub nor its topic has them any more".into(),
                };
                Post::of(
                    &topic,
                    lane.to_string(),
                    &Message {
                        word,
                        created_at: now(),
                    },
                )
            })
            .collect();
        for not in self.messenger.send(&posts)? {
            warn!(%lane, detail = not.detail, "a site cannot be told what is not kept");
        }
        Ok(())
    }
}

fn unreachable(lane: &Lane, error: &rdkafka::error::KafkaError) -> TopicsError {
    TopicsError::Unreachable {
        what: format!("topic `{}`", lane.topic),
        detail: error.to_string(),
    }
}

/// The ranges of `from` to `to` that are not among those found.
fn missing(found: &BTreeMap<u64, Kept>, from: u64, to: u64) -> Vec<(u64, u64)> {
    let (mut missing, mut next) = (Vec::new(), from);
    for number in found.keys() {
        if *number > next {
            missing.push((next, number - 1));
        }
        next = number + 1;
    }
    if next <= to {
        missing.push((next, to));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbb_events::EventId;

    #[test]
    fn what_is_missing_is_told_in_ranges() {
        let kept = Kept {
            id: EventId(1),
            source: String::new(),
            key: String::new(),
            body: Default::default(),
        };
        let found = |numbers: &[u64]| numbers.iter().map(|number| (*number, kept.clone())).collect();
        assert_eq!(missing(&found(&[3, 4, 7]), 2, 9), [(2, 2), (5, 6), (8, 9)]);
        assert_eq!(missing(&found(&[2, 3]), 2, 3), []);
        assert_eq!(missing(&found(&[]), 2, 3), [(2, 3)]);
    }
}
