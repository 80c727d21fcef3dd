//! A row of the ledger as operators and tools see it.

use crate::ledger::{
    LedgerError, State,
    store::{Cells, Value},
    words::LONGEST,
};
use dbb_events::{Did, EventId, Kind, Micros, Place, Rse};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// What the ledger knows of one event at one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The number that operators use.
    pub id: i64,
    /// The identity of the event.
    pub event: EventId,
    /// The repository; empty for a dead letter that was never routed.
    pub target: Arc<str>,
    /// Where it was first read.
    pub place: Place,
    /// The topic it was published to, where known.
    pub topic: Option<Arc<str>>,
    /// The event type, where it could be read.
    pub event_type: Option<Arc<str>>,
    /// The file, where it could be read.
    pub did: Option<Did>,
    /// The RSE, where it could be read.
    pub rse: Option<Rse>,
    /// What the Butler was asked to do.
    pub kind: Option<Kind>,
    /// The envelope's time: the version in the file's story.
    pub created_at: Option<Micros>,
    /// The replica's URL as the event has it.
    pub url: Option<String>,
    /// The URI that the Butler was given.
    pub uri: Option<String>,
    /// How it stands.
    pub outcome: State,
    /// For a refusal, the word of its class.
    pub reason: Option<String>,
    /// One sentence; for `already_there_elsewhere` the URI that the Butler has.
    pub detail: Option<String>,
    /// What was compared with the file, in [`dbb_events::Verified`]'s words.
    pub verified: Option<String>,
    /// Attempts that count.
    pub attempts: u32,
    /// What it waits for, as in [`dbb_events::Dependency::key`].
    pub waits_for: Option<String>,
    /// Not before this time, unless what it waits for comes.
    pub not_before: Option<Micros>,
    /// Since when it has been waiting.
    pub waiting_since: Option<Micros>,
    /// When `dbb` first read it.
    pub first_seen_at: Micros,
    /// When it came to stand as it does.
    pub updated_at: Micros,
    /// How long the attempt took that came to this; `None` where none was made, or by a `dbb` that did not tell.
    pub took: Option<Duration>,
    /// Attempts made so far, whether they count or not.
    pub tries: u32,
    /// The run of `dbb` that wrote it.
    pub generation: i64,
    /// When the record was appended to its topic; kept while it waits.
    pub appended_at: Option<Micros>,
    /// The event as it came; kept while it waits or is refused.
    #[serde(serialize_with = "as_text")]
    pub body: Option<Vec<u8>>,
}

/// A body as text; bytes that are not UTF-8 are shown by a replacement character.
fn as_text<S: serde::Serializer>(body: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    body.as_ref()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .serialize(to)
}

/// All columns of a [`Row`], words in full; add a condition on `e` and an order.
pub(crate) const SELECT: &str = "SELECT e.id, e.event, t.word, s.word, e.part, e.position, e.line, tp.word, \
     et.word, sc.word, d.name, r.word, k.word, e.created_at, uh.word, e.url_tail, ih.word, e.uri_tail, \
     e.outcome, re.word, e.detail, v.word, e.attempts, e.waits_for, e.not_before, e.waiting_since, \
     e.first_seen_at, e.updated_at, e.generation, e.appended_at, e.body, e.took, e.tries \
     FROM events e JOIN words t ON t.id = e.target JOIN words s ON s.id = e.stream \
     LEFT JOIN words tp ON tp.id = e.topic LEFT JOIN words et ON et.id = e.event_type \
     LEFT JOIN dids d ON d.id = e.did LEFT JOIN words sc ON sc.id = d.scope \
     LEFT JOIN words r ON r.id = e.rse LEFT JOIN words k ON k.id = e.kind \
     LEFT JOIN words uh ON uh.id = e.url_head LEFT JOIN words ih ON ih.id = e.uri_head \
     LEFT JOIN words re ON re.id = e.reason LEFT JOIN words v ON v.id = e.verified ";

/// The head of `url` before the file's name, or else the whole of it: URLs that end in the name share
/// their heads, which are stored once.
pub(crate) fn split<'a>(url: &'a str, name: Option<&str>) -> (Option<&'a str>, Option<&'a str>) {
    let head = name
        .filter(|name| !name.is_empty() && name.len() <= LONGEST && !name.contains('\0'))
        .and_then(|name| url.strip_suffix(name))
        .filter(|head| head.len() <= LONGEST && !head.contains('\0'));
    match head {
        Some(head) => (Some(head), None),
        None => (None, Some(url)),
    }
}

