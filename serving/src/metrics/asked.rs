//! The numbers of those who ask: statements, connections, rows.

use crate::{
    catalog::{Catalog, Form},
    doors,
    labels::{Asker, Ended},
    panics,
};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use std::time::Duration;

/// Seconds of one question: from one about a small view to the longest that is allowed.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// Counted alike for SQL and HTTP.
#[derive(Debug, Clone)]
pub(super) struct Questions {
    statements: Family<Ended, Counter>,
    seconds: Family<Asker, Histogram, fn() -> Histogram>,
    connections: Family<Asker, Gauge>,
    rows: Family<Asker, Counter>,
    turned_away: Family<Ended, Counter>,
    running: Gauge,
    places: Gauge,
}

impl Default for Questions {
    fn default() -> Self {
        let seconds = || Histogram::new(SECONDS);
        Self {
            statements: Family::default(),
            seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            connections: Family::default(),
            rows: Family::default(),
            turned_away: Family::default(),
            running: Gauge::default(),
            places: Gauge::default(),
        }
    }
}

impl Questions {
    pub(super) fn register(&self, to: &mut Catalog) {
        to.add(
            ("statements", ""),
            Form::Counter,
            &["by", "outcome"],
            "Questions about views, by `sql` or `http`, by how they ended: answered, wrong, refused, not_published, \
             timed_out, too_many_rows, too_much_memory, too_complex, cancelled, panicked, failed",
            &self.statements,
        );
        to.add(
            ("statement", "seconds"),
            Form::Histogram,
            &["by"],
            "Time of one question, planning and sending its rows included",
            &self.seconds,
        );
        to.add(
            ("open_connections", ""),
            Form::Gauge,
            &["by"],
            "Connections of SQL clients, and HTTP requests about views, that are open",
            &self.connections,
        );
        to.add(
            ("sent", "rows"),
            Form::Counter,
            &["by"],
            "Rows of answers",
            &self.rows,
        );
        to.add(
            ("turned_away_connections", ""),
            Form::Counter,
            &["by", "outcome"],
            "Connections that were closed because there were too many: `idle` ones that made room for others, and new ones \
             where all were busy, `full`",
            &self.turned_away,
        );
        to.add(
            ("refused_connections", ""),
            Form::Counter,
            &["door", "reason"],
            "Connections that were turned away at a door (sql, peers, cluster), by why: malformed (not the protocol), silent \
             (who it is was not said in time), crowded (too many others had not said it either), full (all places are \
             taken), unproven (the token is another)",
            doors::refused(),
        );
        to.add(
            ("panics_caught", ""),
            Form::Counter,
            &["door"],
            "Faults of this program that ended one connection or statement, by door; each is in the log once, with its \
             place: please report it",
            panics::caught(),
        );
        to.add(
            ("running_statements", ""),
            Form::Gauge,
            &[],
            "SQL statements that are planned, computed or sent now",
            &self.running,
        );
        to.add(
            ("statement_places", ""),
            Form::Gauge,
            &[],
            "SQL statements that may be worked on at once, `sql.threads`: with as many running, further ones wait",
            &self.places,
        );
    }

    pub(super) fn turned_away(&self, by: &'static str, outcome: &'static str) {
        self.turned_away.get_or_create(&Ended { by, outcome }).inc();
    }

    pub(super) fn ended(&self, by: &'static str, outcome: &'static str, took: Duration) {
        self.statements.get_or_create(&Ended { by, outcome }).inc();
        self.seconds
            .get_or_create(&Asker { by })
            .observe(took.as_secs_f64());
    }

    pub(super) fn rows(&self, by: &'static str, rows: u64) {
        self.rows.get_or_create(&Asker { by }).inc_by(rows);
    }

    pub(super) fn connections(&self, by: &'static str, more: i64) {
        self.connections.get_or_create(&Asker { by }).inc_by(more);
    }

    pub(super) fn running(&self, more: i64) {
        self.running.inc_by(more);
    }

    pub(super) fn places(&self, most: i64) {
        self.places.set(most);
    }
}
