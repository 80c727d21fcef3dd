//! Writing a batch of entries: look up what they touch, fold, write what changed, all in one transaction.

use crate::ledger::{
    Generation, Ledger, LedgerError, Row, State,
    fold::{FileState, Fold, Held, Key, Plan, Replaced, Version},
    row::{Reader, damaged, micros, split, tries},
    statements::*,
    store::{Cells, Store, Value},
    words::{clip, cut, find_dids, learn_dids},
};
use dbb_events::{Class, Counted, Did, Entry, EventId, Micros, Position, Rse, Sent, TOPICS};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Writes between two looks at the size of the ledger.
const MEASURED_EVERY: u32 = 64;

/// Longest sentence kept, in bytes.
const LONGEST_DETAIL: usize = 4000;

/// What a write changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows written, by how they stand now.
    pub rows: BTreeMap<State, u64>,
    /// Rows that had been waiting and are due now.
    pub woken: u64,
    /// Entries that changed nothing, because their event had its outcome already.
    pub repeats: u64,
}

impl Ledger {
    /// Writes all of these entries, or none. On return they survive a loss of power.
    ///
    /// Writing an entry twice leaves what writing it once did.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] once a newer generation has begun; [`LedgerError::Full`] at the configured size.
    pub fn write(&mut self, generation: Generation, entries: &[Entry]) -> Result<Written, LedgerError> {
        self.check_size()?;
        let plan = self.transaction(Some(generation), |ledger| {
            let plan = ledger.fold(generation, entries)?;
            let woken = ledger.carry_out(&plan)?;
            Ok((plan, woken))
        });
        let (plan, woken) = plan.inspect_err(|_| self.unmeasured_writes = 0)?;
        let mut written = Written {
            woken,
            repeats: plan.repeats,
            ..Written::default()
        };
        for row in &plan.rows {
            *written.rows.entry(row.outcome).or_default() += 1;
        }
        for (key, at) in plan.wakes {
            self.recent.remember(key, at);
        }
        Ok(written)
    }

    fn check_size(&mut self) -> Result<(), LedgerError> {
        let Some(max) = self.settings.max_bytes else {
            return Ok(());
        };
        if self.unmeasured_writes == 0 {
            let bytes = self.store.size_bytes()?;
            if bytes >= max {
                return Err(LedgerError::Full { bytes, max });
            }
        }
        self.unmeasured_writes = (self.unmeasured_writes + 1) % MEASURED_EVERY;
        Ok(())
    }