/// The opposite of [`split`].
pub(crate) fn joined(head: Option<String>, tail: Option<String>, name: Option<&str>) -> Option<String> {
    match head {
        Some(head) => Some(format!("{head}{}", name.unwrap_or_default())),
        None => tail,
    }
}

/// How long something took, in microseconds.
pub(crate) fn micros(took: Option<Duration>) -> Value {
    took.map(|took| i64::try_from(took.as_micros()).unwrap_or(i64::MAX))
        .into()
}

/// Attempts made; none where the ledger does not tell.
pub(crate) fn tries(cell: Option<i64>) -> u32 {
    cell.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Takes the cells of a row one by one.
pub(crate) struct Reader(std::vec::IntoIter<Value>);

impl Reader {
    pub(crate) fn new(cells: Cells) -> Self {
        Self(cells.into_iter())
    }

    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    pub(crate) fn int(&mut self) -> Option<i64> {
        self.next().int()
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        self.next().into_text()
    }

    pub(crate) fn arc(&mut self) -> Option<Arc<str>> {
        self.text().map(Arc::from)
    }

    pub(crate) fn blob(&mut self) -> Option<Vec<u8>> {
        self.next().into_blob()
    }

    pub(crate) fn micros(&mut self) -> Option<Micros> {
        self.int().map(Micros)
    }

    pub(crate) fn duration(&mut self) -> Option<Duration> {
        let micros = u64::try_from(self.int()?).ok()?;
        Some(Duration::from_micros(micros))
    }
}

/// What is wrong with a ledger whose rows this program cannot have written.
pub(crate) fn damaged(what: &str) -> LedgerError {
    LedgerError::Failed {
        what: "content".into(),
        detail: format!("a row has no readable {what}"),
    }
}

/// The row that [`SELECT`] found.
pub(crate) fn row(cells: Cells) -> Result<Row, LedgerError> {
    let mut r = Reader::new(cells);
    let id = r.int().ok_or_else(|| damaged("id"))?;
    let event = r.blob().and_then(|bytes| EventId::from_bytes(&bytes));
    let event = event.ok_or_else(|| damaged("event id"))?;
    let target = r.arc().ok_or_else(|| damaged("target"))?;
    let place = Place {
        stream: r.arc().ok_or_else(|| damaged("stream"))?,
        partition: r.int().unwrap_or(0) as i32,
        offset: r.int().unwrap_or(0) as u64,
        line: r.int().map(|line| line as u64),
    };
    let (topic, event_type) = (r.arc(), r.arc());
    let (scope, name) = (r.arc(), r.arc());
    let did = scope.zip(name).map(|(scope, name)| Did { scope, name });
    let rse = r.arc().map(Rse);
    let kind = r.text().and_then(|word| Kind::parse(&word));
    let created_at = r.micros();
    let name = did.as_ref().map(|did| did.name.clone());
    let url = joined(r.text(), r.text(), name.as_deref());
    let uri = joined(r.text(), r.text(), name.as_deref());
    let outcome = r.int().and_then(State::from_code);
    Ok(Row {
        id,
        event,
        target,
        place,
        topic,
        event_type,
        did,
        rse,
        kind,
        created_at,
        url,
        uri,
        outcome: outcome.ok_or_else(|| damaged("outcome"))?,
        reason: r.text(),
        detail: r.text(),
        verified: r.text(),
        attempts: r.int().unwrap_or(0) as u32,
        waits_for: r.text(),
        not_before: r.micros(),
        waiting_since: r.micros(),
        first_seen_at: r.micros().ok_or_else(|| damaged("time"))?,
        updated_at: r.micros().ok_or_else(|| damaged("time"))?,
        generation: r.int().unwrap_or(0),
        appended_at: r.micros(),
        body: r.blob(),
        took: r.duration(),
        tries: tries(r.int()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_ends_in_the_name_is_stored_as_its_head() {
        let url = "davs://door/raw/2026/x.fits";
        assert_eq!(split(url, Some("2026/x.fits")), (Some("davs://door/raw/"), None));
        assert_eq!(split(url, Some("other")), (None, Some(url)));
        assert_eq!(split(url, None), (None, Some(url)));
        let (head, tail) = split(url, Some("2026/x.fits"));
        let back = joined(head.map(Into::into), tail.map(Into::into), Some("2026/x.fits"));
        assert_eq!(back.as_deref(), Some(url));
    }
}
