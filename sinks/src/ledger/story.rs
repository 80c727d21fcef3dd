//! The whole story of a file: everything the ledger knows of it, by DID, UUID or URL.

use crate::ledger::{
    Ledger, LedgerError, Row, State,
    row::{self, Reader, joined},
    store::Value,
    words::{clip, name_hash},
};
use dbb_events::{Did, EventId, Micros, Rse};
use serde::Serialize;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use uuid::Uuid;

/// What an operator knows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Its scope and name.
    Did(Did),
    /// A dataset that it holds.
    Uuid(Uuid),
    /// A replica's URL, the URI that a Butler has, or a path that ends in the file's name.
    Url(String),
}

/// An outcome that an event had before its present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Since when it stood so.
    pub at: Micros,
    /// The run of `dbb` that wrote it.
    pub generation: i64,
    /// How it stood.
    pub outcome: State,
    /// For a refusal, the word of its class.
    pub reason: Option<String>,
    /// What it waited for.
    pub waits_for: Option<String>,
    /// One sentence.
    pub detail: Option<String>,
    /// How long the attempt took that came to this; `None` where none was made, or by a `dbb` that did not tell.
    pub took: Option<Duration>,
}

/// What a file is now at one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRow {
    /// The repository.
    pub target: Arc<str>,
    /// The `created_at` of the event applied last.
    pub version: Micros,
    /// That event.
    pub event: EventId,
    /// What it came to.
    pub state: State,
    /// The RSE of the replica that is registered, or gone, where that is known.
    pub rse: Option<Rse>,
    /// The URI that the Butler has, or had.
    pub uri: Option<String>,
    /// The datasets it holds, or held.
    pub uuids: Vec<Uuid>,
    /// When it was applied.
    pub updated_at: Micros,
}

/// Everything about one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Story {
    /// The file.
    pub did: Did,
    /// What it is now, by repository.
    pub files: Vec<FileRow>,
    /// Its events in the order they came, each with the outcomes it had before.
    pub events: Vec<(Row, Vec<Attempt>)>,
}

impl Ledger {
    /// The stories of the files that `selector` names: usually one; none if the ledger never met it.
    pub fn explain(&mut self, selector: &Selector) -> Result<Vec<Story>, LedgerError> {
        let dids = match selector {
            Selector::Did(did) => self.dids_named(&did.name, Some(&did.scope))?,
            Selector::Uuid(uuid) => self.dids_with(*uuid)?,
            Selector::Url(url) => return self.stories_at(url),
        };
        dids.into_iter().map(|did| self.story(did)).collect()
    }

    /// The history of the row with this id.
    pub fn attempts(&mut self, row: i64) -> Result<Vec<Attempt>, LedgerError> {
        let sql = "SELECT a.at, a.generation, a.outcome, w.word, a.waits_for, a.detail, a.took FROM attempts a \
                   LEFT JOIN words w ON w.id = a.reason WHERE a.row_id = $1 ORDER BY a.at, a.id";
        let mut attempts = Vec::new();
        for cells in self.store.query(sql, &[row.into()])? {
            let mut r = Reader::new(cells);
            attempts.push(Attempt {
                at: r.micros().unwrap_or_default(),
                generation: r.int().unwrap_or(0),
                outcome: r
                    .int()
                    .and_then(State::from_code)
                    .ok_or_else(|| row::damaged("outcome"))?,
                reason: r.text(),
                waits_for: r.text(),
                detail: r.text(),
                took: r.duration(),
            });
        }
        Ok(attempts)
    }

    fn story(&mut self, (id, did): (i64, Did)) -> Result<Story, LedgerError> {
        let sql = format!("{} WHERE e.did = $1 ORDER BY e.id", row::SELECT);
        let mut events = Vec::new();
        for cells in self.store.query(&sql, &[id.into()])? {
            let row = row::row(cells)?;
            let attempts = self.attempts(row.id)?;
            events.push((row, attempts));
        }
        let sql = "SELECT t.word, f.version, f.event, f.outcome, h.word, f.uri_tail, f.uuids, f.updated_at, r.word \
                   FROM files f JOIN words t ON t.id = f.target LEFT JOIN words h ON h.id = f.uri_head \
                   LEFT JOIN words r ON r.id = f.rse \
                   WHERE f.did = $1 ORDER BY t.word";
        let mut files = Vec::new();
        for cells in self.store.query(sql, &[id.into()])? {
            let mut r = Reader::new(cells);
            files.push(FileRow {
                target: r.arc().unwrap_or_default(),
                version: r.micros().unwrap_or_default(),
                event: r
                    .blob()
                    .and_then(|bytes| EventId::from_bytes(&bytes))
                    .ok_or_else(|| row::damaged("event id"))?,
                state: r
                    .int()
                    .and_then(State::from_code)
                    .ok_or_else(|| row::damaged("outcome"))?,
                uri: joined(r.text(), r.text(), Some(&did.name)),
                uuids: uuids(&r.blob().unwrap_or_default()),
                updated_at: r.micros().unwrap_or_default(),
                rse: r.text().map(Rse::new),
            });
        }
        Ok(Story { did, files, events })
    }

