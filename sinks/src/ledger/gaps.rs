//! Gaps: how far each lane of a hub was read, and which of its records are missing.
//!
//! ```text
//!   numbers --> one row a lane; one a gap: open --> asked --> filled, or unavailable
//!                                            \------------------------/
//! ```
//!
//! In:    [`Numbers`], in the order they were found, each any number of times; what was asked for.
//! Out:   what a start goes on from; what is to be asked for; lists and sums.
//! State: the tables `lanes` and `gaps`.

use crate::ledger::{
    Generation, Ledger, LedgerError,
    row::{Reader, damaged},
    store::{Bulk, BulkKind, Cells, Type::*, Value},
};
use dbb_events::{Gap, Lane, Micros, Numbers, Ranges};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// How a gap stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapState {
    /// Found, and not asked for yet.
    Open,
    /// Asked for.
    Asked,
    /// All has come.
    Filled,
    /// What is still missing the hub does not have any more.
    Unavailable,
}

impl GapState {
    /// All of them, in the order of their codes.
    pub const ALL: [GapState; 4] = [
        GapState::Open,
        GapState::Asked,
        GapState::Filled,
        GapState::Unavailable,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            GapState::Open => "open",
            GapState::Asked => "asked",
            GapState::Filled => "filled",
            GapState::Unavailable => "unavailable",
        }
    }

    fn code(self) -> i64 {
        self as i64
    }

    fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

impl fmt::Display for GapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A gap as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    /// The lane.
    pub lane: Lane,
    /// The gap.
    pub gap: Gap,
    /// How it stands.
    pub state: GapState,
    /// How often it was asked for.
    pub asks: u32,
    /// When it was last.
    pub asked_at: Option<Micros>,
    /// When it is to be asked for next; `None` for not at all.
    pub ask_at: Option<Micros>,
    /// When it was filled, or turned out unavailable.
    pub closed_at: Option<Micros>,
}

/// What is missing of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapSum {
    /// The lane.
    pub lane: Lane,
    /// How its gaps stand.
    pub state: GapState,
    /// How many there are.
    pub gaps: u64,
    /// How many records of them have not come.
    pub records: u64,
    /// When the oldest was found.
    pub oldest: Micros,
}

const LANES: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "lanes",
    columns: &[("lane", Int), ("begins", Int), ("last", Int), ("updated_at", Int)],
    keys: 0,
    tail: "ON CONFLICT (lane) DO UPDATE SET begins = excluded.begins, last = excluded.last, \
           updated_at = excluded.updated_at",
};
const GAPS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "gaps",
    columns: &[
        ("lane", Int),
        ("first", Int),
        ("last", Int),
        ("records", Int),
        ("found_at", Int),
        ("ask_at", Int),
        ("closed_at", Int),
        ("asks", Int),
        ("state", Int),
        ("missing", Text),
        ("gone", Text),
    ],
    keys: 0,
    tail: "ON CONFLICT (lane, first) DO UPDATE SET \
           last = excluded.last, records = excluded.records, closed_at = excluded.closed_at, \
           missing = excluded.missing, gone = excluded.gone, \
           ask_at = CASE WHEN excluded.state >= 2 THEN NULL ELSE coalesce(gaps.ask_at, excluded.ask_at) END, \
           state = CASE WHEN excluded.state = 0 AND gaps.asks > 0 THEN 1 ELSE excluded.state END",
};
const SELECT: &str = "SELECT w.word, g.first, g.last, g.found_at, g.ask_at, g.asked_at, g.closed_at, g.asks, g.state, \
                      g.missing, g.gone FROM gaps g JOIN words w ON w.id = g.lane";

