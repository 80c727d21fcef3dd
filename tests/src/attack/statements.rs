//! Statements that overflow, fill the memory or eat the processor; asked and waited for, cancelled, or abandoned.

use super::{
    memory::{forget_peak, peak_mib, resident_mib},
    pg::{frame, login},
    target::{Target, listen},
};
use crate::Dice;
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

// The tests of the SQL server include it too.
#[path = "../../data/attack/statements.rs"]
#[allow(unreachable_pub)]
mod listed;

/// What a statement takes is in the report from here on.
const TELLING_MIB: u64 = 100;

/// Statements that make much of little: each with a name for the report.
pub(super) fn made() -> Vec<(String, String)> {
    let repeat = |text: &str, many: usize| text.repeat(many);
    let list = |item: &str, many: usize, between: &str| vec![item; many].join(between);
    [
        ("3000 times 1+", format!("select {}1", repeat("1+", 3000))),
        ("3000 casts", format!("select 1{}", repeat("::int", 3000))),
        ("40 times not", format!("select {}true", repeat("not ", 40))),
        ("3000 times not", format!("select {}true", repeat("not ", 3000))),
        ("5000 parentheses", format!("select {}1{}", repeat("(", 5000), repeat(")", 5000))),
        ("a comma join of 1000", {
            let tables: Vec<String> = (0..1000).map(|n| format!("rse_usage t{n}")).collect();
            format!("select 1 from {}", tables.join(", "))
        }),
        ("5000 union all", list("select 1", 5000, " union all ")),
        ("20000 subscripts", format!("select array[1]{}", repeat("[1]", 20_000))),
        ("100000 terms", format!("select {}", list("1", 100_000, ", "))),
        ("100000 values", format!("select 1 where 1 in ({})", list("7", 100_000, ", "))),
        ("500 subqueries", format!("select * from {}rse_usage{}", repeat("(select * from ", 500), repeat(") t", 500))),
        ("500 cases", format!("select {}1{}", repeat("case when true then ", 500), repeat(" end", 500))),
        ("a decimal too small", "select row(0.1::decimal(38,30))".into()),
        (
            "a decimal before nothing",
            format!("select list_push_front({}::decimal(38,0), make_array())", repeat("9", 38)),
        ),
        ("nested replace", {
            let mut text = "repeat('x', 1000)".to_owned();
            for _ in 0..12 {
                text = format!("replace({text}, 'x', 'xxxxxxxx')");
            }
            format!("select length({text})")
        }),
        ("levenshtein of a million", "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))".into()),
        ("a join without an equality", "select count(*) from replicas a, replicas b, replicas c, replicas d where a.bytes < b.bytes and c.bytes < d.bytes".into()),
        ("a billion rows", "select count(*) from generate_series(1, 100000) a, generate_series(1, 10000) b".into()),
        ("a long sort", "select * from replicas a, replicas b, replicas c order by a.name || b.name || c.name limit 10".into()),
        ("repeat of a billion", "select length(repeat('x', 1000000000))".into()),
        ("an array of a billion", "select array_length(range(1, 1000000000))".into()),
    ]
    .into_iter()
    .map(|(name, statement)| (name.to_owned(), statement))
    .collect()
}

/// Those in `tests/data/attack/statements.sql`, written out.
pub(super) fn kept() -> Vec<(String, String)> {
    let all = listed::statements().into_iter();
    all.map(|(line, statement)| (line.to_owned(), statement))
        .collect()
}

/// Each statement once, on a connection that waits for its answer or for so long.
pub(super) fn waited_for(target: &Target, statements: &[(String, String)]) {
    for (name, statement) in statements {
        let Some(mut stream) = login(target.sql) else {
            continue;
        };
        let begun = Instant::now();
        let before = resident_mib(target.process).unwrap_or(0);
        forget_peak(target.process);
        let _ = stream.write_all(&frame(b'Q', format!("{statement}\0").as_bytes()));
        let mut heard = Vec::new();
        while !heard.ends_with(b"Z\0\0\0\x05I") && begun.elapsed() < target.hold * 4 {
            let more = listen(&mut stream, Duration::from_millis(100));
            heard.extend(more);
        }
        let took = begun.elapsed().as_millis();
        let peak = peak_mib(target.process).unwrap_or(0);
        if took > 3000 || peak > before + TELLING_MIB {
            println!("  {name}: {took} ms, {before} MiB before and {peak} at most");
        }
    }
}

/// The same, each left as soon as it has been asked.
pub(super) fn abandoned(target: &Target, statements: &[(String, String)], dice: &mut Dice) {
    let until = Instant::now() + target.hold * 2;
    while Instant::now() < until {
        let Some((_, statement)) = dice.one_of(statements) else {
            return;
        };
        let Some(mut stream) = login(target.sql) else {
            continue;
        };
        let _ = stream.write_all(&frame(b'Q', format!("{statement}\0").as_bytes()));
        thread::sleep(Duration::from_millis(dice.below(200)));
    }
}

/// Several at once that eat the processor until their time is over.
pub(super) fn burning(target: &Target, statements: &[(String, String)]) {
    let until = Instant::now() + target.hold * 2;
    let heavy = [
        "levenshtein of a million",
        "a join without an equality",
        "a billion rows",
        "a long sort",
    ];
    let heavy: Vec<_> = statements
        .iter()
        .filter(|(name, _)| heavy.contains(&name.as_str()))
        .collect();
    let clients: Vec<_> = heavy
        .iter()
        .cycle()
        .take(8)
        .map(|(_, statement)| {
            let (sql, statement) = (target.sql, format!("{statement}\0"));
            thread::spawn(move || {
                while Instant::now() < until {
                    let Some(mut stream) = login(sql) else { continue };
                    let _ = stream.write_all(&frame(b'Q', statement.as_bytes()));
                    listen(&mut stream, until.saturating_duration_since(Instant::now()));
                }
            })
        })
        .collect();
    for client in clients {
        let _ = client.join();
    }
}
