//! Judge: what one record is to a hub.
//!
//! A file that landed and a file that went are for somebody at the RSE. What has no topic there, and what cannot be
//! read, goes to the topic of dead letters; what cannot be read has a row in the ledger too. All else is nobody's.

use super::topics::Namer;
use crate::{
    Classified, Incoming, Nobodys,
    classify::{identity, letter, nobodys},
};
use dbb_events::{Class, DeadLetter, DecodeError, Did, Event, EventType, Outgoing, Rse, salvage};
use std::sync::Arc;

/// What a record is of which `decoded` was read.
pub fn judge(incoming: &Incoming, decoded: &Result<Event<'_>, DecodeError>, namer: &mut Namer) -> Classified {
    let event = match decoded {
        Ok(event) => event,
        Err(DecodeError::BulkAction) => return nobodys(incoming, None, Nobodys::NoEvent),
        Err(error) => return letter(incoming, salvage(&incoming.received.body).as_ref(), error),
    };
    let made = match &event.event_type {
        EventType::TransferDone => landed(incoming, event, namer),
        // Filters before this one have never passed these on to whoever registers files.
        EventType::StageinDone => told(incoming, event, Class::File, namer),
        EventType::DeletionDone | EventType::DeletionNotFound | EventType::DeletionFailed => {
            told(incoming, event, Class::Deletion, namer)
        }
        EventType::Other(_) => return nobodys(incoming, Some(event), Nobodys::UnknownEventType),
        _ => return nobodys(incoming, Some(event), Nobodys::OtherEventType),
    };
    match made {
        Ok(outgoing) => Classified::Outgoing(Box::new(outgoing)),
        Err(error) => letter(incoming, Some(event), &error),
    }
}

/// A file that landed: for a Butler, or not; its labels tell.
fn landed(incoming: &Incoming, event: &Event<'_>, namer: &mut Namer) -> Result<Outgoing, DecodeError> {
    let payload = &event.payload;
    let kind = payload.kind()?;
    if let Some(kind) = kind {
        crate::classify::sidecar(kind, event)?;
    }
    if payload.dst_url.is_none() {
        return Err(DecodeError::Missing {
            field: "payload.dst-url",
        });
    }
    let mut outgoing = told(incoming, event, Class::Landed, namer)?;
    outgoing.labelled = kind.is_some();
    Ok(outgoing)
}

/// An event of one class, or of none where no topic is for its RSE and scope.
fn told(
    incoming: &Incoming,
    event: &Event<'_>,
    class: Class,
    namer: &mut Namer,
) -> Result<Outgoing, DecodeError> {
    let (received, payload) = (&incoming.received, &event.payload);
    let missing = |field| DecodeError::Missing { field };
    let (rse, field) = match class {
        Class::Deletion => (&payload.rse, "payload.rse"),
        _ => (&payload.dst_rse, "payload.dst-rse"),
    };
    let rse = rse.as_deref().ok_or(missing(field))?;
    let scope = payload.scope.as_deref().ok_or(missing("payload.scope"))?;
    let name = payload.name.as_deref().ok_or(missing("payload.name"))?;
    let url = match class {
        Class::Deletion => &payload.url,
        _ => &payload.dst_url,
    };
    let (rse, scope, class, topic) = match namer.names(rse, scope) {
        Ok(names) => {
            let topic = names.of(class).cloned().unwrap_or_default();
            (names.rse.clone(), Arc::clone(&names.scope), class, topic)
        }
        Err(_) => (
            Rse::new(rse),
            scope.into(),
            Class::DeadLetter,
            namer.dead_letters(),
        ),
    };
    let dataset = payload.dataset_scope.as_ref().zip(payload.dataset.as_ref());
    Ok(Outgoing {
        event: identity(incoming, Some(event)),
        place: received.place.clone(),
        event_type: event.event_type.as_str().into(),
        did: Did {
            scope,
            name: name.into(),
        },
        rse,
        url: url.as_deref().map(Arc::from),
        source_url: payload.src_url.as_deref().map(Arc::from),
        dataset: dataset.map(|(scope, name)| format!("{scope}:{name}").into()),
        class,
        labelled: false,
        topic,
        created_at: event.created_at,
        landed_at: payload.landed_at(),
        appended_at: received.appended_at,
        read_at: incoming.read_at,
        again: incoming.again.clone(),
        body: received.body.clone(),
        source: received.body.clone(),
    })
}

/// What is published of a record that could not be read: the record.
pub fn unreadable(letter: &DeadLetter, incoming: &Incoming, namer: &Namer) -> Outgoing {
    Outgoing {
        event: letter.event,
        place: letter.place.clone(),
        event_type: letter.event_type.clone().unwrap_or_default(),
        did: letter.did.clone().unwrap_or_else(|| Did::new("", "")),
        rse: letter.rse.clone().unwrap_or_else(|| Rse::new("")),
        url: None,
        source_url: None,
        dataset: None,
        class: Class::DeadLetter,
        labelled: false,
        topic: namer.dead_letters(),
        created_at: letter.created_at.unwrap_or(incoming.read_at),
        landed_at: None,
        appended_at: incoming.received.appended_at,
        read_at: incoming.read_at,
        again: None,
        body: letter.body.clone(),
        source: letter.body.clone(),
    }
}
