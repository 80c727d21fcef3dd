//! Tell: what one event says, as facts.
//!
//! ```text
//!   transfer-, stagein-queued, -preparing    COPYING at the destination           a step of the request
//!     -submitted, -submission_failed         (nothing: COPYING already)           a step
//!     -done                                  AVAILABLE                            a step
//!     -failed, -lost                         (nothing: there may be more tries)   a step
//!   deletion-done, -not-found                gone                                 a step
//!     -failed                                BEING_DELETED, unless a dark file    a step
//!   lost                                     UNAVAILABLE, wherever it is          said
//!   rule_ok, rule_progress, datasetlock_ok                                        said
//!   dbb-outcome                              (nothing: what a site did with it)   said
//!   all others                               nothing
//! ```
//!
//! In:    glimpses of events, in any order, repeated any number of times.
//! Out:   facts, appended to [`Told`]; repeats of an event are repeats of its facts.
//! State: the words read lately, and which DIDs were named lately: 1 MB.

mod lately;

use crate::{
    Epoch,
    facts::{
        AtSite, Attempt, Basis, Change, Complete, DatasetName, DidKey, DidName, FailureClass, Lost,
        OutcomeName, RepositoryName, RuleSaid, RuleWord, Said, SiteOutcome, State, Step, Told, UNKNOWN_MS,
        Wanted,
    },
};
use dbb_events::{EventId, EventType, Glimpse, Message, Micros, Word};
pub use lately::{NamedLately, WordsLately};
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

/// Why an event that should say something does not say all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Untold {
    /// A field without which there is no fact.
    #[error("field `{field}` is missing")]
    Missing {
        /// Its path in the body.
        field: &'static str,
    },
    /// A field with a value that means nothing.
    #[error("field `{field}` is not {wanted}")]
    Wrong {
        /// Its path in the body.
        field: &'static str,
        /// What it should be, with its article.
        wanted: &'static str,
    },
}

/// Makes facts of events.
#[derive(Debug)]
pub struct Teller {
    pub(crate) wanted: Wanted,
    pub(crate) words: WordsLately,
    pub(crate) named: NamedLately,
}

/// What events of one type are about.
enum About {
    /// A request or a deletion, and what it makes of the replica.
    Replica(Step, Option<State>),
    Lost,
    Rule,
    Outcome,
}

impl About {
    fn of(event_type: &EventType<'_>) -> Option<Self> {
        use EventType::*;
        Some(match event_type {
            TransferQueued | TransferPreparing | StageinQueued | StageinPreparing => {
                Self::Replica(Step::Queued, Some(State::Copying))
            }
            TransferSubmitted | StageinSubmitted => Self::Replica(Step::Submitted, None),
            TransferSubmissionFailed | StageinSubmissionFailed => Self::Replica(Step::SubmissionFailed, None),
            TransferDone | StageinDone => Self::Replica(Step::Done, Some(State::Available)),
            TransferFailed | StageinFailed => Self::Replica(Step::Failed, None),
            TransferLost | StageinLost => Self::Replica(Step::Lost, None),
            DeletionDone => Self::Replica(Step::Deleted, Some(State::Gone)),
            DeletionNotFound => Self::Replica(Step::NotFound, Some(State::Gone)),
            DeletionFailed => Self::Replica(Step::DeletionFailed, Some(State::BeingDeleted)),
            EventType::Lost => Self::Lost,
            RuleOk | RuleProgress | DatasetlockOk => Self::Rule,
            DbbOutcome => Self::Outcome,
            _ => return None,
        })
    }
}

