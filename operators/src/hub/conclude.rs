//! Conclude: what is published of an event, once its labels are known; or why it is not.
//!
//! ```text
//!   outgoing, what a look-up found --> labels sound? under embargo? --> published: body with labels, topic
//!                                                                \---> Sent: waits, is held, is refused
//! ```

use super::{embargo::Embargo, expected::unexpected_by, topics::Namer};
use crate::views::placement::Policy;
use dbb_events::{
    Class, Dependency, Found, Labels, Micros, Outcome, Outgoing, Reason, Refusal, Sent, decode, with_labels,
};
use serde_json::Value;
use std::sync::Arc;

/// When what is held would be due by time alone: never.
const NEVER: Micros = Micros(253_370_764_800_000_000);

/// What a hub was told to do.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The labels that are added, in this order.
    pub labels: Vec<Arc<str>>,
    /// Files that must not be everywhere yet.
    pub embargoes: Vec<Embargo>,
    /// Where files are expected.
    pub policies: Arc<[Policy]>,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
// Nearly every event is published, and is moved once: a box for each would cost more.
#[allow(clippy::large_enum_variant)]
pub enum Concluded {
    /// It is published, in the topic that it names.
    Publish(Outgoing),
    /// It is not, now.
    Ended(Box<Sent>),
}

impl Rules {
    /// What becomes of `outgoing`; of a file that landed, with what was `found`.
    pub fn conclude(
        &self,
        outgoing: Outgoing,
        found: Option<Found>,
        namer: &mut Namer,
        now: Micros,
    ) -> Concluded {
        if !matches!(outgoing.class, Class::Landed | Class::File) {
            return Concluded::Publish(outgoing);
        }
        match found {
            Some(Found::Later(outcome)) => self.later(outgoing, outcome, now),
            Some(Found::Refused(refusal)) => ended(outgoing, Outcome::Refused(refusal), now),
            Some(Found::Labels(labels)) => self.labelled(outgoing, &labels, namer, now),
            None if outgoing.labelled => self.labelled_before(outgoing, now),
            // Nothing is known of it, and nobody is asked.
            None => self.labelled(outgoing, &Labels::new(), namer, now),
        }
    }

    /// An event that brought its labels: as it is, in the envelope that all have.
    fn labelled_before(&self, mut outgoing: Outgoing, now: Micros) -> Concluded {
        if let Some(held) = self.held(&outgoing, || labels_in(&outgoing.source)) {
            return ended(outgoing, held, now);
        }
        if let Some(body) = with_labels(&outgoing.source, &[]) {
            outgoing.body = body;
        }
        Concluded::Publish(outgoing)
    }

    fn labelled(&self, mut outgoing: Outgoing, labels: &Labels, namer: &mut Namer, now: Micros) -> Concluded {
        if let Some(held) = self.held(&outgoing, || labels.clone()) {
            return ended(outgoing, held, now);
        }
        if outgoing.class == Class::File {
            return Concluded::Publish(outgoing);
        }
        if !is_for_a_butler(labels) {
            outgoing.class = Class::File;
            if let Ok(names) = namer.names(outgoing.rse.as_str(), &outgoing.did.scope)
                && let Some(topic) = names.of(Class::File)
            {
                outgoing.topic = Arc::clone(topic);
            }
            return Concluded::Publish(outgoing);
        }
        let known = |name: &Arc<str>| Some((Arc::clone(name), labels.get(name)?));
        let added: Vec<_> = self.labels.iter().filter_map(known).collect();
        match with_labels(&outgoing.source, &added) {
            Some(body) => {
                outgoing.body = body;
                Concluded::Publish(outgoing)
            }
            None => {
                // It was read, so it is an object; its payload may be a word that stands for one.
                let detail = "field `payload` is no object that could take labels".into();
                let refusal = Refusal {
                    reason: Reason::BadField,
                    detail,
                };
                ended(outgoing, Outcome::Refused(refusal), now)
            }
        }
    }

    /// The outcome of an event that is held, unless an operator has released it.
    fn held(&self, outgoing: &Outgoing, labels: impl FnOnce() -> Labels) -> Option<Outcome> {
        let released = outgoing.again.as_ref().is_some_and(|again| again.released);
        if released || self.embargoes.is_empty() {
            return None;
        }
        let labels = labels();
        let detail = self
            .embargoes
            .iter()
            .find_map(|embargo| embargo.holds(outgoing, &labels))?;
        Some(Outcome::Waiting {
            dependency: Dependency::Embargo,
            not_before: NEVER,
            detail,
            counts: false,
        })
    }

    /// An event whose labels are not known yet waits; what was released stays so meanwhile.
    fn later(&self, outgoing: Outgoing, mut outcome: Outcome, now: Micros) -> Concluded {
        let released = outgoing.again.as_ref().is_some_and(|again| again.released);
        if let Outcome::Waiting { dependency, .. } = &mut outcome
            && released
        {
            *dependency = Dependency::Released;
        }
        ended(outgoing, outcome, now)
    }

    /// The policy by which a file that is published should not be where it has landed.
    pub fn unexpected(&self, outgoing: &Outgoing) -> Option<&Policy> {
        let landed = matches!(outgoing.class, Class::Landed | Class::File);
        landed.then(|| unexpected_by(outgoing, &self.policies)).flatten()
    }
}

fn ended(outgoing: Outgoing, outcome: Outcome, at: Micros) -> Concluded {
    Concluded::Ended(Box::new(Sent {
        outgoing,
        outcome,
        at,
    }))
}

/// True for a file that a Butler is meant to know. That its labels are sound is for the look-up to say.
fn is_for_a_butler(labels: &Labels) -> bool {
    match labels.get("rubin_butler") {
        None | Some(Value::Null) => false,
        Some(Value::String(word)) => !word.is_empty(),
        Some(_) => true,
    }
}

/// The labels that an event brought with it.
fn labels_in(body: &[u8]) -> Labels {
    let Ok(event) = decode(body) else {
        return Labels::new();
    };
    let sidecar = event.payload.rubin_sidecar.as_deref();
    let sidecar = sidecar.map(|sidecar| ("rubin_sidecar".into(), Value::from(sidecar)));
    sidecar.into_iter().collect()
}
