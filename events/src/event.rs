//! One event: its envelope and its payload.

use crate::{Did, EventType, Micros, Payload, Rse};
use std::borrow::Cow;

/// One event as Hermes sent it, borrowed from the body it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// What it tells of.
    pub event_type: EventType<'a>,
    /// When Rucio wrote the message: the version in the story of a replica.
    pub created_at: Micros,
    /// The message's own id. Each service that Hermes feeds has its own, and only Elastic bodies and
    /// captures of 2023 carry one.
    pub id: Option<Cow<'a, str>>,
    /// What it says.
    pub payload: Payload<'a>,
}

impl Event<'_> {
    /// The RSE whose replica it is about: where a transfer goes, where a file was deleted.
    pub fn rse(&self) -> Option<Rse> {
        let name = self.payload.dst_rse.as_deref().or(self.payload.rse.as_deref())?;
        Some(Rse::new(name))
    }

    /// The URL of that replica.
    pub fn url(&self) -> Option<&str> {
        self.payload.dst_url.as_deref().or(self.payload.url.as_deref())
    }

    /// The DID it names.
    pub fn did(&self) -> Option<Did> {
        Some(Did::new(
            self.payload.scope.as_deref()?,
            self.payload.name.as_deref()?,
        ))
    }

    /// The DID it names, or else the one that its topic and URL imply.
    ///
    /// Early re-created events have neither scope nor name. Rubin's topics end in `{rse}-{scope}`, and the
    /// path below an RSE's root is `{scope}/{name}`: the first folder called like the scope begins the DID.
    pub fn did_or_implied(&self, topic: Option<&str>) -> Option<Did> {
        if let Some(did) = self.did() {
            return Some(did);
        }
        let rse = self.rse()?;
        let scope = match &self.payload.scope {
            Some(scope) => scope.as_ref(),
            None => {
                let (_, after) = topic?.rsplit_once(rse.as_str())?;
                after.strip_prefix('-').filter(|scope| !scope.is_empty())?
            }
        };
        let name = match &self.payload.name {
            Some(name) => name.as_ref(),
            None => {
                let url = self.url()?;
                let path = &url[url.find("://").map_or(0, |at| at + 3)..];
                let folder = format!("/{scope}/");
                path[path.find(&folder)? + folder.len()..].trim_start_matches('/')
            }
        };
        (!name.is_empty()).then(|| Did::new(scope, name))
    }
}
