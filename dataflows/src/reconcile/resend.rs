//! Resend: a landing that no event told of, as an event that waits in the ledger.

use dbb_events::{
    Again, Dependency, Entry, Kind, Labels, Micros, Outcome, Place, Received, Request, Settled, Verified,
};
use dbb_operators::{Classified, Incoming, classify, mapping::Mapping, route::requests_for};
use dbb_sinks::sheet::Replica;
use serde_json::{Map, Value, json};

/// The stream that such events are said to be from.
pub(super) const STREAM: &str = "reconcile";

/// `transfer-done` of `replica` as a hub publishes it, as of `at`; `None` where no URL of it is known.
pub(super) fn event(replica: &Replica, labels: &Labels, at: Micros) -> Option<Vec<u8>> {
    let mut payload = Map::new();
    let mut put = |key: &str, value: Value| {
        payload.insert(key.to_owned(), value);
    };
    put("scope", (*replica.did.scope).into());
    put("name", (*replica.did.name).into());
    put("dst-rse", replica.rse.as_str().into());
    put("dst-url", replica.url.as_deref()?.into());
    put("bytes", replica.bytes.into());
    put("checksum-adler", replica.adler32.clone().into());
    for (name, value) in labels {
        put(name, value.clone());
    }
    let event = json!({"event_type": "transfer-done", "payload": payload, "created_at": at.to_string()});
    serde_json::to_vec(&event).ok()
}

/// What `event` asks of `repository`; `Err` is a sentence on why it is none that could be registered.
pub(super) fn request(
    event: Vec<u8>,
    number: u64,
    repository: &str,
    mapping: &Mapping,
    now: Micros,
) -> Result<Request, String> {
    let incoming = Incoming {
        received: Received {
            place: Place {
                stream: STREAM.into(),
                partition: 0,
                offset: number,
                line: None,
            },
            topic: None,
            appended_at: None,
            body: event.into(),
            marks: None,
        },
        read_at: now,
        again: None::<Again>,
        incarnation: Default::default(),
        known: false,
    };
    let arrival = match classify(&incoming, mapping) {
        Classified::Arrival(arrival) => arrival,
        Classified::DeadLetter(letter) => return Err(letter.detail.clone()),
        Classified::Outgoing(_) => return Err("a hub registers nothing".into()),
        Classified::Nobodys(reason) => return Err(format!("it is nobody's: {}", reason.as_str())),
    };
    let requests = requests_for(&arrival, mapping).map_err(|letter| letter.detail)?;
    requests
        .into_iter()
        .find(|request| *request.target == *repository)
        .ok_or_else(|| format!("it does not go to `{repository}`"))
}

/// Others need dimension records, and zips bring theirs.
pub(super) fn rank(kind: Option<Kind>) -> i64 {
    match kind {
        Some(Kind::DimFile) => 0,
        Some(Kind::ZipFile) => 1,
        _ => 2,
    }
}

/// The request as a row of the ledger that is due at once, after those that were put there before it.
pub(super) fn waiting(request: Request, now: Micros) -> Entry {
    let not_before = Micros(now.0 + rank(request.action.kind()));
    Entry::Settled(Box::new(Settled {
        request,
        outcome: Outcome::Waiting {
            dependency: Dependency::Time,
            not_before,
            detail: "in Rucio, and not in the Butler: sent again by reconcile".into(),
            counts: false,
        },
        at: now,
        took: None,
        uuids: Vec::new(),
        verified: Verified::NotAsked,
        provides: Vec::new(),
    }))
}
