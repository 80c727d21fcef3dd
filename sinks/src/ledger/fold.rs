//! The rules of the ledger: what a batch of entries makes of the rows that are there.
//!
//! ```text
//!   entries, rows held, versions held --> fold --> rows, files, history, wake-ups, counts to write
//! ```
//!
//! In:    entries in the order they came, with what the ledger holds of their events and files.
//! Out:   one [`Plan`], the same for both databases: at most one change for each row and file.
//! State: none beyond the batch; [`Recent`] is passed in.

use crate::{
    butler::plain,
    ledger::{Row, State, recent::Recent, wake, write::ends_unrouted},
};
use dbb_events::{
    Counted, DeadLetter, Did, Entry, EventId, Micros, Numbers, Outcome, Rse, Sent, Settled, TOPICS, sketch,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// Attempts of one row that came to the same as the one before and are told one by one; of more, only the last.
const TOLD_ALIKE: u32 = 100;

/// (event, target), which names a row.
pub(crate) type Key = (EventId, Arc<str>);

/// What the ledger holds of a row, as far as the rules need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: i64,
    pub(crate) outcome: State,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) waits_for: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) waiting_since: Option<Micros>,
    pub(crate) updated_at: Micros,
    pub(crate) generation: i64,
    pub(crate) took: Option<Duration>,
    pub(crate) tries: u32,
}

/// An outcome that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) row: i64,
    pub(crate) held: Held,
}

/// What a file has become at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) version: Micros,
    pub(crate) event: EventId,
    pub(crate) state: State,
    /// Where it is; empty where it was before.
    pub(crate) uri: String,
    /// Of which replica; `None` if the URI is not the event's own: then as it was, if that was its URI before.
    pub(crate) rse: Option<Rse>,
    /// As before, if there are none.
    pub(crate) uuids: Vec<Uuid>,
    pub(crate) updated_at: Micros,
}

/// What of a file's story decides whether an answer is news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) created_at: Micros,
    /// True when the file is gone: newer than its landing at the same time.
    pub(crate) is_gone: bool,
    pub(crate) event: EventId,
    pub(crate) rse: Option<Rse>,
}

impl Version {
    /// True when `other` changes nothing any more. That one replica is gone says nothing of the landing of another.
    fn outdoes(&self, other: &Version) -> bool {
        let order = |v: &Version| (v.created_at, v.is_gone, v.event);
        let of_another = self.is_gone && !other.is_gone && self.rse != other.rse;
        order(self) > order(other) && !of_another
    }
}

/// What to write.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    pub(crate) removed: Vec<i64>,
    /// History that goes from a removed row to the one in its place.
    pub(crate) moved: Vec<(i64, i64)>,
    pub(crate) replaced: Vec<Replaced>,
    pub(crate) files: HashMap<(Arc<str>, Did), FileState>,
    /// (target, key of a dependency) that is satisfied, and since when.
    pub(crate) wakes: BTreeMap<(Arc<str>, String), Micros>,
    pub(crate) counted: Vec<Counted>,
    pub(crate) numbers: Vec<Numbers>,
    /// Attempts made, by target, outcome and bucket of how long they took.
    pub(crate) durations: BTreeMap<(Arc<str>, State, u16), u64>,
    /// Entries whose event had its final outcome already, or that were written before.
    pub(crate) repeats: u64,
}

/// Folds entries, one after the other.
pub(crate) struct Fold<'a> {
    held: HashMap<Key, Held>,
    /// One of the repositories at which an event has a row.
    routed: HashMap<EventId, Arc<str>>,
    pub(crate) versions: HashMap<(Arc<str>, Did), Version>,
    pub(crate) next_id: i64,
    pub(crate) generation: i64,
    pub(crate) max_body_bytes: usize,
    pub(crate) recent: &'a Recent,
    written: HashMap<Key, Row>,
    plan: Plan,
}

