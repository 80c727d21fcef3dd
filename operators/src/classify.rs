//! Classify: what one record is to us.
//!
//! A file that landed and is labelled for a Butler is an arrival; so is one that is gone from where some repository
//! is to be without it then. What cannot be read, and what is labelled but lacks what a Butler needs, is a dead
//! letter. All else is nobody's here, by reason.

use crate::{Arrival, Incoming, mapping::Mapping};
use dbb_events::{
    Action, Class, DeadLetter, DecodeError, Event, EventId, EventType, Kind, Message, Outgoing, Reason, Rse,
    Word, decode, salvage,
};
use std::sync::Arc;

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classified {
    /// A file for a Butler has landed, or is gone; at a site.
    Arrival(Box<Arrival>),
    /// Somebody at an RSE is told of it; at a hub.
    Outgoing(Box<Outgoing>),
    /// It should have been one, or nobody can tell.
    DeadLetter(Box<DeadLetter>),
    /// Nothing to do here.
    Nobodys(Nobodys),
}

/// Why there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nobodys {
    /// An event that tells of no landing: a queued transfer, a deletion, a rule.
    OtherEventType,
    /// A type of event nobody knows.
    UnknownEventType,
    /// A file that landed and is no Butler dataset.
    NoButlerLabel,
    /// A line between events: an Elastic bulk action.
    NoEvent,
    /// A hub tells how many records it has published.
    Heartbeat,
    /// A hub tells which records it does not have any more.
    Unavailable,
    /// A site asks for records.
    Resend,
    /// A site tells what became of an event.
    Outcome,
}

impl Classified {
    /// The word under which the ledger counts it.
    pub fn word(&self) -> &'static str {
        match self {
            Classified::Arrival(arrival) if arrival.action.is_removal() => "removal",
            Classified::Arrival(_) => "arrival",
            Classified::Outgoing(outgoing) => match outgoing.class {
                Class::Landed | Class::File => "landing",
                Class::Deletion => "deletion",
                Class::DeadLetter => "unroutable",
            },
            Classified::DeadLetter(_) => "dead_letter",
            Classified::Nobodys(reason) => reason.as_str(),
        }
    }
}

impl Nobodys {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Nobodys::OtherEventType => "other_event_type",
            Nobodys::UnknownEventType => "unknown_event_type",
            Nobodys::NoButlerLabel => "no_rubin_butler",
            Nobodys::NoEvent => "no_event",
            Nobodys::Heartbeat => "heartbeat",
            Nobodys::Unavailable => "unavailable",
            Nobodys::Resend => "resend",
            Nobodys::Outcome => "outcome",
        }
    }
}

/// Reads one record.
pub fn classify(incoming: &Incoming, mapping: &Mapping) -> Classified {
    judge(incoming, &decode(&incoming.received.body), mapping)
}

/// What a record is of which `decoded` was read.
pub fn judge(incoming: &Incoming, decoded: &Result<Event<'_>, DecodeError>, mapping: &Mapping) -> Classified {
    let event = match decoded {
        Ok(event) => event,
        Err(DecodeError::BulkAction) => return nobodys(incoming, None, Nobodys::NoEvent),
        Err(error) => return letter(incoming, salvage(&incoming.received.body).as_ref(), error),
    };
    match &event.event_type {
        EventType::TransferDone | EventType::StageinDone => {}
        EventType::DeletionDone | EventType::DeletionNotFound => {
            return match removal(incoming, event, mapping) {
                Some(removal) => Classified::Arrival(Box::new(removal)),
                None => nobodys(incoming, Some(event), Nobodys::OtherEventType),
            };
        }
        kind if kind.is_message() => return message(incoming, event),
        EventType::Other(_) => return nobodys(incoming, Some(event), Nobodys::UnknownEventType),
        _ => return nobodys(incoming, Some(event), Nobodys::OtherEventType),
    }
    match arrival(incoming, event) {
        Ok(Some(arrival)) => Classified::Arrival(Box::new(arrival)),
        Ok(None) => nobodys(incoming, Some(event), Nobodys::NoButlerLabel),
        Err(error) => letter(incoming, Some(event), &error),
    }
}

