//! Views as a plain fold of what is in Kafka, and as a running `dbb` answers.
//!
//! In:  the records at their places; a client of SQL.
//! Out: rows of both, which must be the same.

use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls, SimpleQueryMessage};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Everything that is compared, in one statement: so it is of one epoch.
pub const ALL: &str = "\
    select 'offset' as what, stream as a, cast(\"partition\" as varchar) as b, '' as c, '' as d, next_offset as n, 0 as m \
    from as_of() where stream is not null \
    union all select 'usage', rse, scope, state, '', files, bytes from rse_usage \
    union all select 'replica', scope, name, rse, state, bytes, 0 from replicas \
    union all select 'done', src_rse, dst_rse, '', '', sum(done), sum(bytes) from transfers where done > 0 group by src_rse, dst_rse";

/// One answer: rows by kind.
pub type Answer = BTreeSet<Vec<String>>;

/// A fold in its plainest form: the newest word of each replica, in any order, repeated any number of times.
#[derive(Debug, Default)]
pub struct Fold {
    newest: BTreeMap<(String, String, String), (String, u8, &'static str)>,
    lost: BTreeMap<(String, String), String>,
    bytes: BTreeMap<(String, String), i64>,
    /// By request: where from, where to, how many bytes.
    done: BTreeMap<String, (String, String, i64)>,
}

impl Fold {
    /// Takes one event in.
    pub fn add(&mut self, body: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(body) else {
            return;
        };
        let payload = &event["payload"];
        let text = |field: &str| payload[field].as_str().unwrap_or_default().to_owned();
        let at = micros(event["created_at"].as_str().unwrap_or_default());
        let did = (text("scope"), text("name"));
        let (rse, state, rank) = match event["event_type"].as_str().unwrap_or_default() {
            "transfer-queued" => ("dst-rse", "COPYING", 0),
            "transfer-done" => ("dst-rse", "AVAILABLE", 2),
            "deletion-done" | "deletion-not-found" => ("rse", "", 3),
            "deletion-failed" if payload["rse_id"].is_null() => ("rse", "BEING_DELETED", 1),
            "lost" => {
                let known = self.lost.entry(did).or_default();
                *known = at.max(known.clone());
                return;
            }
            _ => return,
        };
        if let Some(bytes) = payload["bytes"].as_i64() {
            self.bytes.insert(did.clone(), bytes);
        }
        if state == "AVAILABLE" {
            let bytes = payload["bytes"].as_i64().unwrap_or(0);
            self.done
                .insert(text("request-id"), (text("src-rse"), text("dst-rse"), bytes));
        }
        let word = (at, rank, state);
        let newest = self
            .newest
            .entry((did.0, did.1, text(rse)))
            .or_insert_with(|| word.clone());
        if word > *newest {
            *newest = word;
        }
    }

    /// What [`ALL`] answers, without the offsets.
    pub fn answer(&self) -> Answer {
        let mut rows = Answer::new();
        let mut usage: BTreeMap<[&str; 3], (i64, i64)> = BTreeMap::new();
        for ((scope, name, rse), (at, _, state)) in &self.newest {
            let did = (scope.clone(), name.clone());
            let is_lost = *state == "AVAILABLE" && self.lost.get(&did).is_some_and(|lost| lost > at);
            let state = if is_lost { "UNAVAILABLE" } else { state };
            if state.is_empty() {
                continue;
            }
            let bytes = self.bytes.get(&did).copied().unwrap_or(0);
            let sums = usage.entry([rse, scope, state]).or_default();
            *sums = (sums.0 + 1, sums.1 + bytes);
            rows.insert(row(["replica", scope, name, rse, state], bytes, 0));
        }
        for ([rse, scope, state], (files, bytes)) in usage {
            rows.insert(row(["usage", rse, scope, state, ""], files, bytes));
        }
        let mut done: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
        for (src, dst, bytes) in self.done.values() {
            let sums = done.entry((src, dst)).or_default();
            *sums = (sums.0 + 1, sums.1 + bytes);
        }
        for ((src, dst), (times, bytes)) in done {
            rows.insert(row(["done", src, dst, "", ""], times, bytes));
        }
        rows
    }
}

/// The time in a form that sorts: the fraction is left out where it is zero.
fn micros(text: &str) -> String {
    if text.contains('.') {
        text.to_owned()
    } else {
        format!("{text}.000000")
    }
}

fn row(words: [&str; 5], n: i64, m: i64) -> Vec<String> {
    let words = words.iter().map(|word| (*word).to_owned());
    words.chain([n.to_string(), m.to_string()]).collect()
}

/// A client of the SQL at this address.
pub fn connect(sql: &str) -> Result<Client> {
    let (host, port) = sql.split_once(':').context("no port")?;
    let mut settings = postgres::Config::new();
    settings
        .host(host)
        .port(port.parse()?)
        .user("dbb")
        .dbname("dbb")
        .connect_timeout(Duration::from_secs(10));
    Ok(settings.connect(NoTls)?)
}

/// The rows of an answer, none of which may be there twice.
pub fn ask(client: &mut Client, sql: &str) -> Result<Answer> {
    let mut rows = Answer::new();
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message {
            let cells = (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned());
            ensure!(rows.insert(cells.collect()), "a row is there twice");
        }
    }
    Ok(rows)
}

/// Takes the offsets out of an answer: by topic and partition, the offset of the next record.
pub fn offsets(answer: &mut Answer) -> Result<BTreeMap<(String, i32), i64>> {
    let (offsets, rest): (Answer, Answer) = std::mem::take(answer)
        .into_iter()
        .partition(|row| row[0] == "offset");
    *answer = rest;
    offsets
        .into_iter()
        .map(|row| Ok(((row[1].clone(), row[2].parse()?), row[5].parse()?)))
        .collect()
}

/// What [`ALL`] must answer when everything at `places` below the offsets `bound` has been read.
pub fn fold(places: &BTreeMap<(String, i32, i64), Vec<u8>>, bound: &BTreeMap<(String, i32), i64>) -> Answer {
    let mut fold = Fold::default();
    for ((topic, partition, offset), body) in places {
        let to = bound.get(&(topic.clone(), *partition));
        if to.is_some_and(|to| offset < to) {
            fold.add(body);
        }
    }
    fold.answer()
}