    pub(super) fn fold(&mut self, generation: Generation, entries: &[Entry]) -> Result<Plan, LedgerError> {
        let mut fold = Fold::new(generation.0, self.settings.max_body_bytes, &self.recent);
        let mut keys: HashSet<Key> = HashSet::with_capacity(entries.len());
        let mut files: HashSet<(&Arc<str>, &Did)> = HashSet::new();
        let mut unrouted: HashSet<EventId> = HashSet::new();
        for entry in entries {
            match entry {
                Entry::Settled(settled) => {
                    let request = &settled.request;
                    keys.insert((request.event, request.target.clone()));
                    keys.insert((request.event, Arc::from("")));
                    if State::from(&settled.outcome).is_applied() {
                        files.insert((&request.target, &request.did));
                    }
                }
                Entry::Sent(sent) => {
                    keys.insert((sent.outgoing.event, Arc::from(TOPICS)));
                    if ends_unrouted(sent) {
                        keys.insert((sent.outgoing.event, Arc::from("")));
                    }
                }
                Entry::DeadLetter(letter) => {
                    keys.insert((letter.event, letter.target.clone()));
                    if letter.target.is_empty() {
                        unrouted.insert(letter.event);
                    }
                }
                Entry::Counted(_) | Entry::Numbers(_) => {}
            }
        }
        let store = &mut *self.store;
        let targets = keys.iter().map(|(_, target)| &**target);
        self.words.find(store, targets)?;
        // Rows of a target that the ledger has never met can't be there.
        let mut known: HashMap<(EventId, i64), Key> = HashMap::with_capacity(keys.len());
        for key in keys {
            if let Value::Int(target) = self.words.id(&key.1) {
                known.insert((key.0, target), key);
            }
        }
        let asked = known
            .keys()
            .map(|(event, target)| vec![event.to_bytes()[..].into(), Value::Int(*target)]);
        let mut found = store.lookup(&HELD, asked.collect())?;
        // Wherever they are routed to: few, for dead letters are.
        let asked = unrouted.iter().map(|event| vec![event.to_bytes()[..].into()]);
        found.extend(store.lookup(&OF_EVENT, asked.collect())?);
        // A handful, whatever the number of rows.
        let mut words: HashMap<i64, Option<String>> = HashMap::new();
        for cells in found {
            let mut r = Reader::new(cells);
            let event = r.blob().and_then(|bytes| EventId::from_bytes(&bytes));
            let event = event.ok_or_else(|| damaged("event id"))?;
            let target = r.int().unwrap_or(0);
            let key = match known.get(&(event, target)) {
                Some(key) => key.clone(),
                None => {
                    let target = word(store, &mut words, target)?;
                    (event, target.ok_or_else(|| damaged("target"))?.into())
                }
            };
            let id = r.int().ok_or_else(|| damaged("id"))?;
            let outcome = r.int().and_then(State::from_code);
            let outcome = outcome.ok_or_else(|| damaged("outcome"))?;
            let reason = match r.int() {
                Some(reason) => word(store, &mut words, reason)?,
                None => None,
            };
            let held = Held {
                id,
                outcome,
                reason,
                detail: r.text(),
                waits_for: r.text(),
                attempts: r.int().unwrap_or(0) as u32,
                waiting_since: r.micros(),
                updated_at: r.micros().unwrap_or_default(),
                generation: r.int().unwrap_or(0),
                took: r.duration(),
                tries: tries(r.int()),
            };
            fold.hold(key, held);
        }
        let dids: HashSet<&Did> = files.iter().map(|(_, did)| *did).collect();
        let ids = find_dids(store, &mut self.words, &dids)?;
        let mut asked = HashMap::with_capacity(files.len());
        for (target, did) in files {
            if let (Some(id), Value::Int(target_id)) = (ids.get(did), self.words.id(target)) {
                asked.insert((*id, target_id), (target.clone(), did.clone()));
            }
        }
        let rows = asked
            .keys()
            .map(|(did, target)| vec![Value::Int(*did), Value::Int(*target)]);
        let mut rses: Vec<((Arc<str>, Did), i64)> = Vec::new();
        for cells in store.lookup(&VERSIONS, rows.collect())? {
            let mut r = Reader::new(cells);
            let file = (r.int().unwrap_or(0), r.int().unwrap_or(0));
            let version = r.micros().unwrap_or_default();
            let event = r.blob().and_then(|bytes| EventId::from_bytes(&bytes));
            let state = r.int().and_then(State::from_code);
            if let (Some(file), Some(event)) = (asked.remove(&file), event) {
                rses.extend(r.int().map(|rse| (file.clone(), rse)));
                fold.versions.insert(
                    file,
                    Version {
                        created_at: version,
                        is_gone: state.is_some_and(State::is_gone),
                        event,
                        rse: None,
                    },
                );
            }
        }
        for (file, rse) in rses {
            let rse = word(store, &mut words, rse)?;
            if let Some(held) = fold.versions.get_mut(&file) {
                held.rse = rse.map(Rse::new);
            }
        }
        fold.next_id = self.ids.peek("next_event");
        for entry in entries {
            fold.entry(entry);
        }
        self.ids.set("next_event", fold.next_id);
        Ok(fold.finish())
    }

    /// Writes the plan; the number of rows woken.
    pub(super) fn carry_out(&mut self, plan: &Plan) -> Result<u64, LedgerError> {
        let store = &mut *self.store;
        let mut words: BTreeSet<&str> = BTreeSet::new();
        let mut dids: HashSet<&Did> = HashSet::new();
        for row in &plan.rows {
            let name = row.did.as_ref().map(|did| &*did.name);
            words.insert(&row.target);
            words.insert(&row.place.stream);
            words.extend(row.topic.as_deref());
            words.extend(row.event_type.as_deref());
            words.extend(row.rse.as_ref().map(|rse| rse.as_str()));
            words.extend(row.kind.map(|kind| kind.as_str()));
            words.extend(row.reason.as_deref());
            words.extend(row.verified.as_deref());
            words.extend(row.url.as_deref().and_then(|url| split(url, name).0));
            words.extend(row.uri.as_deref().and_then(|uri| split(uri, name).0));
            dids.extend(&row.did);
        }
        for ((target, did), file) in &plan.files {
            words.insert(target);
            words.extend(split(&file.uri, Some(&did.name)).0);
            words.extend(file.rse.as_ref().map(|rse| rse.as_str()));
            dids.insert(did);
        }
        words.extend(plan.wakes.keys().map(|(target, _)| &**target));
        words.extend(plan.replaced.iter().filter_map(|r| r.held.reason.as_deref()));
        words.extend(plan.durations.keys().map(|(target, ..)| &**target));
        for counted in &plan.counted {
            words.insert(&counted.stream);
            words.extend(counted.counts.keys().map(|reason| &**reason));
        }
        self.words.learn(store, &mut self.ids, words.into_iter())?;
        let dids = learn_dids(store, &mut self.words, &mut self.ids, &dids)?;

        let woken = self.wake_those(&plan.wakes)?;
        let store = &mut *self.store;
        let removed = plan.removed.iter().map(|id| vec![Value::Int(*id)]);
        store.bulk(&REMOVE, removed.collect())?;
        for (old, new) in &plan.moved {
            store.execute(
                "UPDATE attempts SET row_id = $1 WHERE row_id = $2",
                &[Value::Int(*new), Value::Int(*old)],
            )?;
        }
        let rows: Vec<Cells> = plan.rows.iter().map(|row| self.row_cells(row, &dids)).collect();
        self.store.bulk(&ROWS, rows)?;
        self.write_replaced(&plan.replaced)?;
        self.write_files(&plan.files, &dids)?;
        self.write_durations(&plan.durations)?;
        self.write_counts(&plan.counted)?;
        self.write_numbers(&plan.numbers)?;
        Ok(woken)
    }

