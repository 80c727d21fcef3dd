//! Telling: what a site tells the centre of, as a message.

use crate::{Did, Entry, EventId, Micros, Outcome, Reason, Rse, message::OutcomeWord};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An entry for the ledger, or a file that has landed where no repository is, on its way to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Telling {
    /// The ledger has it next.
    Entry(Entry),
    /// Nobody here does anything with it.
    Landed(Landed),
}

/// A file that has landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landed {
    /// The identity of the event.
    pub event: EventId,
    /// The event type, in lower case.
    pub event_type: Arc<str>,
    /// The file.
    pub did: Did,
    /// Where it landed.
    pub rse: Rse,
    /// The envelope's time.
    pub created_at: Micros,
}

impl Telling {
    /// True for an entry that the centre is told of: an outcome that has changed, or a dead letter that names a file
    /// and its RSE.
    pub fn is_told(entry: &Entry) -> bool {
        match entry {
            Entry::Settled(settled) => {
                let waits = matches!(settled.outcome, Outcome::Waiting { .. });
                !(waits && settled.request.waiting_since.is_some())
            }
            Entry::DeadLetter(letter) => {
                // What is too late for a view is no event's outcome.
                letter.reason != Reason::TooLate
                    && letter.did.is_some()
                    && letter.rse.is_some()
                    && letter.event_type.is_some()
                    && letter.created_at.is_some()
            }
            Entry::Sent(_) | Entry::Counted(_) | Entry::Numbers(_) => false,
        }
    }

    /// What is told.
    pub fn word(&self) -> Option<OutcomeWord> {
        match self {
            Telling::Landed(landed) => Some(OutcomeWord {
                scope: Arc::clone(&landed.did.scope),
                name: Arc::clone(&landed.did.name),
                rse: landed.rse.clone(),
                repository: "".into(),
                event: Arc::clone(&landed.event_type),
                id: landed.event.to_string(),
                version: landed.created_at,
                outcome: "landed".into(),
                reason: None,
                uuids: Vec::new(),
            }),
            Telling::Entry(Entry::Settled(settled)) => {
                let request = &settled.request;
                let reason = match &settled.outcome {
                    Outcome::Waiting { dependency, .. } => Some(dependency.key().into()),
                    Outcome::Refused(refusal) => Some(refusal.reason.as_str().into()),
                    _ => None,
                };
                Some(OutcomeWord {
                    scope: Arc::clone(&request.did.scope),
                    name: Arc::clone(&request.did.name),
                    rse: request.rse.clone(),
                    repository: Arc::clone(&request.target),
                    event: Arc::clone(&request.event_type),
                    id: request.event.to_string(),
                    version: request.created_at,
                    outcome: settled.outcome.as_str().into(),
                    reason,
                    uuids: settled.uuids.clone(),
                })
            }
            Telling::Entry(Entry::DeadLetter(letter)) => {
                let did = letter.did.as_ref()?;
                Some(OutcomeWord {
                    scope: Arc::clone(&did.scope),
                    name: Arc::clone(&did.name),
                    rse: letter.rse.clone()?,
                    repository: Arc::clone(&letter.target),
                    event: letter.event_type.clone()?,
                    id: letter.event.to_string(),
                    version: letter.created_at?,
                    outcome: "refused".into(),
                    reason: Some(letter.reason.as_str().into()),
                    uuids: Vec::new(),
                })
            }
            Telling::Entry(Entry::Sent(_) | Entry::Counted(_) | Entry::Numbers(_)) => None,
        }
    }

    /// Its bytes, about.
    pub fn weight(&self) -> usize {
        match self {
            Telling::Entry(Entry::Settled(settled)) => {
                500 + 40 * settled.uuids.len() + settled.request.body.len()
            }
            Telling::Entry(Entry::DeadLetter(letter)) => 500 + letter.body.len(),
            _ => 500,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Action, DeadLetter, Dependency, Kind, Place, Refusal, Request, Settled, Verified};

    fn settled(outcome: Outcome) -> Settled {
        let place = Place {
            stream: "R-raw".into(),
            partition: 0,
            offset: 7,
            line: None,
        };
        Settled {
            request: Request {
                event: EventId(15),
                target: "main".into(),
                place,
                event_type: "transfer-done".into(),
                did: Did::new("raw", "a"),
                rse: Rse::new("R"),
                action: Action::Register(Kind::ZipFile),
                created_at: Micros(1000),
                url: "u".into(),
                uri: "/u".into(),
                sidecar: "".into(),
                bytes: None,
                adler32: None,
                landed_at: None,
                appended_at: None,
                read_at: Micros(2000),
                attempts: 0,
                waiting_since: None,
                was_unrouted: false,
                topic: None,
                body: Default::default(),
            },
            outcome,
            at: Micros(3000),
            took: None,
            uuids: vec![uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2)],
            verified: Verified::NotAsked,
            provides: Vec::new(),
        }
    }

    fn told(settled: Settled) -> Option<OutcomeWord> {
        let entry = Entry::Settled(Box::new(settled));
        Telling::is_told(&entry).then(|| Telling::Entry(entry).word().unwrap())
    }

    #[test]
    fn an_answer_says_of_which_version_of_which_file_it_is() {
        let word = told(settled(Outcome::Ingested)).unwrap();
        assert_eq!(
            (&*word.scope, &*word.name, &*word.repository),
            ("raw", "a", "main")
        );
        assert_eq!(
            (&*word.outcome, word.reason, word.uuids.len()),
            ("ingested", None, 2)
        );
        assert_eq!((word.version, word.id.len()), (Micros(1000), 32));
        let refused = Outcome::Refused(Refusal {
            reason: Reason::FileMissing,
            detail: "it is not there".into(),
        });
        let word = told(settled(refused)).unwrap();
        assert_eq!(
            (&*word.outcome, word.reason.as_deref()),
            ("refused", Some("file_missing"))
        );
    }

    #[test]
    fn a_wait_is_told_once() {
        let waiting = || {
            settled(Outcome::Waiting {
                dependency: Dependency::Dimension("exposure/LSSTCam/1".into()),
                not_before: Micros(9000),
                detail: "not yet".into(),
                counts: true,
            })
        };
        let word = told(waiting()).unwrap();
        assert_eq!(word.reason.as_deref(), Some("dimension:exposure/LSSTCam/1"));
        let mut again = waiting();
        again.request.waiting_since = Some(Micros(3000));
        assert_eq!(told(again.clone()), None);
        again.outcome = Outcome::Ingested;
        assert!(told(again).is_some());
    }

    #[test]
    fn a_dead_letter_is_told_if_it_names_its_file_and_rse() {
        let letter = |did: Option<Did>, reason: Reason| {
            let request = settled(Outcome::Ingested).request;
            Entry::DeadLetter(Box::new(DeadLetter {
                event: request.event,
                target: "".into(),
                place: request.place,
                topic: None,
                event_type: Some(request.event_type),
                did,
                rse: Some(request.rse),
                created_at: Some(request.created_at),
                at: Micros(5),
                reason,
                detail: "why".into(),
                body: Default::default(),
            }))
        };
        let did = || Some(Did::new("raw", "a"));
        assert!(!Telling::is_told(&letter(None, Reason::BadField)));
        assert!(!Telling::is_told(&letter(did(), Reason::TooLate)));
        let entry = letter(did(), Reason::Unmapped);
        assert!(Telling::is_told(&entry));
        let word = Telling::Entry(entry).word().unwrap();
        assert_eq!(
            (&*word.repository, word.reason.as_deref()),
            ("", Some("unmapped"))
        );
    }
}
