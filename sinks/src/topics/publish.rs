//! Publish: numbers, the sent log, the brokers, and back.
//!
//! ```text
//!   records of lanes --> numbers --> sent log --> brokers --> confirmed
//!                           ^                        |
//!                           |                        v  one was not taken, or the producer cannot go on
//!                           +-- what was appended is read from the topic: the rest again, same numbers
//! ```
//!
//! In:       records, each for a lane whose end is known.
//! Out:      for each its number in the topic, or why its topic does not take it.
//! State:    the next number of each lane; the records of one call.
//! Certain:  within a lane numbers are those of the order of appending, without a hole. A record is in the sent log
//!           before a broker can have it, so one that was under way when the process died is sent again under its own
//!           number, and its number is given to no other.

mod after;
mod opening;

pub(super) use after::is_gone;

use crate::topics::{
    ProducerSettings, TopicsError,
    backoff::Backoff,
    figures::TopicsFigures,
    lanes::Lanes,
    own::Own,
    sent_log::{Batch, Kept, SentLog},
    wire::{Parcel, Wire},
};
use after::is_of_the_record;
use dbb_events::{Lane, Rse, message::header};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// So many records are written to the sent log at once, while the brokers take those before them.
const CHUNK: usize = 2000;

/// Brokers remember a producer for longer: a day, by default.
const WARM: Duration = Duration::from_secs(1800);

/// After a failure, what is under way is waited for so long.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// A record on its way.
pub(super) struct Going {
    pub(super) kept: Kept,
    /// Which of the publisher's lanes.
    pub(super) lane: usize,
    /// 0 before it has one.
    pub(super) sequence: u64,
    /// The number under which it is in the sent log; 0 if it is not.
    pub(super) logged: u64,
    pub(super) end: End,
}

impl Going {
    pub(super) fn new(kept: Kept, lane: usize) -> Self {
        Self {
            kept,
            lane,
            sequence: 0,
            logged: 0,
            end: End::Open,
        }
    }

    fn is_open(&self) -> bool {
        self.end == End::Open
    }
}

/// How far a record has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Not confirmed.
    Open,
    /// Its topic has it.
    Published,
    /// Its topic will not take it: which error, and one sentence.
    Refused(Code, String),
}

/// A lane whose end is known.
pub(super) struct Open {
    pub(super) lane: Lane,
    pub(super) rse: Rse,
    /// The number of the next record.
    next: u64,
    /// The last that is confirmed.
    confirmed: u64,
    /// As headers have it.
    text: String,
    /// When the brokers last took a record of it from this producer.
    warm: Option<Instant>,
}

pub(super) struct Publisher {
    pub(super) settings: ProducerSettings,
    pub(super) log: Option<SentLog>,
    pub(super) own: Own,
    wire: Wire,
    pub(super) lanes: Vec<Open>,
    by_name: HashMap<Lane, usize>,
    pub(super) confirmed: Lanes,
    pub(super) figures: TopicsFigures,
    pub(super) stop: Arc<AtomicBool>,
    /// The longest batch that all topics take.
    batch_bytes: u32,
}

