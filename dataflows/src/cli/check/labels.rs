//! Whether a hub's labels can be read: Rucio tells its version and lets us in, and tells the labels of a file.

use super::Ticks;
use crate::config::Config;
use dbb_events::{Ask, Did, EventType, Found, Outcome, Rse, decode};
use dbb_sinks::lookup::{LookUpError, LookUps};
use dbb_sources::kafka;

/// Records that are looked at, at the end of each partition, for one that tells of a file that landed.
const LAST: u64 = 200;

/// Asks; of the file `did`, or of the one that the newest event tells of.
pub(super) fn labels(config: &Config, did: Option<&Did>, ticks: &mut Ticks) {
    let Some(settings) = config.hub.as_ref().and_then(|hub| hub.lookup.as_ref()) else {
        return;
    };
    let mut look_ups = match LookUps::open(settings) {
        Ok(look_ups) => look_ups,
        Err(error) => return ticks.error("labels", error.into()),
    };
    let version = match look_ups.rucio.as_ref().map(|rucio| (rucio, rucio.ping())) {
        Some((_, Ok(version))) => Some(version),
        Some((_, Err(error))) => return ticks.error("labels", error.into()),
        None => None,
    };
    let problems: Vec<LookUpError> = look_ups.check(settings);
    if problems.is_empty() {
        if let Some(rucio) = &settings.rucio {
            ticks.good(format!(
                "Rucio at {} is {}, and lets account {} in",
                rucio.url,
                version.as_deref().unwrap_or("of an unknown version"),
                rucio.account
            ));
        }
        if settings.documents.is_some() {
            ticks.good("the folders of documents are there");
        }
    }
    let is_well = problems.is_empty();
    for problem in problems {
        ticks.error("labels", problem.into());
    }
    if is_well {
        let asked = did.map(|did| ask(did.clone())).or_else(|| newest(config));
        tried(&mut look_ups, asked, did.is_some(), ticks);
    }
}

/// What the look-up of one file says.
fn tried(look_ups: &mut LookUps, asked: Option<Ask>, is_named: bool, ticks: &mut Ticks) {
    let (Some(asked), Some(thread)) = (asked, look_ups.threads.first_mut()) else {
        return ticks.doubt(
            "whether labels can be read was not tried: no event of a file that landed is at the end of the source; \
             name one with --did",
        );
    };
    let did = asked.did.clone();
    for (_, found) in thread.look_up(vec![asked]) {
        match found {
            Found::Labels(labels) if labels.contains_key("rubin_butler") => {
                let names: Vec<&str> = labels.keys().map(|name| &**name).collect();
                ticks.good(format!("labels of {did} can be read: {}", names.join(", ")));
            }
            Found::Labels(_) if is_named => ticks.bad(format!(
                "{did} has no label `rubin_butler` that can be read: if it is a Butler dataset, this Rucio does not tell \
                 labels, and every file would be published as none"
            )),
            Found::Labels(_) => ticks.doubt(format!(
                "the newest file that landed, {did}, has no label `rubin_butler` that can be read; name one that has with \
                 --did, to see that labels are told at all"
            )),
            Found::Later(Outcome::Waiting { detail, .. }) => {
                ticks.bad(format!("labels of {did} cannot be read: {detail}"));
            }
            Found::Later(outcome) => ticks.bad(format!("labels of {did} cannot be read: {}", outcome.as_str())),
            Found::Refused(refusal) => {
                ticks.bad(format!("labels of {did} are of no use: {}", refusal.detail));
            }
        }
    }
}

fn ask(did: Did) -> Ask {
    Ask {
        did,
        rse: Rse::new(""),
        url: None,
        source_url: None,
    }
}

/// The file of the newest event that tells of a landing, where events are in Kafka.
fn newest(config: &Config) -> Option<Ask> {
    let bodies = kafka::newest(config.source.kafka.as_ref()?, LAST).ok()?;
    let landed = bodies.iter().filter_map(|body| {
        let event = decode(body).ok()?;
        let payload = &event.payload;
        (event.event_type == EventType::TransferDone).then_some(())?;
        let ask = Ask {
            did: event.did()?,
            rse: Rse::new(payload.dst_rse.as_deref()?),
            url: payload.dst_url.as_deref().map(Into::into),
            source_url: payload.src_url.as_deref().map(Into::into),
        };
        Some((event.created_at, ask))
    });
    landed.max_by_key(|(at, _)| *at).map(|(_, ask)| ask)
}