    fn dids_named(&mut self, name: &str, scope: Option<&str>) -> Result<Vec<(i64, Did)>, LedgerError> {
        let sql = "SELECT d.id, w.word, d.name FROM dids d JOIN words w ON w.id = d.scope WHERE d.hash = $1";
        let mut found = self.dids(sql, name_hash(name).into())?;
        let name = clip(name);
        found.retain(|(_, did)| *did.name == *name && scope.is_none_or(|s| *did.scope == *s));
        Ok(found)
    }

    fn dids_with(&mut self, uuid: Uuid) -> Result<Vec<(i64, Did)>, LedgerError> {
        let head: Value = uuid.as_bytes()[..8].into();
        let mut ids = BTreeSet::new();
        for sql in [
            "SELECT did, uuids FROM files WHERE substr(uuids, 1, 8) = $1 AND uuids IS NOT NULL",
            "SELECT f.did, f.uuids FROM members m JOIN files f ON f.did = m.did AND f.target = m.target \
             WHERE m.head = $1",
        ] {
            for cells in self.store.query(sql, std::slice::from_ref(&head))? {
                let mut r = Reader::new(cells);
                if let (Some(did), Some(bytes)) = (r.int(), r.blob())
                    && uuids(&bytes).contains(&uuid)
                {
                    ids.insert(did);
                }
            }
        }
        self.dids_numbered(ids)
    }

    fn dids_numbered(&mut self, ids: BTreeSet<i64>) -> Result<Vec<(i64, Did)>, LedgerError> {
        let sql = "SELECT d.id, w.word, d.name FROM dids d JOIN words w ON w.id = d.scope WHERE d.id = $1";
        let mut found = Vec::new();
        for id in ids {
            found.extend(self.dids(sql, id.into())?);
        }
        Ok(found)
    }

    fn dids(&mut self, sql: &str, value: Value) -> Result<Vec<(i64, Did)>, LedgerError> {
        let rows = self.store.query(sql, &[value])?;
        Ok(rows
            .into_iter()
            .filter_map(|cells| {
                let mut r = Reader::new(cells);
                let (id, scope, name) = (r.int()?, r.arc()?, r.arc()?);
                Some((id, Did { scope, name }))
            })
            .collect())
    }

    /// A URL ends in the file's name, as a rule: every ending that follows a slash is tried as one. Where
    /// that is not so the URL itself is in an index.
    fn stories_at(&mut self, url: &str) -> Result<Vec<Story>, LedgerError> {
        let mut ids = BTreeSet::new();
        for column in ["url_tail", "uri_tail"] {
            let sql = format!("SELECT did FROM events WHERE {column} = $1 AND {column} IS NOT NULL");
            for cells in self.store.query(&sql, &[clip(url).as_str().into()])? {
                ids.extend(Reader::new(cells).int());
            }
        }
        let mut candidates = self.dids_numbered(ids)?;
        // The longest ending first: it says most.
        let endings = url.match_indices('/').map(|(at, _)| &url[at + 1..]);
        for name in std::iter::once(url).chain(endings) {
            candidates.extend(self.dids_named(name, None)?);
        }
        let mut exact = Vec::new();
        let mut near = Vec::new();
        for did in candidates {
            let story = self.story(did)?;
            let uris = story.files.iter().map(|file| &file.uri);
            let urls = story.events.iter().flat_map(|(row, _)| [&row.url, &row.uri]);
            if uris.chain(urls).any(|known| known.as_deref() == Some(url)) {
                exact.push(story);
            } else {
                near.push(story);
            }
        }
        if !exact.is_empty() {
            return Ok(exact);
        }
        // No such URL, but a file of that name: another door, or a path as it looks elsewhere.
        let longest = near.first().map(|story| story.did.name.len());
        near.retain(|story| Some(story.did.name.len()) == longest);
        Ok(near)
    }
}

pub(super) fn uuids(bytes: &[u8]) -> Vec<Uuid> {
    bytes
        .chunks_exact(16)
        .filter_map(|bytes| Uuid::from_slice(bytes).ok())
        .collect()
}
