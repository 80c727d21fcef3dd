//! Route: an arrival becomes one request for each repository that wants it.
//!
//! ```text
//!   arrivals --(RSE, scope)--> route: topic fits? URL under a prefix? --> requests
//!                                          \-------------------------> dead letters
//! ```
//!
//! In:    arrivals.
//! Out:   requests, one for each target of the route; entries for the ledger. A file that is gone is told to the
//!        targets that want to know, whatever its topic and URL.
//! State: none; the mapping is read-only.

use crate::{Again, Arrival, Epoch, mapping::Mapping};
use dbb_events::{DeadLetter, Entry, Reason, Request};
use std::sync::Arc;
use timely::dataflow::{
    Stream,
    channels::pact::Pipeline,
    operators::generic::{OutputBuilder, builder_rc::OperatorBuilder},
};
use timely::{container::CapacityContainerBuilder, progress::operate::FrontierInterest};

/// See the module. `on_letter` is told of each dead letter.
pub fn route<'s>(
    arrivals: Stream<'s, Epoch, Vec<Arrival>>,
    mapping: Arc<Mapping>,
    on_letter: impl Fn(&DeadLetter) + 'static,
) -> (Stream<'s, Epoch, Vec<Request>>, Stream<'s, Epoch, Vec<Entry>>) {
    let mut builder = OperatorBuilder::new("route".into(), arrivals.scope());
    let mut input = builder.new_input(arrivals, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (requests_out, requests) = builder.new_output::<Vec<Request>>();
    let (entries_out, entries) = builder.new_output::<Vec<Entry>>();
    let mut requests_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Request>>>::from(requests_out);
    let mut entries_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Entry>>>::from(entries_out);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let mut requests_out = requests_out.activate();
            let mut entries_out = entries_out.activate();
            input.for_each_stamp(|stamp, data| {
                let mut requests = requests_out.session(&stamp);
                let mut entries = entries_out.session(&stamp);
                for arrival in data.flat_map(|arrivals| arrivals.drain(..)) {
                    match requests_for(&arrival, &mapping) {
                        Ok(routed) => requests.give_iterator(routed.into_iter()),
                        Err(letter) => {
                            on_letter(&letter);
                            entries.give(Entry::DeadLetter(letter));
                        }
                    }
                }
            });
        }
    });
    (requests, entries)
}

/// What each repository is asked to do for `arrival`.
pub fn requests_for(arrival: &Arrival, mapping: &Mapping) -> Result<Vec<Request>, Box<DeadLetter>> {
    let (rse, scope) = (arrival.rse.as_str(), arrival.did.scope.as_ref());
    let route = mapping.route(rse, scope).ok_or_else(|| {
        dead(
            arrival,
            Reason::Unmapped,
            format!("no route for files of scope `{scope}` on RSE `{rse}`"),
        )
    })?;
    let is_removal = arrival.action.is_removal();
    if let Some(topic) = arrival.topic.as_deref()
        && !is_removal
        && !route.topic_fits(topic, rse, scope)
    {
        let detail = format!("topic `{topic}` is not the one of scope `{scope}` on RSE `{rse}`");
        return Err(dead(arrival, Reason::WrongTopic, detail));
    }
    let uri: Arc<str> = match route.rewrite(&arrival.url) {
        Ok(uri) => uri.into(),
        // The storage may have been told by another door, or none may be named: the ledger knows where it was.
        Err(_) if is_removal => "".into(),
        Err(error) => return Err(dead(arrival, error.reason(), error.to_string())),
    };
    let again = arrival.again.as_ref();
    let only = again
        .map(|again| &again.target)
        .filter(|target| !target.is_empty());
    let requests: Vec<Request> = route
        .targets()
        .iter()
        .filter(|target| only.is_none_or(|only| only == *target))
        .filter(|target| !is_removal || mapping.is_removing(target))
        .map(|target| request(arrival, Arc::clone(target), Arc::clone(&uri), again))
        .collect();
    match (requests.is_empty(), only) {
        (true, Some(only)) => {
            let detail =
                format!("files of scope `{scope}` on RSE `{rse}` no longer go to repository `{only}`");
            Err(dead(arrival, Reason::Unmapped, detail))
        }
        _ => Ok(requests),
    }
}

fn request(arrival: &Arrival, target: Arc<str>, uri: Arc<str>, again: Option<&Again>) -> Request {
    Request {
        event: arrival.event,
        target,
        place: arrival.place.clone(),
        event_type: Arc::clone(&arrival.event_type),
        did: arrival.did.clone(),
        rse: arrival.rse.clone(),
        action: arrival.action,
        created_at: arrival.created_at,
        url: Arc::clone(&arrival.url),
        uri,
        sidecar: Arc::clone(&arrival.sidecar),
        bytes: arrival.bytes,
        adler32: arrival.adler32.clone(),
        landed_at: arrival.landed_at,
        appended_at: arrival.appended_at,
        read_at: arrival.read_at,
        attempts: again.map_or(0, |again| again.attempts),
        waiting_since: again.and_then(|again| again.waiting_since),
        was_unrouted: again.is_some_and(|again| again.target.is_empty()),
        topic: arrival.topic.clone(),
        body: arrival.body.clone(),
    }
}

fn dead(arrival: &Arrival, reason: Reason, detail: String) -> Box<DeadLetter> {
    Box::new(DeadLetter {
        event: arrival.event,
        target: arrival
            .again
            .as_ref()
            .map_or_else(|| "".into(), |again| Arc::clone(&again.target)),
        place: arrival.place.clone(),
        topic: arrival.topic.clone(),
        event_type: Some(Arc::clone(&arrival.event_type)),
        did: Some(arrival.did.clone()),
        rse: Some(arrival.rse.clone()),
        created_at: Some(arrival.created_at),
        at: arrival.read_at,
        reason,
        detail,
        body: arrival.body.clone(),
    })
}
