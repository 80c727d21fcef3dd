//! Recorded events through decoding and routing: what would become of them, without touching anything.

use super::Ticks;
use crate::{cli::rows::shown, config::Config, site};
use dbb_events::{Class, DeadLetter, Outgoing, Place, Reason};
use dbb_operators::{
    Classified, Incoming,
    classify::classify,
    hub::{self, Namer},
    mapping::Mapping,
    route::requests_for,
};
use dbb_sources::Polled;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Records asked for at once.
const AT_ONCE: usize = 1024;

/// Reads `logs` and lists what could not be routed, by reason, each with a place.
pub(super) fn recorded(config: &Config, logs: &[PathBuf], ticks: &mut Ticks) -> anyhow::Result<()> {
    let mapping = site::mapping(config)?;
    let mut found = Found::default();
    let mut namer = config
        .hub
        .as_ref()
        .map(|hub| Namer::new(Arc::new(hub.topics.clone())));
    let mut source = dbb_sources::log::read_once(logs.iter().cloned())?;
    let mut batch = Vec::new();
    loop {
        let polled = match source.poll(&mut batch, AT_ONCE) {
            Err(error) if error.is_partial() => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
                ticks.bad(shown(&format!("{error}{}", why.unwrap_or_default())));
                continue;
            }
            polled => polled?,
        };
        let read_at = crate::cli::now();
        for received in batch.drain(..) {
            let incoming = Incoming {
                received,
                read_at,
                again: None,
                incarnation: Default::default(),
                known: false,
            };
            match &mut namer {
                Some(namer) => found.publish(&incoming, namer),
                None => found.add(&incoming, &mapping),
            }
        }
        if polled != Polled::More {
            break;
        }
    }
    found.tell(ticks);
    Ok(())
}

#[derive(Debug, Default)]
struct Found {
    records: u64,
    /// By repository, or by what a topic is for and the topic.
    routed: BTreeMap<Arc<str>, u64>,
    /// Files whose labels would be looked up, by the topic that they go to if they are for a Butler.
    asked: BTreeMap<Arc<str>, u64>,
    /// What no topic is for: how many, and the first.
    unroutable: BTreeMap<String, (u64, Place)>,
    nobodys: BTreeMap<&'static str, u64>,
    /// By reason, and by the sentence where there are few: how many, and the first.
    refused: BTreeMap<(Reason, String), (u64, Place, String)>,
}

impl Found {
    fn publish(&mut self, incoming: &Incoming, namer: &mut Namer) {
        self.records += 1;
        let decoded = dbb_events::decode(&incoming.received.body);
        match hub::judge::judge(incoming, &decoded, namer) {
            Classified::Outgoing(outgoing) => self.published(*outgoing, namer),
            other => self.other(other),
        }
    }

    fn published(&mut self, outgoing: Outgoing, namer: &mut Namer) {
        if outgoing.class == Class::DeadLetter {
            let no = namer
                .names(outgoing.rse.as_str(), &outgoing.did.scope)
                .as_ref()
                .err();
            let why = no.map(ToString::to_string).unwrap_or_default();
            self.unroutable.entry(why).or_insert((0, outgoing.place)).0 += 1;
            return;
        }
        let is_asked = outgoing.class == Class::Landed && !outgoing.labelled;
        let counts = if is_asked {
            &mut self.asked
        } else {
            &mut self.routed
        };
        *counts.entry(outgoing.topic).or_default() += 1;
    }

    fn add(&mut self, incoming: &Incoming, mapping: &Mapping) {
        self.records += 1;
        match classify(incoming, mapping) {
            Classified::Arrival(arrival) => match requests_for(&arrival, mapping) {
                Ok(requests) => {
                    for request in requests {
                        *self.routed.entry(request.target).or_default() += 1;
                    }
                }
                Err(letter) => self.refuse(*letter),
            },
            other => self.other(other),
        }
    }

    fn other(&mut self, classified: Classified) {
        match classified {
            Classified::DeadLetter(letter) => self.refuse(*letter),
            Classified::Nobodys(reason) => *self.nobodys.entry(reason.as_str()).or_default() += 1,
            Classified::Arrival(_) | Classified::Outgoing(_) => {}
        }
    }

    fn refuse(&mut self, letter: DeadLetter) {
        // One sentence for each RSE and scope: all of these are wanted.
        let few = matches!(letter.reason, Reason::Unmapped | Reason::WrongTopic);
        let key = (
            letter.reason,
            if few { letter.detail.clone() } else { String::new() },
        );
        self.refused
            .entry(key)
            .or_insert_with(|| (0, letter.place, letter.detail))
            .0 += 1;
    }

    fn tell(self, ticks: &mut Ticks) {
        ticks.good(format!("{} recorded events read", self.records));
        for (target, count) in self.routed {
            ticks.good(format!("{count} go to {target}"));
        }
        for (topic, count) in self.asked {
            ticks.good(format!(
                "{count} go to {topic}, or to the topic of files beside it: their labels are looked up"
            ));
        }
        for (why, (count, place)) in self.unroutable {
            ticks.doubt(format!("{count} dead letters, as at {place}: {}", shown(&why)));
        }
        for (reason, count) in self.nobodys {
            ticks.note(format!("{count} not for us: {reason}"));
        }
        for ((reason, _), (count, place, detail)) in self.refused {
            ticks.bad(format!("{count} {reason}, as at {place}: {}", shown(&detail)));
        }
    }
}