impl Teller {
    /// One that makes what is wanted.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            words: WordsLately::default(),
            named: NamedLately::default(),
        }
    }

    /// Appends the facts of an event, which was read from `body`, to `told`.
    ///
    /// With an error what could be told has been.
    pub fn tell(&mut self, glimpse: &Glimpse<'_>, body: &[u8], told: &mut Told) -> Result<(), Untold> {
        match About::of(&glimpse.event_type) {
            Some(About::Replica(step, state)) => self.tell_replica(glimpse, body, step, state, told),
            Some(About::Lost) => self.tell_lost(glimpse, body, told),
            Some(About::Rule) if self.wanted.said => {
                let said = self.rule(glimpse, body)?;
                told.said.push(Said::Rule(said));
                Ok(())
            }
            Some(About::Outcome) if self.wanted.said => {
                told.said.extend(self.outcome(body)?.map(Said::Outcome));
                Ok(())
            }
            Some(About::Rule | About::Outcome) | None => Ok(()),
        }
    }

    /// Forgets which DIDs it has named, so that names are sent again: for when those who keep them may
    /// have dropped some.
    pub fn forget_names(&mut self) {
        self.named = NamedLately::default();
    }

    fn tell_replica(
        &mut self,
        glimpse: &Glimpse<'_>,
        body: &[u8],
        step: Step,
        state: Option<State>,
        told: &mut Told,
    ) -> Result<(), Untold> {
        // A file that no catalogue knows has an RSE id with its deletion, and is no replica that could be kept.
        let dark = step == Step::DeletionFailed && glimpse.rse_id.is_some();
        let state = state.filter(|_| !dark);
        if !(self.wanted.attempts || state.is_some() && (self.wanted.changes || self.wanted.names)) {
            return Ok(());
        }
        let (scope_text, name) = did_of(glimpse)?;
        let rse = given(glimpse.replica_rse(), "payload.dst-rse")?;
        let did = DidKey::new(scope_text, name);
        let scope = self.words.scope(scope_text);
        let rse = self.words.rse(rse);
        let event = glimpse.identity(body);
        if let Some(state) = state {
            if self.wanted.names {
                self.named.name(did, scope, name, &mut told.names);
            }
            if self.wanted.changes {
                told.changes.push(Change {
                    did,
                    at: glimpse.created_at,
                    tie: tie(event),
                    bytes: glimpse.bytes.unwrap_or(Change::NO_BYTES),
                    rse: Some(rse),
                    scope,
                    adler32: glimpse.adler32.unwrap_or(0),
                    state,
                    basis: Basis::Event,
                });
            }
        }
        if !self.wanted.attempts {
            return Ok(());
        }
        let (rule, wrong) = match glimpse.rule_id.map(|_| rule_of(glimpse)).transpose() {
            Ok(rule) => (rule, Ok(())),
            Err(untold) => (None, Err(untold)),
        };
        let [requested, submitted, started, landed] = [
            glimpse.requested_at,
            glimpse.submitted_at,
            glimpse.started_at,
            glimpse.transferred_at,
        ]
        .map(|text| text.and_then(Micros::parse));
        told.attempts.push(Attempt {
            event,
            did,
            scope,
            step,
            at: glimpse.created_at,
            src: glimpse.src_rse.map(|rse| self.words.rse(rse)),
            rse,
            bytes: glimpse.bytes,
            dataset: self.parent(glimpse),
            rule,
            failure: step
                .is_failure()
                .then(|| FailureClass::of(step, glimpse.reason.as_deref())),
            waited_ms: between_ms(requested, submitted),
            queued_ms: between_ms(submitted, started),
            ran_ms: between_ms(started, landed),
            noticed_ms: between_ms(landed, Some(glimpse.created_at)),
        });
        wrong
    }

    fn tell_lost(&mut self, glimpse: &Glimpse<'_>, body: &[u8], told: &mut Told) -> Result<(), Untold> {
        if !(self.wanted.changes || self.wanted.said) {
            return Ok(());
        }
        let (scope_text, name) = did_of(glimpse)?;
        let did = DidKey::new(scope_text, name);
        let scope = self.words.scope(scope_text);
        let event = glimpse.identity(body);
        if self.wanted.changes {
            told.changes.push(Change {
                did,
                at: glimpse.created_at,
                tie: tie(event),
                bytes: Change::NO_BYTES,
                rse: None,
                scope,
                adler32: 0,
                state: State::Unavailable,
                basis: Basis::Event,
            });
        }
        if self.wanted.said {
            told.said.push(Said::Lost(Lost {
                did,
                scope,
                name: name.into(),
                dataset: self.parent(glimpse),
                at: glimpse.created_at,
                event,
            }));
        }
        Ok(())
    }

    fn rule(&mut self, glimpse: &Glimpse<'_>, body: &[u8]) -> Result<RuleSaid, Untold> {
        let (scope, name) = did_of(glimpse)?;
        let word = match glimpse.event_type {
            EventType::RuleProgress => RuleWord::Progress(percent(glimpse)?),
            EventType::DatasetlockOk => {
                RuleWord::DatasetLockOk(self.words.rse(given(glimpse.rse, "payload.rse")?))
            }
            _ => RuleWord::Ok,
        };
        Ok(RuleSaid {
            rule: rule_of(glimpse)?,
            did: self.words.dataset(scope, name),
            at: glimpse.created_at,
            word,
            event: glimpse.identity(body),
        })
    }

    /// What a site says of an event; nothing of one that was passed over for a newer one, of which it speaks too.
    fn outcome(&mut self, body: &[u8]) -> Result<Option<SiteOutcome>, Untold> {
        let wrong = |wanted| Untold::Wrong {
            field: "payload",
            wanted,
        };
        let Ok(Message {
            word: Word::Outcome(said),
            created_at: at,
        }) = Message::decode(body)
        else {
            return Err(wrong("an outcome of an event"));
        };
        // Words are kept for ever, so not everything is taken for one.
        if !is_word(&said.outcome) || said.repository.len() > MOST_OF_A_NAME {
            return Err(wrong("an outcome in a word, at a repository with a name"));
        }
        Ok((*said.outcome != *SUPERSEDED).then(|| SiteOutcome {
            of: AtSite {
                scope: self.words.scope(&said.scope),
                name: said.name.as_ref().into(),
                rse: self.words.rse(said.rse.as_str()),
                repository: RepositoryName::new(&said.repository),
            },
            version: said.version,
            at,
            outcome: OutcomeName::new(&said.outcome),
            reason: said.reason.map(|reason| reason.as_ref().into()),
        }))
    }

    fn parent(&mut self, glimpse: &Glimpse<'_>) -> Option<DatasetName> {
        Some(self.words.dataset(glimpse.dataset_scope?, glimpse.dataset?))
    }
}