/// What a hub or a site says; one that does not say it as it should is a dead letter like any other.
fn message(incoming: &Incoming, event: &Event<'_>) -> Classified {
    match Message::decode(&incoming.received.body).map(|message| message.word) {
        Ok(Word::Heartbeat { .. }) => nobodys(incoming, Some(event), Nobodys::Heartbeat),
        Ok(Word::Unavailable { .. }) => nobodys(incoming, Some(event), Nobodys::Unavailable),
        Ok(Word::Resend { .. }) => nobodys(incoming, Some(event), Nobodys::Resend),
        Ok(Word::Outcome(_)) => nobodys(incoming, Some(event), Nobodys::Outcome),
        Err(error) => incomplete(
            incoming,
            event,
            format!("not a `{}` message: {error}", event.event_type),
        ),
    }
}

/// An event that lacks what views are made from.
pub(crate) fn incomplete(incoming: &Incoming, event: &Event<'_>, detail: String) -> Classified {
    Classified::DeadLetter(Box::new(dead_letter(
        incoming,
        Some(event),
        Reason::BadField,
        detail,
    )))
}

fn arrival(incoming: &Incoming, event: &Event<'_>) -> Result<Option<Arrival>, DecodeError> {
    let received = &incoming.received;
    let payload = &event.payload;
    let Some(kind) = payload.kind()? else {
        return Ok(None);
    };
    let rse = payload.dst_rse.as_deref().ok_or(DecodeError::Missing {
        field: "payload.dst-rse",
    })?;
    let url = payload.dst_url.as_deref().ok_or(DecodeError::Missing {
        field: "payload.dst-url",
    })?;
    let did = event
        .did_or_implied(received.topic.as_deref())
        .ok_or(DecodeError::Missing {
            field: if payload.scope.is_none() {
                "payload.scope"
            } else {
                "payload.name"
            },
        })?;
    Ok(Some(Arrival {
        event: identity(incoming, Some(event)),
        place: received.place.clone(),
        topic: received.topic.clone(),
        event_type: event.event_type.as_str().into(),
        did,
        rse: Rse::new(rse),
        action: Action::Register(kind),
        created_at: event.created_at,
        url: url.into(),
        sidecar: sidecar(kind, event)?,
        bytes: payload.bytes,
        adler32: payload.adler32().map(Arc::from),
        landed_at: payload.landed_at(),
        appended_at: received.appended_at,
        read_at: incoming.read_at,
        again: incoming.again.clone(),
        body: received.body.clone(),
    }))
}

/// A file is gone; `None` where no repository is to know.
///
/// Where the RSE's id is told, the catalogue had no replica there: it is nobody's, as is one without scope and name.
fn removal(incoming: &Incoming, event: &Event<'_>, mapping: &Mapping) -> Option<Arrival> {
    let received = &incoming.received;
    let rse = event.payload.rse.as_deref()?;
    let did = event.did()?;
    if event.payload.rse_id.is_some() || !mapping.removes(rse, &did.scope) {
        return None;
    }
    Some(Arrival {
        event: identity(incoming, Some(event)),
        place: received.place.clone(),
        topic: received.topic.clone(),
        event_type: event.event_type.as_str().into(),
        did,
        rse: Rse::new(rse),
        action: Action::Remove,
        created_at: event.created_at,
        url: event.payload.url.as_deref().unwrap_or_default().into(),
        sidecar: "".into(),
        bytes: event.payload.bytes,
        adler32: None,
        landed_at: None,
        appended_at: received.appended_at,
        read_at: incoming.read_at,
        again: incoming.again.clone(),
        body: received.body.clone(),
    })
}

pub(crate) fn sidecar(kind: Kind, event: &Event<'_>) -> Result<Arc<str>, DecodeError> {
    if !kind.needs_sidecar() {
        return Ok("".into());
    }
    match event.payload.sidecar()? {
        Some(sidecar) => Ok(sidecar.json.as_ref().into()),
        None => Err(DecodeError::BadSidecar {
            detail: format!("is missing, and a {kind} needs one"),
        }),
    }
}

/// The identity of the event; of one that the ledger sends again, the one its row stands under.
pub(crate) fn identity(incoming: &Incoming, event: Option<&Event<'_>>) -> EventId {
    let body = &incoming.received.body;
    match (&incoming.again, event) {
        (Some(again), _) => again.event,
        (None, Some(event)) => event.identity(body),
        (None, None) => EventId::of_bytes(body),
    }
}

