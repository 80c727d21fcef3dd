//! The events of one file within a batch: the newest first, the others by how it fares.
//!
//! ```text
//!   requests --> first:     the newest of each file
//!                followers: the same again; they get the same answer
//!                later:     the others, asked about once the newest is answered
//! ```

use dbb_events::{Did, Micros, Request};
use std::collections::HashMap;

/// One round of a batch: no file occurs twice in `first`.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// To be delivered now.
    pub(super) first: Vec<Request>,
    /// Repeats, each with the position of its like in `first`.
    pub(super) followers: Vec<(usize, Request)>,
    /// Older events, and events of the same time that name another place.
    pub(super) later: Vec<Request>,
}

/// Takes the newest event of each file out of `requests`, which of one time is that it is gone; of equals, the first.
pub(super) fn newest(requests: Vec<Request>) -> Round {
    let mut versions: HashMap<Did, (Micros, bool)> = HashMap::with_capacity(requests.len());
    for request in &requests {
        let newest = versions.entry(request.did.clone()).or_insert(version(request));
        *newest = version(request).max(*newest);
    }
    let mut round = Round::default();
    let mut leaders: HashMap<Did, usize> = HashMap::with_capacity(versions.len());
    for request in requests {
        if versions.get(&request.did) != Some(&version(&request)) {
            round.later.push(request);
            continue;
        }
        match leaders.get(&request.did) {
            None => {
                leaders.insert(request.did.clone(), round.first.len());
                round.first.push(request);
            }
            Some(&leader) if same(&round.first[leader], &request) => round.followers.push((leader, request)),
            Some(_) => round.later.push(request),
        }
    }
    round
}

fn version(request: &Request) -> (Micros, bool) {
    (request.created_at, request.action.is_removal())
}

fn same(one: &Request, other: &Request) -> bool {
    one.uri == other.uri
        && one.rse == other.rse
        && one.action == other.action
        && one.sidecar == other.sidecar
        && one.bytes == other.bytes
        && one.adler32 == other.adler32
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use dbb_events::{Action, EventId, Kind, Place, Rse};

    /// A request for file `name` of version `created_at`.
    pub(in super::super) fn request(name: &str, created_at: i64) -> Request {
        Request {
            event: EventId(created_at.unsigned_abs().into()),
            target: "repo".into(),
            place: Place {
                stream: "topic".into(),
                partition: 0,
                offset: 0,
                line: None,
            },
            event_type: "transfer-done".into(),
            did: Did::new("raw", name),
            rse: Rse::new("SITE_RAW_DISK"),
            action: Action::Register(Kind::DataProduct),
            created_at: Micros(created_at),
            url: format!("root://door//{name}").into(),
            uri: format!("/data/{name}").into(),
            sidecar: "{}".into(),
            bytes: None,
            adler32: None,
            landed_at: None,
            appended_at: None,
            read_at: Micros(0),
            attempts: 0,
            waiting_since: None,
            was_unrouted: false,
            topic: None,
            body: Bytes::new(),
        }
    }

    #[test]
    fn the_newest_goes_first_whatever_the_order() {
        for versions in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let round = newest(versions.map(|version| request("a", version)).into());
            assert_eq!(round.first.len(), 1);
            assert_eq!(round.first[0].created_at, Micros(3));
            assert_eq!(round.later.len(), 2);
        }
    }

    #[test]
    fn a_repeat_follows_and_another_place_comes_later() {
        let mut elsewhere = request("a", 1);
        elsewhere.uri = "/other/a".into();
        let round = newest(vec![
            request("b", 1),
            request("a", 1),
            request("a", 1),
            elsewhere.clone(),
        ]);
        assert_eq!(round.first.len(), 2);
        assert_eq!(round.followers, [(1, request("a", 1))]);
        assert_eq!(round.later, [elsewhere]);
    }
}