impl<'a> Fold<'a> {
    pub(crate) fn new(generation: i64, max_body_bytes: usize, recent: &'a Recent) -> Self {
        Self {
            held: HashMap::new(),
            routed: HashMap::new(),
            versions: HashMap::new(),
            next_id: 1,
            generation,
            max_body_bytes,
            recent,
            written: HashMap::new(),
            plan: Plan::default(),
        }
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Settled(settled) => self.settled(settled),
            Entry::Sent(sent) => self.sent(sent),
            Entry::DeadLetter(letter) => self.dead_letter(letter),
            Entry::Counted(counted) => self.plan.counted.push(counted.clone()),
            Entry::Numbers(numbers) => self.plan.numbers.push((**numbers).clone()),
        }
    }

    /// Ends the batch: what it satisfies also wakes its own rows, whichever came first.
    pub(crate) fn finish(mut self) -> Plan {
        for row in self.written.values_mut() {
            let Some(waits_for) = &row.waits_for else {
                continue;
            };
            let key = (row.target.clone(), waits_for.clone());
            let here = self.plan.wakes.get(&key).copied();
            // What came before the attempt did not help it: only what came since is news.
            let lately = self.recent.provided_at(&key);
            let lately = lately.filter(|at| *at >= row.updated_at);
            if let Some(at) = here.max(lately) {
                row.not_before = row.not_before.map(|not_before| not_before.min(at));
            }
        }
        self.plan.rows = self.written.into_values().collect();
        self.plan.rows.sort_unstable_by_key(|row| row.id);
        self.plan
    }

    fn settled(&mut self, settled: &Settled) {
        let request = &settled.request;
        for key in &settled.provides {
            for woken in wake::woken_by(key) {
                let at = self
                    .plan
                    .wakes
                    .entry((request.target.clone(), woken))
                    .or_insert(settled.at);
                *at = (*at).max(settled.at);
            }
        }
        let mut row = Row {
            id: 0,
            event: request.event,
            target: request.target.clone(),
            place: request.place.clone(),
            topic: request.topic.clone(),
            event_type: Some(request.event_type.clone()),
            did: Some(request.did.clone()),
            rse: Some(request.rse.clone()),
            kind: request.action.kind(),
            created_at: Some(request.created_at),
            url: Some(request.url.to_string()).filter(|url| !url.is_empty()),
            uri: Some(request.uri.to_string()).filter(|uri| !uri.is_empty()),
            outcome: State::from(&settled.outcome),
            reason: None,
            detail: None,
            verified: Some(settled.verified.as_str().to_owned()),
            attempts: request.attempts,
            waits_for: None,
            not_before: None,
            waiting_since: request.waiting_since,
            first_seen_at: request.read_at,
            updated_at: settled.at,
            took: settled.took,
            tries: u32::from(settled.took.is_some()),
            generation: self.generation,
            appended_at: None,
            body: None,
        };
        self.end(&mut row, &settled.outcome, request.appended_at, &request.body);
        let counts = matches!(settled.outcome, Outcome::Waiting { counts: true, .. });
        let is_news = self.put(row, counts);
        if !request.target.is_empty() {
            // Its story goes on here, even if it had come to its end before: whoever routed it, and when.
            self.replace_unrouted(request.event, &request.target);
        }
        if is_news && State::from(&settled.outcome).is_applied() {
            self.apply(settled);
        }
    }

    /// A record of a hub: nothing is applied, for no Butler has heard of it.
    fn sent(&mut self, sent: &Sent) {
        let record = &sent.outgoing;
        let again = record.again.as_ref();
        let mut row = Row {
            id: 0,
            event: record.event,
            target: TOPICS.into(),
            place: record.place.clone(),
            topic: Some(record.topic.clone()).filter(|topic| !topic.is_empty()),
            event_type: Some(record.event_type.clone()),
            did: Some(record.did.clone()),
            rse: Some(record.rse.clone()),
            kind: None,
            created_at: Some(record.created_at),
            url: record.url.as_ref().map(ToString::to_string),
            uri: None,
            outcome: State::from(&sent.outcome),
            reason: None,
            detail: None,
            verified: None,
            attempts: again.map_or(0, |again| again.attempts),
            waits_for: None,
            not_before: None,
            waiting_since: again.and_then(|again| again.waiting_since),
            first_seen_at: record.read_at,
            updated_at: sent.at,
            took: None,
            tries: 0,
            generation: self.generation,
            appended_at: None,
            body: None,
        };
        self.end(&mut row, &sent.outcome, record.appended_at, &record.source);
        let counts = matches!(sent.outcome, Outcome::Waiting { counts: true, .. });
        self.put(row, counts);
        if ends_unrouted(sent) {
            self.replace_unrouted(record.event, &TOPICS.into());
        }
    }

    /// Writes into `row` what its outcome has to say; `body` is the event as it came.
    fn end(&self, row: &mut Row, outcome: &Outcome, appended_at: Option<Micros>, body: &[u8]) {
        match outcome {
            Outcome::Ingested
            | Outcome::AlreadyThere
            | Outcome::Published
            | Outcome::Removed
            | Outcome::NotThere => {}
            Outcome::AlreadyThereElsewhere { uri } | Outcome::KeptElsewhere { uri } => {
                row.detail = Some(uri.clone());
            }
            Outcome::Superseded { by } => {
                row.detail = Some(format!("an event of {by} was applied before"));
            }
            Outcome::Waiting {
                dependency,
                not_before,
                detail,
                counts,
            } => {
                row.detail = Some(detail.clone());
                row.waits_for = Some(super::words::clip(&dependency.key()));
                row.not_before = Some(*not_before);
                row.appended_at = appended_at;
                row.body = Some(body.to_vec());
                row.attempts = row.attempts.saturating_add(u32::from(*counts));
            }
            Outcome::Refused(refusal) => {
                row.reason = Some(refusal.reason.as_str().to_owned());
                row.detail = Some(refusal.detail.clone());
                self.keep_body(row, body);
            }
        }
    }

    fn dead_letter(&mut self, letter: &DeadLetter) {
        if letter.target.is_empty()
            && let Some(target) = self.routed.get(&letter.event).cloned()
        {
            // Another configuration had routed it: its story is there, and no second one begins.
            self.plan.repeats += 1;
            self.replace_unrouted(letter.event, &target);
            return;
        }
        let mut row = Row {
            id: 0,
            event: letter.event,
            target: letter.target.clone(),
            place: letter.place.clone(),
            topic: letter.topic.clone(),
            event_type: letter.event_type.clone(),
            did: letter.did.clone(),
            rse: letter.rse.clone(),
            kind: None,
            created_at: letter.created_at,
            url: None,
            uri: None,
            outcome: State::Refused,
            reason: Some(letter.reason.as_str().to_owned()),
            detail: Some(letter.detail.clone()),
            verified: None,
            attempts: 0,
            waits_for: None,
            not_before: None,
            waiting_since: None,
            first_seen_at: letter.at,
            updated_at: letter.at,
            took: None,
            tries: 0,
            generation: self.generation,
            appended_at: None,
            body: None,
        };
        self.keep_body(&mut row, &letter.body);
        self.put(row, false);
    }

    fn keep_body(&self, row: &mut Row, body: &[u8]) {
        if body.len() > self.max_body_bytes {
            let detail = row.detail.take().unwrap_or_default();
            row.detail = Some(format!(
                "{detail} (only the first {} of {} bytes of the event are kept)",
                self.max_body_bytes,
                body.len()
            ));
        }
        row.body = Some(body[..body.len().min(self.max_body_bytes)].to_vec());
    }

    /// Puts a row in the place of what is held; false if that stays as it is.
    fn put(&mut self, mut row: Row, counts: bool) -> bool {
        let key = (row.event, row.target.clone());
        let before = self.held.get(&key);
        // The same answer once more: a commit whose acknowledgement was lost.
        let is_written = before.is_some_and(|held| {
            is_same(held, &row) && held.updated_at == row.updated_at && held.generation == row.generation
        });
        if let (false, Some(took)) = (is_written, row.took) {
            let attempt = (row.target.clone(), row.outcome, sketch::bucket_of(took));
            *self.plan.durations.entry(attempt).or_default() += 1;
        }
        match before {
            Some(held) if is_written || held.outcome.is_settled() => {
                self.plan.repeats += 1;
                return false;
            }
            Some(held) => {
                // What was only put off for the same again was no attempt.
                let is_told = held.took.is_some() && held.tries <= TOLD_ALIKE;
                if is_told || !is_same(held, &row) {
                    self.plan.replaced.push(Replaced {
                        row: held.id,
                        held: held.clone(),
                    });
                }
                row.id = held.id;
                row.tries = row.tries.saturating_add(held.tries);
                if held.outcome == State::Waiting {
                    row.attempts = held.attempts.saturating_add(u32::from(counts));
                    row.waiting_since = held.waiting_since.or(row.waiting_since);
                }
            }
            None => {
                row.id = self.next_id;
                self.next_id += 1;
            }
        }
        match row.outcome {
            State::Waiting => row.waiting_since = row.waiting_since.or(Some(row.updated_at)),
            State::Refused => {}
            _ => row.waiting_since = None,
        }
        self.hold(key.clone(), held(&row));
        let row = match self.written.remove(&key) {
            Some(earlier) => over(row, earlier),
            None => row,
        };
        self.written.insert(key, row);
        true
    }

    /// Knows how a row stands.
    pub(crate) fn hold(&mut self, key: Key, held: Held) {
        if !key.1.is_empty() && &*key.1 != TOPICS {
            self.routed.entry(key.0).or_insert_with(|| key.1.clone());
        }
        self.held.insert(key, held);
    }

    /// The row without a target goes, and its history goes on under that of `target`.
    fn replace_unrouted(&mut self, event: EventId, target: &Arc<str>) {
        let unrouted: Key = (event, Arc::from(""));
        let Some(new) = self.held.get(&(event, target.clone())).map(|held| held.id) else {
            return;
        };
        let Some(old) = self.held.remove(&unrouted) else {
            return;
        };
        self.written.remove(&unrouted);
        self.plan.removed.push(old.id);
        self.plan.moved.push((old.id, new));
        for replaced in &mut self.plan.replaced {
            if replaced.row == old.id {
                replaced.row = new;
            }
        }
        self.plan.replaced.push(Replaced { row: new, held: old });
    }

    fn apply(&mut self, settled: &Settled) {
        let request = &settled.request;
        let file = (request.target.clone(), request.did.clone());
        let state = State::from(&settled.outcome);
        let version = Version {
            created_at: request.created_at,
            is_gone: state.is_gone(),
            event: request.event,
            rse: Some(request.rse.clone()),
        };
        if self
            .versions
            .get(&file)
            .is_some_and(|held| held.outdoes(&version))
        {
            return;
        }
        self.versions.insert(file.clone(), version);
        let (uri, rse) = match &settled.outcome {
            Outcome::AlreadyThereElsewhere { uri } => (plain(uri).to_owned(), None),
            _ => (plain(&request.uri).to_owned(), Some(request.rse.clone())),
        };
        let mut now = FileState {
            version: request.created_at,
            event: request.event,
            state,
            uri,
            rse,
            uuids: settled.uuids.clone(),
            updated_at: settled.at,
        };
        // As the database does with what it holds.
        if let Some(before) = self.plan.files.remove(&file) {
            if now.uuids.is_empty() {
                now.uuids = before.uuids;
            }
            if now.uri.is_empty() {
                now.uri = before.uri;
            } else if now.rse.is_none() && now.uri == before.uri {
                now.rse = before.rse;
            }
        }
        self.plan.files.insert(file, now);
    }
}