/// A record of nobody; but one that an operator has sent again has a row that must end.
pub(crate) fn nobodys(incoming: &Incoming, event: Option<&Event<'_>>, reason: Nobodys) -> Classified {
    if incoming.again.is_none() {
        return Classified::Nobodys(reason);
    }
    let detail = format!("there is nothing to do for it here: {}", reason.as_str());
    Classified::DeadLetter(Box::new(dead_letter(incoming, event, Reason::BadField, detail)))
}

pub(crate) fn letter(incoming: &Incoming, event: Option<&Event<'_>>, error: &DecodeError) -> Classified {
    Classified::DeadLetter(Box::new(dead_letter(
        incoming,
        event,
        error.reason(),
        error.to_string(),
    )))
}

fn dead_letter(incoming: &Incoming, event: Option<&Event<'_>>, reason: Reason, detail: String) -> DeadLetter {
    let received = &incoming.received;
    DeadLetter {
        event: identity(incoming, event),
        target: incoming
            .again
            .as_ref()
            .map_or_else(|| "".into(), |again| Arc::clone(&again.target)),
        place: received.place.clone(),
        topic: received.topic.clone(),
        event_type: event.map(|event| event.event_type.as_str().into()),
        did: event.and_then(|event| event.did_or_implied(received.topic.as_deref())),
        rse: event.and_then(Event::rse),
        created_at: event.map(|event| event.created_at),
        at: incoming.read_at,
        reason,
        detail,
        body: received.body.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        Again,
        mapping::{Route, Selector},
        route::requests_for,
    };
    use dbb_events::{Micros, Place, Received};

    fn classify(incoming: &Incoming) -> Classified {
        super::classify(incoming, &Mapping::default())
    }

    fn incoming(body: &str) -> Incoming {
        Incoming {
            received: Received {
                place: Place {
                    stream: "R-raw".into(),
                    partition: 2,
                    offset: 7,
                    line: None,
                },
                topic: Some("R-raw".into()),
                appended_at: None,
                marks: None,
                body: body.to_owned().into(),
            },
            read_at: Micros(5),
            again: None,
            incarnation: Default::default(),
            known: false,
        }
    }

    fn done(payload: &str) -> String {
        format!(
            r#"{{"event_type":"transfer-done","payload":{{"request-id":"q","scope":"raw","name":"a/b.fits","dst-rse":"R","dst-url":"davs://h/x/raw/a/b.fits"{payload}}},"created_at":"2026-11-21 19:14:49"}}"#
        )
    }

    #[test]
    fn a_landing_without_a_label_is_nobodys_and_with_one_it_is_an_arrival() {
        assert_eq!(
            classify(&incoming(&done(""))),
            Classified::Nobodys(Nobodys::NoButlerLabel)
        );
        let Classified::Arrival(arrival) = classify(&incoming(&done(
            r#","rubin_butler":"zip_file","rubin_sidecar":"""#,
        ))) else {
            panic!("not an arrival")
        };
        assert_eq!(
            (arrival.action, arrival.sidecar.as_ref(), arrival.rse.as_str()),
            (Action::Register(Kind::ZipFile), "", "R")
        );
        let failed = done(r#","rubin_butler":"zip_file""#).replace("transfer-done", "transfer-failed");
        assert_eq!(
            classify(&incoming(&failed)),
            Classified::Nobodys(Nobodys::OtherEventType)
        );
        let new = failed.replace("transfer-failed", "transfer-renamed");
        assert_eq!(
            classify(&incoming(&new)),
            Classified::Nobodys(Nobodys::UnknownEventType)
        );
    }

    #[test]
    fn a_file_that_is_gone_is_told_to_those_who_want_to_know() {
        let route = |rse: &str, targets: [&str; 2]| {
            let selector = Selector::Replica {
                rse: rse.into(),
                scope: Some("raw".into()),
            };
            let prefixes = [("davs://h/x", "/data")];
            Route::new(selector, targets.map(Arc::from).into(), Vec::new(), prefixes).unwrap()
        };
        let mapping = Mapping::new(vec![route("R", ["main", "copy"]), route("S", ["copy", "third"])])
            .removing(["main".into()]);
        let told = |rse: &str, rest: &str, event_type: &str| {
            let body = format!(
                r#"{{"event_type":"{event_type}","payload":{{"scope":"raw","name":"a/b.fits","rse":"{rse}"{rest}}},"created_at":"2026-11-21 19:14:49"}}"#
            );
            let mut incoming = incoming(&body);
            incoming.received.topic = Some("usdf.R-raw-deletions".into());
            super::classify(&incoming, &mapping)
        };
        for (url, uri) in [
            (r#","url":"davs://h/x/raw/a/b.fits""#, "/data/raw/a/b.fits"),
            (r#","url":"root://other//door/raw/a/b.fits""#, ""),
            (r#","url":null"#, ""),
        ] {
            for event_type in ["deletion-done", "deletion-not-found"] {
                let classified = told("R", url, event_type);
                assert_eq!(classified.word(), "removal");
                let Classified::Arrival(removal) = classified else {
                    panic!("not told")
                };
                assert_eq!(removal.action, Action::Remove);
                let requests = requests_for(&removal, &mapping).unwrap();
                let told: Vec<_> = requests.iter().map(|r| (&*r.target, &*r.uri)).collect();
                assert_eq!(told, [("main", uri)]);
            }
        }
        let nobodys = Classified::Nobodys(Nobodys::OtherEventType);
        for (rse, rest, event_type) in [
            ("R", "", "deletion-failed"),
            ("R", "", "deletion-planned"),
            // It was no replica.
            ("R", r#","rse_id":"77""#, "deletion-done"),
            ("S", "", "deletion-done"),
            ("UNHEARD_OF", "", "deletion-done"),
        ] {
            assert_eq!(told(rse, rest, event_type), nobodys, "{rse} {rest} {event_type}");
        }
    }

    #[test]
    fn what_hubs_and_sites_say_is_nobodys_and_a_garbled_word_is_a_dead_letter() {
        let said = |kind: &str, payload: &str| {
            let body = format!(
                r#"{{"event_type":"{kind}","payload":{{{payload}}},"created_at":"2026-11-21 19:14:49"}}"#
            );
            classify(&incoming(&body))
        };
        let range = r#""site":"s","lane":"R-raw/0","from":1,"to":2,"detail":"""#;
        for (kind, payload, nobodys) in [
            (
                "dbb-heartbeat",
                r#""lane":"R-raw/0","sequence":12"#,
                Nobodys::Heartbeat,
            ),
            ("dbb-unavailable", range, Nobodys::Unavailable),
            ("dbb-resend", range, Nobodys::Resend),
            (
                "dbb-outcome",
                r#""scope":"a","name":"b","rse":"R","repository":"main","event":"transfer-done","id":"0f","version":"2026-11-21 19:14:49","outcome":"ingested""#,
                Nobodys::Outcome,
            ),
        ] {
            assert_eq!(said(kind, payload), Classified::Nobodys(nobodys), "{kind}");
        }
        let Classified::DeadLetter(letter) = said("dbb-heartbeat", r#""lane":"R-raw","sequence":12"#) else {
            panic!("not a dead letter")
        };
        assert_eq!(letter.reason, Reason::BadField);
        assert!(
            letter.detail.contains("`R-raw` is not `TOPIC/PARTITION`"),
            "{}",
            letter.detail
        );
    }

    #[test]
    fn a_product_without_a_sidecar_is_a_dead_letter_that_names_its_file() {
        let Classified::DeadLetter(letter) = classify(&incoming(&done(r#","rubin_butler":"data_product""#)))
        else {
            panic!("not a dead letter")
        };
        assert_eq!(letter.reason, Reason::BadSidecar);
        assert_eq!(
            letter.detail,
            "field `payload.rubin_sidecar` is missing, and a data_product needs one"
        );
        assert_eq!(letter.did.unwrap().to_string(), "raw:a/b.fits");
    }

    #[test]
    fn bytes_that_are_no_event_keep_their_place_and_an_identity() {
        let Classified::DeadLetter(letter) = classify(&incoming("{\"event_type\": \"transf")) else {
            panic!("not a dead letter")
        };
        assert_eq!(letter.reason, Reason::Unreadable);
        assert_eq!(letter.place.to_string(), "R-raw[2]@7");
        assert_eq!(letter.event, EventId::of_bytes(b"{\"event_type\": \"transf"));
    }

    #[test]
    fn an_event_sent_again_keeps_its_row_and_always_ends() {
        let again = Again {
            event: EventId(9),
            target: "main".into(),
            attempts: 2,
            waiting_since: Some(Micros(1)),
            released: false,
        };
        let mut sent_again = incoming(&done(""));
        sent_again.again = Some(again);
        let Classified::DeadLetter(letter) = classify(&sent_again) else {
            panic!("its row would wait for ever")
        };
        assert_eq!((letter.event, letter.target.as_ref()), (EventId(9), "main"));
    }
}