    fn wake_those(&mut self, wakes: &BTreeMap<(Arc<str>, String), Micros>) -> Result<u64, LedgerError> {
        let mut at_of: HashMap<(i64, &str), Micros> = HashMap::new();
        let mut keys: Vec<Cells> = Vec::new();
        for ((target, key), at) in wakes {
            if let Value::Int(target) = self.words.id(target) {
                at_of.insert((target, key), *at);
                keys.push(vec![Value::Int(target), key.as_str().into()]);
            }
        }
        let mut rows: Vec<Cells> = Vec::new();
        for cells in self.store.lookup(&WAITING_FOR, keys)? {
            let mut r = Reader::new(cells);
            let (id, target, key) = (r.int(), r.int().unwrap_or(0), r.text().unwrap_or_default());
            let not_before = r.micros().unwrap_or_default();
            if let (Some(id), Some(at)) = (id, at_of.get(&(target, key.as_str())))
                && *at < not_before
            {
                rows.push(vec![Value::Int(at.0), Value::Int(id)]);
            }
        }
        self.store.bulk(&WAKE, rows)
    }

    fn row_cells(&self, row: &Row, dids: &HashMap<Did, i64>) -> Cells {
        let name = row.did.as_ref().map(|did| &*did.name);
        let word = |text: Option<&str>| text.map_or(Value::Null, |text| self.words.id(text));
        let (url_head, url_tail) = row.url.as_deref().map_or((None, None), |u| split(u, name));
        let (uri_head, uri_tail) = row.uri.as_deref().map_or((None, None), |u| split(u, name));
        let time = |at: Option<Micros>| Value::from(at.map(|at| at.0));
        vec![
            row.id.into(),
            row.did.as_ref().and_then(|did| dids.get(did)).copied().into(),
            time(row.created_at),
            row.first_seen_at.0.into(),
            row.updated_at.0.into(),
            row.place.offset.into(),
            row.place.line.into(),
            time(row.not_before),
            time(row.waiting_since),
            time(row.appended_at),
            self.words.id(&row.target),
            self.words.id(&row.place.stream),
            i64::from(row.place.partition).into(),
            word(row.topic.as_deref()),
            word(row.event_type.as_deref()),
            word(row.rse.as_ref().map(|rse| rse.as_str())),
            word(row.kind.map(|kind| kind.as_str())),
            word(url_head),
            word(uri_head),
            word(row.reason.as_deref()),
            word(row.verified.as_deref()),
            i64::from(row.attempts.min(i32::MAX as u32)).into(),
            row.generation.into(),
            row.outcome.code().into(),
            row.event.to_bytes()[..].into(),
            url_tail.map(clip).as_deref().into(),
            uri_tail.map(clip).as_deref().into(),
            row.waits_for.as_deref().into(),
            row.detail.as_deref().map(sentence).into(),
            row.body.as_deref().into(),
            micros(row.took),
            i64::from(row.tries.min(i32::MAX as u32)).into(),
        ]
    }

    pub(super) fn write_replaced(&mut self, replaced: &[Replaced]) -> Result<(), LedgerError> {
        let mut rows: Vec<Cells> = Vec::with_capacity(replaced.len());
        for Replaced { row, held } in replaced {
            let reason = held.reason.as_deref();
            rows.push(vec![
                self.ids.take("next_attempt").into(),
                (*row).into(),
                held.updated_at.0.into(),
                held.generation.into(),
                reason.map_or(Value::Null, |reason| self.words.id(reason)),
                held.outcome.code().into(),
                held.waits_for.as_deref().into(),
                held.detail.as_deref().map(sentence).into(),
                micros(held.took),
            ]);
        }
        self.store.bulk(&REPLACED, rows).map(|_| ())
    }