/// The word for an event that came after a newer one of the same file.
const SUPERSEDED: &str = "superseded";

/// Bytes of a repository's name.
const MOST_OF_A_NAME: usize = 200;

/// A word as ledgers have them.
fn is_word(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The same for each delivery of an event.
fn tie(event: EventId) -> u64 {
    event.0 as u64
}

fn given<'a>(text: Option<&'a str>, field: &'static str) -> Result<&'a str, Untold> {
    text.ok_or(Untold::Missing { field })
}

fn did_of<'g>(glimpse: &'g Glimpse<'_>) -> Result<(&'g str, &'g str), Untold> {
    Ok((
        given(glimpse.scope, "payload.scope")?,
        given(glimpse.name, "payload.name")?,
    ))
}

fn rule_of(glimpse: &Glimpse<'_>) -> Result<u128, Untold> {
    let text = given(glimpse.rule_id, "payload.rule_id")?;
    rule_id(text).ok_or(Untold::Wrong {
        field: "payload.rule_id",
        wanted: "a rule's id of 32 hexadecimal digits",
    })
}

/// A rule's id: 32 hexadecimal digits, with or without hyphens.
fn rule_id(text: &str) -> Option<u128> {
    let mut digits = 0;
    let id = text
        .bytes()
        .filter(|byte| *byte != b'-')
        .try_fold(0, |id, byte| {
            digits += 1;
            Some(id << 4 | u128::from(char::from(byte).to_digit(16)?))
        })?;
    (digits == 32).then_some(id)
}

fn percent(glimpse: &Glimpse<'_>) -> Result<u8, Untold> {
    let field = "payload.progress";
    let progress = glimpse.progress.ok_or(Untold::Missing { field })?;
    match u8::try_from(progress) {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err(Untold::Wrong {
            field,
            wanted: "a percentage",
        }),
    }
}

/// Milliseconds from one time to another; [`UNKNOWN_MS`] where either is not told, or the clocks of two machines
/// put the second before the first.
fn between_ms(from: Option<Micros>, to: Option<Micros>) -> u32 {
    let (Some(from), Some(to)) = (from, to) else {
        return UNKNOWN_MS;
    };
    match to.0.saturating_sub(from.0) {
        micros @ 0.. => u32::try_from(micros / 1000).map_or(UNKNOWN_MS - 1, |ms| ms.min(UNKNOWN_MS - 1)),
        _ => UNKNOWN_MS,
    }
}