impl Ledger {
    /// Writes how far lanes are, and their gaps that have changed; of one lane the last word counts.
    pub(super) fn write_numbers(&mut self, numbers: &[Numbers]) -> Result<(), LedgerError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = numbers.iter().map(|of| of.lane.to_string()).collect();
        self.words
            .learn(&mut *self.store, &mut self.ids, names.iter().map(String::as_str))?;
        let (mut lanes, mut gaps) = (BTreeMap::new(), BTreeMap::new());
        for (of, name) in numbers.iter().zip(&names) {
            let lane = self.words.id(name);
            for gap in &of.gaps {
                gaps.insert((name, gap.first), gap_cells(lane.clone(), gap, of.at));
            }
            let row: Cells = vec![lane, of.begins.into(), of.last.into(), of.at.0.into()];
            lanes.insert(name, row);
        }
        self.store.bulk(&LANES, lanes.into_values().collect())?;
        self.store.bulk(&GAPS, gaps.into_values().collect())?;
        Ok(())
    }

    /// The lanes as they were last written, with all their gaps that are not filled.
    pub fn numbers(&mut self) -> Result<Vec<Numbers>, LedgerError> {
        let sql = "SELECT w.word, l.begins, l.last, l.updated_at FROM lanes l JOIN words w ON w.id = l.lane";
        let mut lanes: BTreeMap<Lane, Numbers> = BTreeMap::new();
        for cells in self.store.query(sql, &[])? {
            let mut r = Reader::new(cells);
            let lane = lane(&mut r)?;
            let numbers = Numbers {
                lane: lane.clone(),
                begins: r.int().map(|begins| begins as u64),
                last: r.int().unwrap_or(0) as u64,
                gaps: Vec::new(),
                at: r.micros().unwrap_or_default(),
            };
            lanes.insert(lane, numbers);
        }
        let sql = format!("{SELECT} WHERE g.state <> 2 ORDER BY g.lane, g.first");
        for cells in self.store.query(&sql, &[])? {
            let row = gap_row(cells)?;
            if let Some(of) = lanes.get_mut(&row.lane) {
                of.gaps.push(row.gap);
            }
        }
        Ok(lanes.into_values().collect())
    }

    /// Gaps that are to be asked for at `now`, those that wait longest first.
    pub fn gaps_to_ask(&mut self, now: Micros, most: usize) -> Result<Vec<GapRow>, LedgerError> {
        let sql = format!("{SELECT} WHERE g.ask_at <= $1 ORDER BY g.ask_at, g.lane, g.first LIMIT $2");
        let rows = self.store.query(&sql, &[now.0.into(), (most as u64).into()])?;
        rows.into_iter().map(gap_row).collect()
    }

    /// These were asked for at `at`, and are to be asked for again at the times given, or not.
    pub fn asked(
        &mut self,
        generation: Generation,
        at: Micros,
        asked: &[(Lane, u64, Option<Micros>)],
    ) -> Result<(), LedgerError> {
        self.transaction(Some(generation), |ledger| {
            for (lane, first, again) in asked {
                let sql = "UPDATE gaps SET asks = asks + 1, asked_at = $1, \
                             ask_at = CASE WHEN state IN (0, 1) THEN CAST($2 AS BIGINT) ELSE NULL END, \
                             state = CASE WHEN state = 0 THEN 1 ELSE state END \
                           WHERE first = $3 AND lane = (SELECT id FROM words WHERE word = $4)";
                let again = again.map(|again| again.0);
                let name = lane.to_string();
                ledger.store.execute(
                    sql,
                    &[at.0.into(), again.into(), (*first).into(), name.as_str().into()],
                )?;
            }
            Ok(())
        })
    }

    /// Has all gaps that are not filled, or those of `lane`, asked for at once; how many there are.
    pub fn ask_again(&mut self, lane: Option<&Lane>, now: Micros) -> Result<u64, LedgerError> {
        self.transaction(None, |ledger| {
            let all = "UPDATE gaps SET ask_at = $1 WHERE state <> 2";
            match lane {
                None => ledger.store.execute(all, &[now.0.into()]),
                Some(lane) => {
                    let sql = format!("{all} AND lane = (SELECT id FROM words WHERE word = $2)");
                    let name = lane.to_string();
                    ledger.store.execute(&sql, &[now.0.into(), name.as_str().into()])
                }
            }
        })
    }

    /// Gaps, the newest first, at most `most`; those that are filled only where `all` are wanted.
    pub fn gaps(&mut self, all: bool, most: usize) -> Result<Vec<GapRow>, LedgerError> {
        let wanted = if all { "" } else { " WHERE g.state <> 2" };
        let sql = format!("{SELECT}{wanted} ORDER BY g.found_at DESC, g.lane, g.first LIMIT $1");
        let rows = self.store.query(&sql, &[(most as u64).into()])?;
        rows.into_iter().map(gap_row).collect()
    }

    /// What is missing, by lane and state; lanes that lack nothing are left out.
    pub fn gap_sums(&mut self) -> Result<Vec<GapSum>, LedgerError> {
        let sql = "SELECT w.word, x.state, x.n, x.records, x.oldest FROM ( \
                     SELECT lane, state, count(*) AS n, CAST(sum(records) AS BIGINT) AS records, \
                       min(found_at) AS oldest \
                     FROM gaps WHERE state <> 2 GROUP BY lane, state) x \
                   JOIN words w ON w.id = x.lane ORDER BY w.word, x.state";
        let rows = self.store.query(sql, &[])?;
        let sums = rows.into_iter().map(|cells| {
            let mut r = Reader::new(cells);
            Ok(GapSum {
                lane: lane(&mut r)?,
                state: state(&mut r)?,
                gaps: r.int().unwrap_or(0) as u64,
                records: r.int().unwrap_or(0) as u64,
                oldest: r.micros().unwrap_or_default(),
            })
        });
        sums.collect()
    }

    /// Forgets gaps that were filled before `before`.
    pub(super) fn prune_gaps(&mut self, before: Micros) -> Result<u64, LedgerError> {
        let sql = "DELETE FROM gaps WHERE state = 2 AND closed_at < $1";
        self.store.execute(sql, &[before.0.into()])
    }
}

