//! Answers: what a process says in SQL, within a time limit: one that is stopped says nothing.

use crate::{
    fold::{ALL, Answer, ask, connect, fold, offsets},
    recording::Appended,
};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, sync::mpsc, thread, time::Duration};

/// The offset of the next record of each topic and partition.
pub(super) type Bound = BTreeMap<(String, i32), i64>;

/// Longest that an answer may take, to be one.
const LIMIT: Duration = Duration::from_secs(20);

/// The views whose rows follow from the records alone.
const VIEWS: [&str; 8] = [
    "rse_usage",
    "replicas",
    "transfers",
    "failures",
    "rules",
    "lost_files",
    "dataset_progress",
    "placement",
];

fn asked<T: Send + 'static>(
    sql: &str,
    question: impl FnOnce(&mut postgres::Client) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answers, answered) = mpsc::channel();
    let sql = sql.to_owned();
    // Left behind when it is too late: it ends with the process that it asks.
    thread::spawn(move || {
        let answer = connect(&sql).and_then(|mut client| question(&mut client));
        let _ = answers.send(answer);
    });
    answered.recv_timeout(LIMIT).context("no answer")?
}

/// What a process shows now: the offsets, and what is wrong with the rows, if anything is.
pub(super) fn look(sql: &str, appended: &mut Appended) -> Result<(Bound, Option<String>)> {
    let mut answer = asked(sql, |client| ask(client, ALL))?;
    let bound = offsets(&mut answer)?;
    let right = fold(appended.below(&bound)?, &bound);
    let wrong = (answer != right).then(|| {
        format!(
            "at {bound:?}: {} rows are not in the fold, such as {:?}; {} are missing, such as {:?}",
            answer.difference(&right).count(),
            answer.difference(&right).next(),
            right.difference(&answer).count(),
            right.difference(&answer).next(),
        )
    });
    Ok((bound, wrong))
}

/// How many records are in the views.
pub(super) fn records(sql: &str) -> Result<i64> {
    let mut answer = asked(sql, |client| {
        ask(
            client,
            "select 'offset' as what, stream as a, cast(\"partition\" as varchar) as b, '' as c, '' as d, \
             next_offset as n from as_of() where stream is not null",
        )
    })?;
    Ok(offsets(&mut answer)?.values().sum())
}

/// Every view that follows from the records.
pub(super) fn all(sql: &str) -> Result<BTreeMap<&'static str, Answer>> {
    VIEWS
        .into_iter()
        .map(|view| {
            let rows = asked(sql, move |client| ask(client, &format!("select * from {view}")))
                .with_context(|| format!("in {view}"))?;
            Ok((view, rows))
        })
        .collect()
}

/// The same views twice.
pub(super) fn same(
    undisturbed: &BTreeMap<&'static str, Answer>,
    here: &BTreeMap<&'static str, Answer>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (view, wanted) in undisturbed {
        let rows = &here[view];
        if rows != wanted {
            differences.push(format!(
                "{view} has {} rows of which an undisturbed run has none, such as {:?}, and lacks {}, such as {:?}",
                rows.difference(wanted).count(),
                rows.difference(wanted).next(),
                wanted.difference(rows).count(),
                wanted.difference(rows).next(),
            ));
        }
    }
    differences
}

/// Fails unless there is anything to compare.
pub(super) fn ensure_any(views: &BTreeMap<&'static str, Answer>) -> Result<()> {
    ensure!(
        !views["replicas"].is_empty(),
        "the undisturbed run has no replicas"
    );
    Ok(())
}