    fn write_files(
        &mut self,
        files: &HashMap<(Arc<str>, Did), FileState>,
        dids: &HashMap<Did, i64>,
    ) -> Result<(), LedgerError> {
        let mut rows: Vec<Cells> = Vec::with_capacity(files.len());
        let mut members: Vec<Cells> = Vec::new();
        let mut seen = HashSet::new();
        for ((target, did), file) in files {
            let did_id: Value = dids.get(did).copied().into();
            let target = self.words.id(target);
            let (head, tail) = split(&file.uri, Some(&did.name));
            let tail = tail.filter(|tail| !tail.is_empty());
            let rse = file.rse.as_ref();
            let uuids: Vec<u8> = file.uuids.iter().flat_map(|uuid| *uuid.as_bytes()).collect();
            rows.push(vec![
                did_id.clone(),
                file.version.0.into(),
                file.updated_at.0.into(),
                target.clone(),
                head.map_or(Value::Null, |head| self.words.id(head)),
                file.state.code().into(),
                file.event.to_bytes()[..].into(),
                tail.map(clip).as_deref().into(),
                Some(uuids.as_slice()).filter(|uuids| !uuids.is_empty()).into(),
                rse.map_or(Value::Null, |rse| self.words.id(rse.as_str())),
            ]);
            // The first is found in `files` itself: only zips have more.
            for uuid in file.uuids.iter().skip(1) {
                let member = vec![uuid.as_bytes()[..8].into(), did_id.clone(), target.clone()];
                if seen.insert(member.clone()) {
                    members.push(member);
                }
            }
        }
        self.store.bulk(&FILES, rows)?;
        self.store.bulk(&MEMBERS, members)?;
        Ok(())
    }

    fn write_counts(&mut self, counted: &[Counted]) -> Result<(), LedgerError> {
        if counted.is_empty() {
            return Ok(());
        }
        let mut to = self.counted_to()?;
        let mut sums: BTreeMap<(&Arc<str>, i32, &Arc<str>), u64> = BTreeMap::new();
        let mut moved: BTreeSet<(&Arc<str>, i32)> = BTreeSet::new();
        for batch in counted {
            let partition = (batch.stream.clone(), batch.partition);
            let known = to.entry(partition).or_default();
            // Read before, and counted then; of another topic of the name nothing was.
            if known
                .within(batch.incarnation)
                .is_some_and(|known| batch.counted_to <= known)
            {
                continue;
            }
            *known = Position::new(batch.incarnation, batch.counted_to);
            moved.insert((&batch.stream, batch.partition));
            for (reason, n) in &batch.counts {
                *sums.entry((&batch.stream, batch.partition, reason)).or_default() += n;
            }
        }
        let rows = sums.into_iter().map(|((stream, part, reason), n)| {
            let (stream, reason) = (self.words.id(stream), self.words.id(reason));
            vec![stream, i64::from(part).into(), reason, n.into()]
        });
        let rows = rows.collect();
        let offsets = moved.into_iter().map(|(stream, part)| {
            let at = to.get(&(stream.clone(), part)).copied().unwrap_or_default();
            let of = at.incarnation.to_string();
            vec![
                self.words.id(stream),
                i64::from(part).into(),
                at.next.into(),
                of.as_str().into(),
            ]
        });
        let offsets = offsets.collect();
        self.store.bulk(&COUNTS, rows)?;
        self.store.bulk(&COUNTED_TO, offsets)?;
        Ok(())
    }
}

/// True for a record that came back from the ledger where it stood without a target.
pub(super) fn was_unrouted(sent: &Sent) -> bool {
    let again = sent.outgoing.again.as_ref();
    again.is_some_and(|again| again.target.is_empty())
}

/// True if the row that the event may have without a target has come to its end. One that cannot be read is told to
/// everybody, and is a dead letter all the same.
pub(super) fn ends_unrouted(sent: &Sent) -> bool {
    was_unrouted(sent) || sent.outgoing.class != Class::DeadLetter
}

/// The word with this number, asked for once.
fn word(
    store: &mut dyn Store,
    known: &mut HashMap<i64, Option<String>>,
    id: i64,
) -> Result<Option<String>, LedgerError> {
    if let Some(word) = known.get(&id) {
        return Ok(word.clone());
    }
    let found = store.query("SELECT word FROM words WHERE id = $1", &[Value::Int(id)])?;
    let word = found
        .into_iter()
        .next()
        .and_then(|cells| Reader::new(cells).text());
    known.insert(id, word.clone());
    Ok(word)
}

/// One sentence of a bearable length.
fn sentence(text: &str) -> Value {
    Value::Text(cut(text, LONGEST_DETAIL))
}