fn gap_cells(lane: Value, gap: &Gap, at: Micros) -> Cells {
    let state = match (gap.left.is_empty(), gap.gone.is_empty()) {
        (false, _) => GapState::Open,
        (true, false) => GapState::Unavailable,
        (true, true) => GapState::Filled,
    };
    let is_closed = state != GapState::Open;
    vec![
        lane,
        gap.first.into(),
        gap.last.into(),
        gap.left.count().saturating_add(gap.gone.count()).into(),
        gap.found_at.0.into(),
        (!is_closed).then_some(gap.ask_at.0).into(),
        is_closed.then_some(at.0).into(),
        0i64.into(),
        state.code().into(),
        gap.left.to_string().as_str().into(),
        gap.gone.to_string().as_str().into(),
    ]
}

fn gap_row(cells: Cells) -> Result<GapRow, LedgerError> {
    let mut r = Reader::new(cells);
    let lane = lane(&mut r)?;
    let (first, last) = (r.int().unwrap_or(0) as u64, r.int().unwrap_or(0) as u64);
    let found_at = r.micros().unwrap_or_default();
    let (ask_at, asked_at, closed_at) = (r.micros(), r.micros(), r.micros());
    let asks = r.int().unwrap_or(0) as u32;
    let state = state(&mut r)?;
    let (left, gone) = (ranges(&mut r)?, ranges(&mut r)?);
    Ok(GapRow {
        lane,
        gap: Gap {
            first,
            last,
            left,
            gone,
            found_at,
            ask_at: ask_at.unwrap_or(found_at),
        },
        state,
        asks,
        asked_at,
        ask_at,
        closed_at,
    })
}

fn lane(r: &mut Reader) -> Result<Lane, LedgerError> {
    let name: Arc<str> = r.arc().unwrap_or_default();
    name.parse().map_err(|_| damaged("lane"))
}

fn state(r: &mut Reader) -> Result<GapState, LedgerError> {
    r.int()
        .and_then(GapState::from_code)
        .ok_or_else(|| damaged("state of a gap"))
}

fn ranges(r: &mut Reader) -> Result<Ranges, LedgerError> {
    let text = r.text().unwrap_or_default();
    text.parse().map_err(|_| damaged("numbers of a gap"))
}