impl Publisher {
    pub(super) fn new(
        settings: &ProducerSettings,
        log: Option<SentLog>,
        confirmed: Lanes,
        figures: TopicsFigures,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TopicsError> {
        let batch_bytes = settings.max_record_bytes;
        Ok(Self {
            wire: Wire::open(&settings.producer(batch_bytes, true)?, figures.trouble())?,
            own: Own::open(settings)?,
            settings: settings.clone(),
            log,
            lanes: Vec::new(),
            by_name: HashMap::new(),
            confirmed,
            figures,
            stop,
            batch_bytes,
        })
    }

    /// Which lane that is, if its end is known.
    pub(super) fn find(&self, lane: &Lane) -> Option<usize> {
        self.by_name.get(lane).copied()
    }

    /// Publishes all of them; returns when each is confirmed or refused.
    ///
    /// # Errors
    ///
    /// Told to stop, or settings that cannot work.
    pub(super) fn publish(&mut self, going: &mut [Going]) -> Result<(), TopicsError> {
        self.figures.trouble().begin();
        let mut backoff = Backoff::new(&self.stop);
        let mut alone = false;
        self.number(going);
        loop {
            let left = going.iter().filter(|one| one.is_open()).count();
            let failed = self.attempt(going)?;
            if !going.iter().any(Going::is_open) {
                break;
            }
            self.settle(going, &failed, alone, &mut backoff)?;
            self.number(going);
            alone |= failed.iter().any(|(_, code)| is_of_the_record(*code));
            self.renew(alone)?;
            let now = going.iter().filter(|one| one.is_open()).count();
            if now == 0 {
                break;
            }
            if now < left {
                backoff = Backoff::new(&self.stop);
            }
            backoff.wait()?;
        }
        if alone {
            self.renew(false)?;
        }
        let touched: BTreeSet<usize> = going.iter().map(|one| one.lane).collect();
        if going.iter().any(|one| matches!(one.end, End::Refused(..))) {
            self.hold(|log, lanes| void(log, lanes, &touched))?;
        }
        for one in going.iter().filter(|one| one.end == End::Published) {
            let open = &mut self.lanes[one.lane];
            open.confirmed = open.confirmed.max(one.sequence);
        }
        for index in touched {
            let open = &self.lanes[index];
            self.confirmed.confirm(&open.lane, &open.rse, open.confirmed);
        }
        self.figures.trouble().end();
        Ok(())
    }

    /// Gives numbers to all that are open.
    fn number(&mut self, going: &mut [Going]) {
        for one in going.iter_mut().filter(|one| one.is_open()) {
            let open = &mut self.lanes[one.lane];
            one.sequence = open.next;
            open.next += 1;
        }
    }

    /// Sends all that are open, and waits for the answers. Returns which were not taken.
    ///
    /// A broker refuses what follows a record that it refused, but only if it has taken one of this producer before. So
    /// the first of a lane goes alone.
    fn attempt(&mut self, going: &mut [Going]) -> Result<Vec<(usize, Code)>, TopicsError> {
        let mut cold = BTreeSet::new();
        let open = |going: &[Going]| -> Vec<usize> {
            (0..going.len()).filter(|index| going[*index].is_open()).collect()
        };
        let firsts: Vec<usize> = open(going)
            .into_iter()
            .filter(|index| self.lanes[going[*index].lane].is_cold() && cold.insert(going[*index].lane))
            .collect();
        if !firsts.is_empty() {
            let failed = self.send(going, &firsts)?;
            if !failed.is_empty() {
                return Ok(failed);
            }
        }
        self.send(going, &open(going))
    }

    /// Sends some, and waits for the answers. Returns which were not taken.
    fn send(&mut self, going: &mut [Going], which: &[usize]) -> Result<Vec<(usize, Code)>, TopicsError> {
        let mut failed = Vec::new();
        'all: for chunk in which.chunks(CHUNK) {
            self.write_down(going, chunk)?;
            for index in chunk {
                let one = &going[*index];
                let open = &self.lanes[one.lane];
                let parcel = Parcel {
                    topic: &open.lane.topic,
                    partition: Some(open.lane.partition),
                    key: one.kept.key.as_bytes(),
                    headers: marks(&one.kept, &open.text, one.sequence, false),
                    body: &one.kept.body,
                };
                match self.wire.send(*index, &parcel, &self.stop) {
                    Ok(()) => {}
                    // Nothing may overtake it.
                    Err(Some(code)) => {
                        failed.push((*index, code));
                        break 'all;
                    }
                    Err(None) => return Err(TopicsError::Stopped),
                }
            }
        }
        self.hold(|log, _| log.sync())?;
        self.hear(going, &mut failed)?;
        Ok(failed)
    }

    /// Waits for the answers to all that was sent.
    fn hear(&mut self, going: &mut [Going], failed: &mut Vec<(usize, Code)>) -> Result<(), TopicsError> {
        let mut failing: Option<Instant> = None;
        while self.wire.under_way() > 0 {
            let answers = self.wire.answers(true);
            let now = Instant::now();
            for answered in answers {
                match answered.result {
                    Ok(_) => {
                        going[answered.number].end = End::Published;
                        self.lanes[going[answered.number].lane].warm = Some(now);
                    }
                    Err(code) => failed.push((answered.number, code)),
                }
            }
            if self.stop.load(Relaxed) && self.wire.under_way() > 0 {
                self.wire.purge(true);
                return Err(TopicsError::Stopped);
            }
            if !failed.is_empty() || self.wire.fatal().is_some() {
                // What is under way may still be answered: it is better known than looked for.
                let since = failing.get_or_insert(now);
                self.wire.purge(since.elapsed() > LAST_ANSWERS);
            }
        }
        Ok(())
    }

