//! How a site's events ended: what the ledger has for each event of the oracle.
//!
//! ```text
//!   expected events --> ledger: by file name; what could not be read: among the dead letters --> Happened
//! ```
//!
//! In:    the oracle and the ledger's URL.
//! Out:   [`Outcomes`].

use super::{expected::Expected, report::Happened};
use anyhow::Result;
use dbb_events::Did;
use dbb_sinks::ledger::{Filter, Ledger, LedgerSettings, Row, Selector, State};

/// What the ledger says.
pub struct Outcomes {
    /// All rows of the ledger.
    pub rows: u64,
    /// The rows of the events that the oracle names.
    pub happened: Vec<Happened>,
}

impl Outcomes {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn read(ledger: &str, expected: &Expected) -> Result<Self> {
        let settings = LedgerSettings {
            url: ledger.into(),
            ..LedgerSettings::default()
        };
        let mut ledger = Ledger::open(&settings)?;
        let mut dids: Vec<Did> = expected
            .events
            .iter()
            .filter_map(|event| did(event.did.as_deref()?))
            .collect();
        dids.sort();
        dids.dedup();
        let mut happened = Vec::new();
        for did in dids {
            for story in ledger.explain(&Selector::Did(did))? {
                happened.extend(
                    story
                        .events
                        .iter()
                        .map(|(row, attempts)| of_row(row, attempts.len())),
                );
            }
        }
        ledger.export(&Filter::default(), |row| {
            if row.did.is_none() {
                happened.push(of_row(row, 0));
            }
            true
        })?;
        let rows = ledger.summary()?.iter().map(|tally| tally.count).sum();
        Ok(Self { rows, happened })
    }
}

/// `scope:name`; a name may have colons, a scope has none.
fn did(text: &str) -> Option<Did> {
    let (scope, name) = text.split_once(':')?;
    Some(Did::new(scope, name))
}

fn of_row(row: &Row, earlier: usize) -> Happened {
    let outcome = match (&row.outcome, &row.reason) {
        (State::Refused, Some(reason)) => format!("refused/{reason}"),
        (state, _) => state.as_str().into(),
    };
    Happened {
        target: row.target.to_string(),
        did: row.did.as_ref().map(Did::to_string),
        rse: row.rse.as_ref().map(|rse| rse.as_str().to_owned()),
        outcome,
        earlier,
        detail: row.detail.clone().unwrap_or_default(),
        place: row.place.clone(),
        body: row.body.clone(),
    }
}
