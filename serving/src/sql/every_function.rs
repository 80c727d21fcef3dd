//! Every function that is offered, with arguments of all kinds: whatever it does is the statement's own affair.

#![allow(clippy::unwrap_used)]

use super::{Engine, Limits, Running, SqlError, session::Sessions};
use crate::{Metrics, Offered};
use dbb_operators::publish::{Published, Publisher};
use futures::TryStreamExt;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

const ARGUMENTS: [&str; 40] = [
    "null",
    "true",
    "0",
    "1",
    "-1",
    "3::int",
    "40000::smallint",
    "9223372036854775807",
    "(-9223372036854775807 - 1)",
    "0.1::decimal(38,30)",
    "99999999999999999999999999999999999999::decimal(38,0)",
    "1.5::double precision",
    "'NaN'::double precision",
    "'-Infinity'::double precision",
    "1.5::real",
    "''",
    "'abc'",
    "'äöü€😀'",
    "repeat('xy', 500)",
    "'a,b,,c'",
    "'[a-z]+('",
    "'([a-z])(b)?'",
    "'YYYY-MM-DD'",
    "'%Y-%m-%dT%H:%M:%S%.f %10000d'",
    "'Europe/Paris'",
    "'day'",
    "'utf8'",
    "date '2026-11-30'",
    "date '0001-01-01'",
    "timestamp '2026-11-30 08:00:00.123456'",
    "to_timestamp(9223372036)",
    "interval '1 month 2 days 3 seconds'",
    "interval '2147483647 months'",
    "interval '0 days'",
    "make_array(1, 2, 3)",
    "make_array()",
    "make_array('a', null, 'c')",
    "make_array(make_array(1.5), make_array(2.5, null))",
    "named_struct('a', 1, 'b', 'x')",
    "'\\x00ff'::bytea",
];

/// The same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn argument(&mut self) -> &'static str {
        ARGUMENTS[self.below(ARGUMENTS.len())]
    }

    fn arguments(&mut self, count: usize) -> String {
        let all: Vec<_> = (0..count).map(|_| self.argument()).collect();
        all.join(", ")
    }
}

fn published() -> Arc<Published> {
    let publisher = Publisher::new(1);
    publisher.expect((dbb_operators::publish::OFFSETS, 0));
    publisher.minted(1, dbb_events::Micros(1));
    publisher.offer(
        (dbb_operators::publish::OFFSETS, 0),
        1,
        dbb_operators::publish::Part::Offsets(std::collections::BTreeMap::default()),
    );
    publisher.newest().unwrap()
}

/// The names, each once, of scalar, aggregate and window functions.
fn offered() -> [BTreeSet<String>; 3] {
    let sessions = Sessions::new(Vec::<Offered>::new().into(), Arc::new(Running::default())).unwrap();
    let state = sessions.session(None).unwrap();
    [
        state
            .scalar_functions()
            .values()
            .map(|f| f.name().to_owned())
            .collect(),
        state
            .aggregate_functions()
            .values()
            .map(|f| f.name().to_owned())
            .collect(),
        state
            .window_functions()
            .values()
            .map(|f| f.name().to_owned())
            .collect(),
    ]
}

#[test]
fn every_function_that_is_offered_answers_or_fails_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let limits = Limits {
        time: Duration::from_secs(5),
        memory_bytes: 64 << 20,
        all_memory_bytes: 128 << 20,
        ..Limits::NONE
    };
    let engine = Engine::new(limits, Arc::new(published()), Vec::new(), Metrics::default()).unwrap();
    let ask = |sql: &str| -> Result<usize, SqlError> {
        runtime.block_on(async {
            let batches: Vec<_> = engine.query(sql).await?.try_collect().await?;
            Ok(batches.iter().map(|batch| batch.num_rows()).sum())
        })
    };
    let [scalar, aggregate, window] = offered();
    assert!(
        scalar.len() > 150 && aggregate.len() > 20 && window.len() > 8,
        "{scalar:?} {aggregate:?} {window:?}"
    );
    let mut dice = Dice(11);
    let (mut answered, mut panicked, mut late) = (0, Vec::new(), Vec::new());
    let mut judge = |sql: &str| match ask(sql) {
        Ok(_) => answered += 1,
        Err(SqlError::Panicked(_)) => panicked.push(sql.to_owned()),
        Err(SqlError::TooLong(_)) => late.push(sql.to_owned()),
        Err(_) => {}
    };
    for name in &scalar {
        for round in 0..12 {
            let count = round % 4;
            let all = dice.arguments(count);
            judge(&format!("select \"{name}\"({all})"));
        }
        for count in 1..=3 {
            let (first, second) = (dice.arguments(count), dice.arguments(count));
            let columns = ["a", "b", "c"][..count].join(", ");
            judge(&format!(
                "select \"{name}\"({columns}) from (values ({first}), ({first}), ({second})) t ({columns})"
            ));
        }
    }
    for name in &aggregate {
        for count in [1, 1, 1, 1, 2, 2, 3] {
            let all = dice.arguments(count);
            judge(&format!("select \"{name}\"({all}) from generate_series(1, 5)"));
            judge(&format!(
                "select \"{name}\"({all}) over (order by value) from generate_series(1, 5)"
            ));
        }
    }
    for name in &window {
        for count in [0, 1, 1, 2, 3] {
            let all = dice.arguments(count);
            judge(&format!(
                "select \"{name}\"({all}) over (order by value) from generate_series(1, 5)"
            ));
        }
    }
    println!("{answered} answered; of these a library panicked: {panicked:#?}");
    assert!(answered > 300, "{answered}");
    assert!(late.is_empty(), "{late:#?}");
    // And the next is answered.
    assert_eq!(ask("select 1").unwrap(), 1);
}
