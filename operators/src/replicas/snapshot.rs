//! Snapshot: the view `replicas` as of one epoch, read in place from what the worker keeps.
//!
//! A snapshot shares all rows with the worker, which copies the chunks that it writes to later: taking one costs a
//! counter for each chunk, some milliseconds for each ten million replicas.

use super::{
    blocks::Rows,
    chunked::DidRows,
    columns::{self, Line},
    floors::Floors,
    names::Names,
    rare::Rare,
    store::place_of,
    table::{known, size},
};
use crate::{
    facts::DidKey,
    views::{Batches, Scan, Table, View},
};
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;
use std::sync::Arc;
use ustr::Ustr;

/// Rows in one batch, about: a file is never cut.
const BATCH: usize = 8192;

/// What the view is, for people.
pub const VIEW: View = View {
    name: "replicas",
    meaning: "Where a file is, and in which state, by the newest word of it.",
    cost: "About 45 bytes for each replica and the name of each file, shared with the replica state; nothing of its own.",
};

/// One table of the worker.
pub(super) struct Share {
    pub(super) index: Arc<HashTable<u32>>,
    pub(super) dids: DidRows,
    pub(super) rows: Rows,
    pub(super) names: Names,
    pub(super) rare: Arc<Rare>,
}

/// All tables of one worker at one moment.
pub struct Snapshot {
    shares: Arc<Vec<Share>>,
    words: Arc<Words>,
    shown: usize,
}

struct Words {
    rses: Arc<Vec<Ustr>>,
    scopes: Arc<Vec<Ustr>>,
    floors: Arc<Floors>,
}

/// The columns of the view.
pub fn schema() -> SchemaRef {
    columns::schema()
}

impl Snapshot {
    pub(super) fn new(
        shares: Vec<Share>,
        rses: Arc<Vec<Ustr>>,
        scopes: Arc<Vec<Ustr>>,
        floors: Arc<Floors>,
        shown: usize,
    ) -> Self {
        Self {
            shares: Arc::new(shares),
            words: Arc::new(Words { rses, scopes, floors }),
            shown,
        }
    }
}

impl Snapshot {
    /// Gives each row, those of a file together.
    pub(super) fn for_each(&self, mut give: impl FnMut(Line<'_>)) {
        let all = Filter::default();
        let mut lines = Vec::new();
        for share in self.shares.iter() {
            for number in 0..share.dids.end() {
                share.lines(number, &all, &self.words, &mut lines);
                lines.drain(..).for_each(&mut give);
            }
        }
    }
}

/// The filter of a scan, in numbers.
#[derive(Default)]
struct Filter {
    scope: Option<u32>,
    name: Option<String>,
    rse: Option<u32>,
    state: Option<String>,
}

impl Filter {
    /// `None` when no row can be equal to what is wanted.
    fn new(scan: &Scan, known: &Words) -> Option<Self> {
        let mut filter = Self::default();
        let number = |words: &[Ustr], word: &str| {
            words
                .iter()
                .position(|known| known.as_str() == word)
                .map(|place| place as u32)
        };
        for (column, wanted) in &scan.equal {
            match column.as_str() {
                "scope" => filter.scope = Some(number(&known.scopes, wanted)?),
                "rse" => filter.rse = Some(number(&known.rses, wanted)?),
                "name" => filter.name = Some(wanted.clone()),
                "state" => filter.state = Some(wanted.clone()),
                _ => {}
            }
        }
        Some(filter)
    }
}

impl Share {
    /// Appends the lines of one file that pass the filter.
    fn lines<'a>(&'a self, number: u32, filter: &Filter, known_words: &'a Words, lines: &mut Vec<Line<'a>>) {
        let did = self.dids.get(number);
        if did.is_empty() || filter.scope.is_some_and(|scope| scope != did.scope) {
            return;
        }
        let name = self.names.get(did.name);
        if filter.name.as_deref().is_some_and(|wanted| name != Some(wanted)) {
            return;
        }
        let block = self.rows.block(did.first, did.class);
        for row in block.iter().take_while(|row| !row.is_empty()) {
            if filter.rse.is_some_and(|rse| rse != row.rse) {
                continue;
            }
            let Some(now) = known(row, number, did, &self.rare, &known_words.floors) else {
                continue;
            };
            if filter
                .state
                .as_deref()
                .is_some_and(|state| state != now.state.as_str())
            {
                continue;
            }
            let (bytes, adler32) = size(row, number, did, &self.rare);
            let word =
                |words: &'a [Ustr], number: u32| words.get(number as usize).map_or("", |word| word.as_str());
            lines.push(Line {
                did: did.key,
                scope: word(&known_words.scopes, did.scope),
                name,
                rse: word(&known_words.rses, row.rse),
                state: now.state,
                bytes,
                adler32,
                basis: now.basis,
                at: now.at,
            });
        }
    }

    fn find(&self, key: DidKey) -> Option<u32> {
        self.index
            .find(key.high, |number| self.dids.get(*number).key == key)
            .copied()
    }
}

impl Table for Snapshot {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn rows(&self) -> usize {
        self.shown
    }

    fn scan(&self, scan: &Scan) -> Batches {
        let (shares, words) = (Arc::clone(&self.shares), Arc::clone(&self.words));
        let projection = scan.projection.clone();
        let Some(filter) = Filter::new(scan, &words) else {
            return Box::new(std::iter::once(Ok(columns::batch(&[], projection.as_deref()))));
        };
        let equal = |column: &str| {
            scan.equal
                .iter()
                .find(|(name, _)| name == column)
                .map(|(_, v)| v.as_str())
        };
        if let (Some(scope), Some(name)) = (equal("scope"), equal("name")) {
            let key = DidKey::new(scope, name);
            let mut lines = Vec::new();
            if let Some(share) = shares.get(place_of(key))
                && let Some(number) = share.find(key)
            {
                share.lines(number, &filter, &words, &mut lines);
            }
            return Box::new(std::iter::once(Ok(columns::batch(&lines, projection.as_deref()))));
        }
        // Where to go on: an iterator would borrow from what it must own.
        let (mut table, mut number, mut first) = (0, 0, true);
        Box::new(std::iter::from_fn(move || {
            let mut lines = Vec::with_capacity(BATCH);
            while lines.len() < BATCH {
                let Some(share) = shares.get(table) else { break };
                if number >= share.dids.end() {
                    (table, number) = (table + 1, 0);
                    continue;
                }
                share.lines(number, &filter, &words, &mut lines);
                number += 1;
            }
            // An empty view still says its columns.
            if lines.is_empty() && !std::mem::take(&mut first) {
                return None;
            }
            first = false;
            Some(Ok(columns::batch(&lines, projection.as_deref())))
        }))
    }
}