fn held(row: &Row) -> Held {
    Held {
        id: row.id,
        outcome: row.outcome,
        reason: row.reason.clone(),
        detail: row.detail.clone(),
        waits_for: row.waits_for.clone(),
        attempts: row.attempts,
        waiting_since: row.waiting_since,
        updated_at: row.updated_at,
        generation: row.generation,
        took: row.took,
        tries: row.tries,
    }
}

/// True if `row` stands as what is held.
fn is_same(held: &Held, row: &Row) -> bool {
    held.outcome == row.outcome && held.reason == row.reason && held.waits_for == row.waits_for
}

/// `row`, with what only the earlier writing of the same batch tells: the same that the database
/// keeps when a row is overwritten.
fn over(row: Row, earlier: Row) -> Row {
    Row {
        place: earlier.place,
        first_seen_at: earlier.first_seen_at,
        topic: row.topic.or(earlier.topic),
        event_type: row.event_type.or(earlier.event_type),
        did: row.did.or(earlier.did),
        rse: row.rse.or(earlier.rse),
        kind: row.kind.or(earlier.kind),
        created_at: row.created_at.or(earlier.created_at),
        url: row.url.or(earlier.url),
        uri: row.uri.or(earlier.uri),
        verified: row.verified.or(earlier.verified),
        ..row
    }
}
