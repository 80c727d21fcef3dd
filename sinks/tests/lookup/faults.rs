//! What goes wrong at Rucio, and whose trouble that is.

mod credentials;
mod requests;

use crate::server::{Asked, Reply, Server, rucio};
use anyhow::{Result, anyhow, ensure};
use dbb_events::{Ask, Dependency, Did, Found, Outcome, Reason, Rse};
use dbb_sinks::lookup::{LookUp, LookUpSettings, LookUps};
use dbb_test_services::{free_port, scratch, wait_until};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

const SIDE: &str = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument"]},"dataId":{"dataId":{"instrument":"LSSTCam"}},"run":"LSSTCam/raw/all"}"#;
const LIMIT: Duration = Duration::from_secs(60);

fn settings(port: u16, folder: &std::path::Path, more: &str) -> Result<LookUpSettings> {
    let password = folder.join("password");
    fs::write(&password, "open sesame\n")?;
    let json = format!(
        r#"{{"rucio": {{"url": "http://127.0.0.1:{port}", "account": "dbb", {more}
        "auth": {{"userpass": {{"username": "me", "password_file": {password:?}}}}}}}}}"#
    );
    Ok(serde_json::from_str(&json)?)
}

/// One thread of look-ups to a server at `port`.
struct At {
    all: LookUps,
    thread: Box<dyn LookUp>,
    // The password is read from it.
    _folder: tempfile::TempDir,
}

fn at(port: u16, more: &str) -> Result<At> {
    let folder = scratch("lookup")?;
    let mut all = LookUps::open(&settings(port, folder.path(), more)?)?;
    let thread = all.threads.remove(0);
    Ok(At {
        all,
        thread,
        _folder: folder,
    })
}

fn ask(name: &str) -> Ask {
    Ask {
        did: Did::new("raw", name),
        rse: Rse::new("X"),
        url: None,
        source_url: None,
    }
}

impl At {
    fn found(&mut self, names: &[String]) -> Vec<Found> {
        let asks: Vec<Ask> = names.iter().map(|name| ask(name)).collect();
        let answers = self.thread.look_up(asks.clone());
        assert!(
            answers.iter().map(|(ask, _)| ask).eq(&asks),
            "the order is not that of the asks"
        );
        answers.into_iter().map(|(_, found)| found).collect()
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("night/{n}.fits")).collect()
}

fn known(count: usize) -> BTreeMap<String, Value> {
    let metadata = json!({"rubin_butler": "raw_file", "rubin_sidecar": SIDE, "bytes": 5});
    names(count)
        .into_iter()
        .map(|name| (name, metadata.clone()))
        .collect()
}

fn is_labelled(found: &Found) -> bool {
    matches!(found, Found::Labels(labels) if labels.contains_key("rubin_butler"))
}

/// The words of a wait, if it counts as told.
fn waits(found: &Found, counted: bool) -> Option<&str> {
    match found {
        Found::Later(Outcome::Waiting {
            dependency: Dependency::Labels,
            detail,
            counts,
            ..
        }) if *counts == counted => Some(detail),
        _ => None,
    }
}

#[test]
fn a_did_that_rucio_does_not_know_waits_and_one_without_labels_does_not() -> Result<()> {
    let mut some = known(2);
    some.insert("night/9.fits".into(), json!({"bytes": 5, "rubin_butler": null}));
    let server = Server::start(rucio(some))?;
    let mut at = at(server.port, "")?;
    let found = at.found(&[names(3), vec!["night/9.fits".into()]].concat());
    ensure!(is_labelled(&found[0]) && is_labelled(&found[1]));
    ensure!(
        waits(&found[2], true) == Some("Rucio knows no DID raw:night/2.fits"),
        "{:?}",
        found[2]
    );
    ensure!(found[3] == Found::Labels(Default::default()));
    // It may come any moment.
    server.answers(rucio(known(3)));
    ensure!(at.found(&names(3)).iter().all(is_labelled));
    Ok(())
}

#[test]
fn a_rucio_that_is_down_is_waited_for_without_counting_and_comes_back_by_itself() -> Result<()> {
    let port = free_port()?;
    let mut at = at(port, "")?;
    for _ in 0..20 {
        let found = at.found(&names(600));
        let why = waits(&found[599], false).unwrap_or_default();
        ensure!(
            why.starts_with(&format!("Rucio at http://127.0.0.1:{port} cannot be reached: ")),
            "{found:?}"
        );
    }
    // All that was 2 tries of one request, or 4 if a second has gone by.
    let stats = at.all.stats.snapshot();
    ensure!(stats.down && stats.requests <= 8, "{stats:?}");
    let folder = scratch("lookup")?;
    let settings = settings(port, folder.path(), "")?;
    let wrong = LookUps::open(&settings)?.check(&settings);
    ensure!(
        wrong.len() == 1 && wrong[0].to_string().contains("cannot be reached"),
        "{wrong:?}"
    );
    let _server = Server::at(port, rucio(known(600)))?;
    wait_until("labels are found again", LIMIT, || {
        Ok(at.found(&names(600)).iter().all(is_labelled))
    })?;
    ensure!(!at.all.stats.snapshot().down);
    Ok(())
}

#[test]
fn a_rucio_that_fails_over_everything_is_left_alone_after_a_few_requests() -> Result<()> {
    let fails = |asked: &Asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::token("token-1"),
        _ => Reply::error(
            500,
            "DatabaseException",
            "An unknown Database Exception has occurred.",
        ),
    };
    let server = Server::start(fails)?;
    let mut at = at(server.port, "")?;
    let found = at.found(&names(2000));
    ensure!(
        found
            .iter()
            .all(|found| waits(found, false).is_some_and(|why| why.contains("DatabaseException")))
    );
    ensure!(server.bulks() == 2, "{}", server.bulks());
    Ok(())
}