    /// Writes records into the sent log that are not in it under their numbers.
    ///
    /// Of a lane these are always the last ones: numbers are consecutive.
    fn write_down(&mut self, going: &mut [Going], which: &[usize]) -> Result<(), TopicsError> {
        if self.log.is_none() {
            return Ok(());
        }
        let mut by_lane: BTreeMap<usize, (u64, Vec<&Kept>)> = BTreeMap::new();
        let records = which.iter().map(|index| &going[*index]);
        for one in records.filter(|one| one.logged != one.sequence) {
            let (_, records) = by_lane
                .entry(one.lane)
                .or_insert_with(|| (one.sequence, Vec::new()));
            records.push(&one.kept);
        }
        if by_lane.is_empty() {
            return Ok(());
        }
        self.hold(|log, open| {
            let batches: Vec<Batch<'_>> = by_lane
                .iter()
                .map(|(index, (first, records))| open[*index].batch(*first, records))
                .collect();
            log.append(&batches)
        })?;
        for index in which {
            going[*index].logged = going[*index].sequence;
        }
        Ok(())
    }

    /// Does something with the sent log, again and again until there is room for it.
    fn hold(
        &mut self,
        mut with: impl FnMut(&mut SentLog, &[Open]) -> Result<(), TopicsError>,
    ) -> Result<(), TopicsError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let (mut backoff, mut told) = (Backoff::new(&self.stop), false);
        while let Err(error) = with(log, &self.lanes) {
            let said = crate::topics::error::chain(&error);
            if !told {
                warn!(
                    error = said,
                    "nothing is published until the sent log can be written"
                );
            }
            told = true;
            self.figures.trouble().set(said);
            backoff.wait()?;
            // What was written and not synced goes into another file.
            drop(log.make_room());
        }
        if told {
            info!("the sent log can be written again");
        }
        self.figures.set_log_bytes(log.bytes());
        Ok(())
    }

    /// No batch may be longer than what the topic takes.
    pub(super) fn fit(&mut self, max_bytes: u32) -> Result<(), TopicsError> {
        if max_bytes < self.batch_bytes {
            self.batch_bytes = max_bytes.max(1024);
            self.renew(false)?;
        }
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // So that the next process need not send again what it finds nowhere.
        let Some(log) = &mut self.log else { return };
        let told = |open: &&Open| {
            log.lanes()
                .get(&open.lane)
                .is_some_and(|span| span.confirmed == open.confirmed || span.next != open.next)
        };
        let batches: Vec<Batch<'_>> = self
            .lanes
            .iter()
            .filter(|open| !told(open))
            .map(|open| open.batch(open.next, &[]))
            .collect();
        if let Err(error) = log.append(&batches).and_then(|()| log.sync()) {
            warn!(
                error = crate::topics::error::chain(&error),
                "the sent log is not closed: the next start sends a little again"
            );
        }
    }
}

impl Open {
    fn is_cold(&self) -> bool {
        self.warm.is_none_or(|at| at.elapsed() > WARM)
    }

    fn batch<'a>(&'a self, first: u64, records: &'a [&'a Kept]) -> Batch<'a> {
        Batch {
            lane: &self.lane,
            rse: &self.rse,
            first,
            confirmed: self.confirmed,
            records,
        }
    }
}

/// Says in the sent log that nothing follows, in lanes whose last numbers were taken back.
fn void(log: &mut SentLog, lanes: &[Open], touched: &BTreeSet<usize>) -> Result<(), TopicsError> {
    let taken_back = |open: &&Open| {
        log.lanes()
            .get(&open.lane)
            .is_some_and(|span| span.next > open.next)
    };
    let open = touched.iter().map(|index| &lanes[*index]);
    let batches: Vec<Batch<'_>> = open
        .filter(taken_back)
        .map(|open| open.batch(open.next, &[]))
        .collect();
    if batches.is_empty() {
        return Ok(());
    }
    log.append(&batches)?;
    log.sync()
}

/// The headers of a record.
pub(super) fn marks<'a>(
    kept: &'a Kept,
    lane: &'a str,
    sequence: u64,
    resent: bool,
) -> Vec<(&'static str, Cow<'a, str>)> {
    let mut marks = vec![
        (header::ID, kept.id.to_string().into()),
        (header::SOURCE, kept.source.as_str().into()),
        (header::LANE, lane.into()),
        (header::SEQUENCE, sequence.to_string().into()),
    ];
    if resent {
        marks.push((header::RESENT, "1".into()));
    }
    marks
}
