//! What goes wrong at Rucio, and whose trouble that is.

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
fn a_thousand_files_are_three_requests_and_then_none() -> Result<()> {
    let server = Server::start(rucio(known(1000)))?;
    let mut at = at(server.port, "")?;
    ensure!(at.found(&names(1000)).iter().all(is_labelled));
    // A token, and two of 500.
    ensure!(server.asked().len() == 3);
    let first = &server.asked()[1];
    ensure!(first.names().len() == 500 && first.header("x-rucio-auth-token") == "token-1");
    let body: Value = serde_json::from_slice(&first.body)?;
    ensure!(body["plugin"] == "ALL" && body["inherit"] == false);
    let login = &server.asked()[0];
    ensure!(login.header("x-rucio-account") == "dbb" && login.header("x-rucio-username") == "me");
    ensure!(login.header("x-rucio-password") == "open sesame");

    ensure!(at.found(&names(1000)).iter().all(is_labelled));
    ensure!(at.all.cache.get(&Did::new("raw", "night/7.fits")).is_some());
    let stats = at.all.stats.snapshot();
    ensure!(
        (stats.requests, stats.dids, stats.cache_hits, stats.operator_hits) == (3, 1000, 1000, 1),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn ten_thousand_cold_files_are_two_requests_a_thousand_by_several_threads() -> Result<()> {
    let well = rucio(known(10_000));
    let server = Server::start(move |asked| {
        let mut reply = well(asked);
        reply.after = Duration::from_millis(20);
        reply
    })?;
    let folder = scratch("lookup")?;
    let all = LookUps::open(&settings(server.port, folder.path(), "")?)?;
    let start = std::time::Instant::now();
    let threads = all.threads.into_iter().enumerate().map(|(n, mut thread)| {
        let asks: Vec<Ask> = names(10_000)[n * 2500..(n + 1) * 2500]
            .iter()
            .map(|name| ask(name))
            .collect();
        std::thread::spawn(move || thread.look_up(asks))
    });
    for thread in threads.collect::<Vec<_>>() {
        let answers = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        ensure!(answers.iter().all(|(_, found)| is_labelled(found)));
    }
    println!("10000 DIDs, cold: {:?}", start.elapsed());
    let stats = all.stats.snapshot();
    ensure!(
        (stats.requests, stats.logins, stats.asked) == (21, 1, 10_000),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn a_file_that_landed_twice_is_asked_for_once() -> Result<()> {
    let server = Server::start(rucio(known(1)))?;
    let mut at = at(server.port, "")?;
    let twice = [names(1), names(1)].concat();
    ensure!(at.found(&twice).iter().all(is_labelled));
    ensure!(server.asked()[1].names().len() == 1);
    Ok(())
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
fn a_token_that_is_refused_is_renewed() -> Result<()> {
    let well = rucio(known(10));
    let logins = AtomicUsize::new(0);
    let server = Server::start(move |asked: &Asked| {
        let login = || logins.fetch_add(1, Ordering::Relaxed);
        match (asked.path.as_str(), asked.header("x-rucio-auth-token")) {
            ("/auth/userpass", _) => Reply::token(["old", "new"][login().min(1)]),
            (_, "new") => well(asked),
            _ => Reply::error(
                401,
                "CannotAuthenticate",
                "Cannot authenticate with given credentials",
            ),
        }
    })?;
    let mut at = at(server.port, "")?;
    ensure!(at.found(&names(10)).iter().all(is_labelled));
    let stats = at.all.stats.snapshot();
    ensure!(
        (stats.logins, stats.requests, stats.down) == (2, 4, false),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn refused_credentials_are_named_with_what_to_do_and_never_shown() -> Result<()> {
    let server = Server::start(|asked: &Asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::error(
            401,
            "CannotAuthenticate",
            "Cannot authenticate to account dbb with given credentials",
        ),
        _ => Reply::new(200, ""),
    })?;
    let mut at = at(server.port, "")?;
    let found = at.found(&names(3));
    let why = waits(&found[0], false).unwrap_or_default();
    for part in [
        "account `dbb`",
        "user name `me`",
        "CannotAuthenticate",
        "mend the credentials",
    ] {
        ensure!(why.contains(part), "{why}");
    }
    ensure!(
        !why.contains("sesame")
            && !format!("{:?} {:?}", at.all.rucio, at.all.stats.snapshot()).contains("sesame")
    );
    at.found(&names(3));
    // An account is not locked by being tried again and again.
    ensure!(server.asked().len() == 1);
    Ok(())
}

#[test]
fn a_token_in_a_file_is_read_again_when_it_was_renewed_there() -> Result<()> {
    let well = rucio(known(10));
    let server = Server::start(move |asked| match asked.header("x-rucio-auth-token") {
        "second" => well(asked),
        _ => Reply::error(
            401,
            "CannotAuthenticate",
            "Cannot authenticate with given credentials",
        ),
    })?;
    let folder = scratch("lookup")?;
    let token = folder.path().join("token");
    fs::write(&token, "second\n")?;
    let json = format!(
        r#"{{"rucio": {{"url": "http://127.0.0.1:{}", "account": "dbb", "auth": {{"token_file": {token:?}}}}}}}"#,
        server.port
    );
    let mut all = LookUps::open(&serde_json::from_str(&json)?)?;
    let mut at = At {
        thread: all.threads.remove(0),
        all,
        _folder: folder,
    };
    ensure!(at.found(&names(5)).iter().all(is_labelled));
    fs::write(&token, "third\n")?;
    let found = at.found(&names(10)[5..]);
    ensure!(
        waits(&found[0], false).is_some_and(|why| why.contains("token of file `")),
        "{found:?}"
    );
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

#[test]
fn a_redirection_is_not_followed_with_the_token() -> Result<()> {
    let elsewhere = Server::start(|_: &Asked| Reply::new(200, ""))?;
    let to = format!("http://127.0.0.1:{}/dids/bulkmeta", elsewhere.port);
    let server = Server::start(move |asked: &Asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::token("token-1"),
        _ => Reply::new(302, "").with("Location", to.clone()),
    })?;
    let found = at(server.port, "")?.found(&names(1));
    ensure!(
        waits(&found[0], false).is_some_and(|why| why.contains("status 302")),
        "{found:?}"
    );
    ensure!(elsewhere.asked().is_empty());
    Ok(())
}

#[test]
fn requests_keep_to_their_pace_whichever_thread_makes_them() -> Result<()> {
    let server = Server::start(rucio(known(40)))?;
    let folder = scratch("lookup")?;
    let settings = settings(
        server.port,
        folder.path(),
        r#""requests_per_second": 10, "bulk": 2,"#,
    )?;
    let all = LookUps::open(&settings)?;
    let start = std::time::Instant::now();
    let threads: Vec<_> = all
        .threads
        .into_iter()
        .enumerate()
        .map(|(n, mut thread)| {
            let asks: Vec<Ask> = names(40)[n * 10..(n + 1) * 10]
                .iter()
                .map(|name| ask(name))
                .collect();
            std::thread::spawn(move || thread.look_up(asks))
        })
        .collect();
    for thread in threads {
        let answers = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        ensure!(answers.iter().all(|(_, found)| is_labelled(found)));
    }
    // A token and 20 requests, 5 of them at once.
    ensure!(server.asked().len() == 21, "{}", server.asked().len());
    ensure!(
        start.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
