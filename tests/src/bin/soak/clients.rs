//! The clients: each asks again and again, looks whether the answer is right for the offsets it names, and how old it is.

use crate::stream::{BYTES, PARTITIONS, Stream, now_us, rse};
use anyhow::{Context, Result};
use postgres::{Client, NoTls, SimpleQueryMessage};
use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

/// Between two questions of one client.
const PAUSE: Duration = Duration::from_millis(20);
/// The first client asks for little, all the time: it measures how soon a record is in an answer.
const OF_THE_FIRST: Duration = Duration::from_millis(2);
/// The last one asks for replicas, one by one.
const OF_THE_LAST: Duration = Duration::from_secs(1);

const USAGE: &str = "\
    select 'offset' as what, cast(\"partition\" as varchar) as a, '' as b, next_offset as n, 0 as m, at from as_of() \
    union all select 'usage', rse, state, sum(files), sum(bytes), null from rse_usage group by rse, state";
const REPLICAS: &str = "\
    select 'offset' as what, cast(\"partition\" as varchar) as a, '' as b, next_offset as n, 0 as m, at from as_of() \
    union all select 'usage', rse, state, count(*), sum(bytes), null from replicas group by rse, state";

/// What a client saw.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) answers: u64,
    pub(crate) wrong: Vec<String>,
    pub(crate) ages_ms: Vec<u64>,
    pub(crate) latencies_ms: Vec<u64>,
    /// Replicas in the last answer.
    pub(crate) rows: i64,
}

impl Measured {
    pub(crate) fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.wrong.extend(other.wrong);
        self.ages_ms.extend(other.ages_ms);
        self.latencies_ms.extend(other.latencies_ms);
        self.rows = self.rows.max(other.rows);
    }
}

/// How some milliseconds are spread.
pub(crate) struct Window {
    count: usize,
    p50: u64,
    p99: u64,
    pub(crate) most: u64,
}

impl Window {
    pub(crate) fn of(values: &mut [u64]) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let at = values.len().saturating_sub(1) * percent / 100;
            values.get(at).copied().unwrap_or(0)
        };
        Self {
            count: values.len(),
            p50: at(50),
            p99: at(99),
            most: at(100),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {}, p99 {}, most {} ({} of them)",
            self.p50, self.p99, self.most, self.count
        )
    }
}

pub(crate) fn connect(sql: &str) -> Result<Client> {
    let (host, port) = sql.split_once(':').context("no port")?;
    let mut settings = postgres::Config::new();
    settings.host(host).port(port.parse()?).user("dbb").dbname("dbb");
    Ok(settings.connect(NoTls)?)
}

/// True once something is published.
pub(crate) fn is_answered(sql: &str) -> bool {
    connect(sql).is_ok_and(|mut client| client.simple_query(USAGE).is_ok())
}

/// Asks until told to stop.
pub(crate) fn ask(number: usize, sql: &str, stream: &Stream, stop: &AtomicBool) -> Result<Measured> {
    let mut client = connect(sql)?;
    let mut measured = Measured::default();
    let mut seen = [0usize; PARTITIONS];
    let (statement, pause) = match number {
        0 => (USAGE, OF_THE_FIRST),
        3 => (REPLICAS, OF_THE_LAST),
        _ => (USAGE, PAUSE),
    };
    while !stop.load(Relaxed) {
        let answer = client.simple_query(statement)?;
        let now = now_us();
        let mut offsets = [0usize; PARTITIONS];
        let mut usage: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        for message in answer {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let text = |at: usize| row.get(at).unwrap_or_default();
            let number = |at: usize| text(at).parse::<i64>().unwrap_or(0);
            if text(0) == "offset" {
                if let Some(offset) = text(1).parse().ok().and_then(|at: usize| offsets.get_mut(at)) {
                    *offset = number(3).max(0) as usize;
                }
                if let Some(began) = micros(text(5)) {
                    measured.ages_ms.push((now - began).max(0) as u64 / 1000);
                }
            } else {
                usage.insert((text(1).into(), text(2).into()), (number(3), number(4)));
            }
        }
        measured.answers += 1;
        judge(stream, &offsets, &usage, &mut measured);
        if number == 0 {
            for (partition, (seen, next)) in seen.iter_mut().zip(offsets).enumerate() {
                let sent = stream.sent_at(partition, *seen, next);
                measured
                    .latencies_ms
                    .extend(sent.iter().map(|at| (now - at).max(0) as u64 / 1000));
                *seen = next.max(*seen);
            }
        }
        thread::sleep(pause);
    }
    Ok(measured)
}

/// What is counted must be what the records below the offsets say.
fn judge(
    stream: &Stream,
    offsets: &[usize; PARTITIONS],
    usage: &BTreeMap<(String, String), (i64, i64)>,
    measured: &mut Measured,
) {
    let mut expected = BTreeMap::new();
    for (partition, offset) in offsets.iter().enumerate() {
        let [queued, done, deleted] = stream.below(partition, *offset).map(|count| count as i64);
        for (state, files) in [("COPYING", queued - done), ("AVAILABLE", done - deleted)] {
            if files > 0 {
                expected.insert((rse(partition), state.to_owned()), (files, files * BYTES));
            }
        }
    }
    measured.rows = usage.values().map(|(files, _)| files).sum();
    if *usage != expected {
        measured.wrong.push(format!(
            "at {offsets:?} there are {usage:?}, and must be {expected:?}"
        ));
    }
}

/// `2026-11-21 19:14:49.938629+00`, in microseconds since midnight of its day, taken as of today.
fn micros(text: &str) -> Option<i64> {
    let clock = text.get(11..)?;
    let mut parts = clock.trim_end_matches("+00").trim_end_matches('Z').split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    let of_day = (hours * 3600 + minutes * 60) * 1_000_000 + (seconds * 1e6) as i64;
    let day = 86_400_000_000;
    let now = now_us();
    // Around midnight the day may be the one before.
    let today = now.div_euclid(day) * day + of_day;
    Some(if today > now + day / 2 { today - day } else { today })
}