#[test]
fn the_one_did_that_rucio_fails_over_is_found_and_waits_alone() -> Result<()> {
    let well = rucio(known(500));
    let server =
        Server::start(
            move |asked| match asked.names().iter().any(|name| name == "night/123.fits") {
                true => Reply::new(500, "'NoneType' object is not iterable"),
                false => well(asked),
            },
        )?;
    let mut at = at(server.port, "")?;
    let found = at.found(&names(500));
    ensure!(found.iter().filter(|found| is_labelled(found)).count() == 499);
    let why = waits(&found[123], true).unwrap_or_default();
    ensure!(
        why.contains("raw:night/123.fits") && why.contains("NoneType"),
        "{:?}",
        found[123]
    );
    // Halves of halves, and one to see whether Rucio is well.
    ensure!(server.bulks() <= 20, "{}", server.bulks());
    // Alone it still does not look as if Rucio were down.
    ensure!(waits(&at.found(&names(124)[123..])[0], true).is_some());
    ensure!(!at.all.stats.snapshot().down);
    Ok(())
}

#[test]
fn a_name_that_rucio_does_not_accept_is_that_files_trouble() -> Result<()> {
    let well = rucio(known(500));
    let server = Server::start(
        move |asked| match asked.names().iter().any(|name| name.contains(' ')) {
            true => Reply::error(
                500,
                "InvalidObject",
                "Problem validating dids: 'a b' does not match",
            ),
            false => well(asked),
        },
    )?;
    let mut at = at(server.port, "")?;
    let found = at.found(&[vec!["a b".into()], names(500)].concat());
    ensure!(found[1..].iter().all(is_labelled));
    ensure!(
        waits(&found[0], true).is_some_and(|why| why.contains("does not accept a name")),
        "{:?}",
        found[0]
    );
    Ok(())
}

#[test]
fn metadata_that_cannot_be_read_are_that_files_trouble() -> Result<()> {
    let well = rucio(known(100));
    let server = Server::start(move |asked| {
        let mut reply = well(asked);
        reply.body =
            reply
                .body
                .lines()
                .fold(String::new(), |body, line| match line.contains("night/7.fits") {
                    true => body + &line.replace("\"bytes\":5", "\"bytes\":NaN") + "\n",
                    false => body + line + "\n",
                });
        reply
    })?;
    let mut at = at(server.port, "")?;
    let found = at.found(&names(101));
    ensure!(found.iter().filter(|found| is_labelled(found)).count() == 99);
    ensure!(
        waits(&found[7], true).is_some_and(|why| why.contains("cannot be read")),
        "{:?}",
        found[7]
    );
    ensure!(waits(&found[100], true) == Some("Rucio knows no DID raw:night/100.fits"));
    ensure!(at.all.stats.snapshot().lines_bad > 0);
    Ok(())
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again_in_parts() -> Result<()> {
    let well = rucio(known(100));
    let server = Server::start(move |asked| {
        let mut reply = well(asked);
        // As a proxy that does not like long answers.
        reply.breaks = asked.names().len() > 30;
        reply
    })?;
    let mut at = at(server.port, "")?;
    ensure!(at.found(&names(100)).iter().all(is_labelled));
    Ok(())
}

#[test]
fn a_rucio_too_slow_for_so_many_is_asked_for_fewer() -> Result<()> {
    let well = rucio(known(64));
    let server = Server::start(move |asked| {
        let mut reply = well(asked);
        if asked.names().len() > 20 {
            reply.after = Duration::from_secs(5);
        }
        reply
    })?;
    let mut at = at(server.port, r#""timeout_s": 1,"#)?;
    let found = at.found(&names(64));
    ensure!(
        waits(&found[0], false).is_some_and(|why| why.contains("did not answer within 1 s")),
        "{found:?}"
    );
    wait_until("fewer are asked for", LIMIT, || {
        Ok(at.found(&names(64)).iter().all(is_labelled))
    })?;
    Ok(())
}

#[test]
fn a_busy_rucio_is_left_alone_for_as_long_as_it_asks() -> Result<()> {
    let busy = |asked: &Asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::token("token-1"),
        _ => Reply::new(429, "slow down").with("Retry-After", "3600"),
    };
    let server = Server::start(busy)?;
    let mut at = at(server.port, "")?;
    ensure!(
        waits(&at.found(&names(1))[0], false)
            .is_some_and(|why| why.contains("is busy (status 429): slow down"))
    );
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(waits(&at.found(&names(1))[0], false).is_some());
    ensure!(server.bulks() == 1);
    Ok(())
}

#[test]
fn metadata_that_are_no_dataset_are_refused_and_others_are_not() -> Result<()> {
    let mut some = known(3);
    some.insert(
        "night/1.fits".into(),
        json!({"rubin_butler": "raw_file", "rubin_sidecar": "{\"id\": 5}"}),
    );
    some.insert(
        "night/2.fits".into(),
        json!({"rubin_butler": "row_file", "rubin_sidecar": SIDE}),
    );
    let server = Server::start(rucio(some))?;
    let found = at(server.port, "")?.found(&names(3));
    ensure!(is_labelled(&found[0]));
    let refused =
        |found: &Found, reason| matches!(found, Found::Refused(refusal) if refusal.reason == reason);
    ensure!(
        refused(&found[1], Reason::BadSidecar) && refused(&found[2], Reason::UnknownKind),
        "{found:?}"
    );
    Ok(())
}
