//! Glimpse: the fields of one event that views are made from, borrowed.
//!
//! ```text
//!   body --scan--> Glimpse                 the usual form: nothing is allocated
//!      \---decode--> Event --> Glimpse     any other form, and the sentence that says what is wrong
//! ```
//!
//! Both ways give the same; [`glimpse`] takes the first that can.

use crate::{DecodeError, Event, EventType, Micros, decode, payload, scan};
use std::borrow::Cow;

/// What views read of an event. A field that is absent, null or the text `None` is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Glimpse<'a> {
    /// What it tells of.
    pub event_type: EventType<'a>,
    /// When Rucio wrote the message.
    pub created_at: Micros,
    /// The message's own id, where it has one.
    pub id: Option<&'a str>,
    /// Scope of the DID.
    pub scope: Option<&'a str>,
    /// Name of the DID.
    pub name: Option<&'a str>,
    /// The RSE of a deletion or a dataset lock.
    pub rse: Option<&'a str>,
    /// The id of that RSE: a dataset lock has it, and the deletion of a file that no catalogue knows.
    pub rse_id: Option<&'a str>,
    /// Where a transfer goes.
    pub dst_rse: Option<&'a str>,
    /// Where a transfer comes from.
    pub src_rse: Option<&'a str>,
    /// Size in bytes.
    pub bytes: Option<u64>,
    /// Adler-32; `None` also where the text is none.
    pub adler32: Option<u32>,
    /// The transfer request.
    pub request_id: Option<&'a str>,
    /// The rule.
    pub rule_id: Option<&'a str>,
    /// Name of the parent Rucio dataset.
    pub dataset: Option<&'a str>,
    /// Scope of the parent Rucio dataset.
    pub dataset_scope: Option<&'a str>,
    /// Why it failed; empty when it did not. The one text that often has escapes.
    pub reason: Option<Cow<'a, str>>,
    /// How far a rule is, in percent.
    pub progress: Option<i64>,
    /// When the request was made, as text.
    pub requested_at: Option<&'a str>,
    /// When FTS got the request, as text.
    pub submitted_at: Option<&'a str>,
    /// When the bytes began to flow, as text.
    pub started_at: Option<&'a str>,
    /// When the file had landed, as text.
    pub transferred_at: Option<&'a str>,
}

impl<'a> Glimpse<'a> {
    /// Of an event that says nothing.
    pub(crate) fn nothing() -> Self {
        Self {
            event_type: EventType::Other(Cow::Borrowed("")),
            created_at: Micros(0),
            id: None,
            scope: None,
            name: None,
            rse: None,
            rse_id: None,
            dst_rse: None,
            src_rse: None,
            bytes: None,
            adler32: None,
            request_id: None,
            rule_id: None,
            dataset: None,
            dataset_scope: None,
            reason: None,
            progress: None,
            requested_at: None,
            submitted_at: None,
            started_at: None,
            transferred_at: None,
        }
    }

    /// The RSE whose replica it is about: where a transfer goes, where a file was deleted.
    pub fn replica_rse(&self) -> Option<&'a str> {
        self.dst_rse.or(self.rse)
    }
}

impl Event<'_> {
    /// The fields that views are made from.
    pub fn glimpse(&self) -> Glimpse<'_> {
        let payload = &self.payload;
        Glimpse {
            event_type: self.event_type.as_borrowed(),
            created_at: self.created_at,
            id: self.id.as_deref(),
            scope: payload.scope.as_deref(),
            name: payload.name.as_deref(),
            rse: payload.rse.as_deref(),
            rse_id: payload.rse_id.as_deref(),
            dst_rse: payload.dst_rse.as_deref(),
            src_rse: payload.src_rse.as_deref(),
            bytes: payload.bytes,
            adler32: payload.checksum_adler.as_deref().and_then(payload::adler32),
            request_id: payload.request_id.as_deref(),
            rule_id: payload.rule_id.as_deref(),
            dataset: payload.dataset.as_deref(),
            dataset_scope: payload.dataset_scope.as_deref(),
            reason: payload.reason.as_deref().map(Cow::Borrowed),
            progress: payload.progress,
            requested_at: payload.created_at.as_deref(),
            submitted_at: payload.submitted_at.as_deref(),
            started_at: payload.started_at.as_deref(),
            transferred_at: payload.transferred_at.as_deref(),
        }
    }
}

/// Reads a body and lends what it says to `then`: scanned where it has the usual form, decoded otherwise.
///
/// Errors are those of [`decode`].
pub fn glimpse<R>(body: &[u8], then: impl FnOnce(&Glimpse<'_>) -> R) -> Result<R, DecodeError> {
    match scan(body) {
        Some(glimpse) => Ok(then(&glimpse)),
        None => Ok(then(&decode(body)?.glimpse())),
    }
}
