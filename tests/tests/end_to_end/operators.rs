//! What an operator does and sees: late files that wake what waits, dead letters mended, stories, exit statuses.

use crate::{DBB, site};
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::{Filter, State};
use dbb_test_services::free_port;
use dbb_tests::{Site, books::Again};
use serde_json::Value;
use std::{collections::BTreeSet, fs};

#[test]
fn a_late_dimension_file_wakes_exactly_what_waited_for_it() -> Result<()> {
    let mut site = site("--files 40 --faults none")?;
    // Nothing comes back by its timer here.
    site.set("repositories.main.patience.retry_s=3000");
    let late = hold_back_late_dimension_files(&site)?;
    ensure!(late.len() == 2, "there are {} late dimension files", late.len());
    let expected = site.expected()?;
    let waiting: BTreeSet<String> = expected
        .events
        .iter()
        .filter(|e| e.waits)
        .filter_map(|e| e.did.clone())
        .collect();

    site.run_once(&[])?.with(0)?;
    let first = waiting_now(&site)?;
    ensure!(
        first.keys_are(&waiting),
        "{:?} wait instead of {waiting:?}",
        first.0
    );

    let events = site.path().join("events");
    fs::write(events.join("0002.ndjson"), &late[0])?;
    site.run_once(&[])?.with(0)?;
    let zip: BTreeSet<String> = waiting
        .iter()
        .filter(|did| did.ends_with(".zip"))
        .cloned()
        .collect();
    let second = waiting_now(&site)?;
    ensure!(second.keys_are(&zip), "{:?} wait instead of {zip:?}", second.0);
    ensure!(
        second.0.iter().all(|row| first.0.contains(row)),
        "what did not wait for that file was tried: {first:?}, {second:?}"
    );

    fs::write(events.join("0003.ndjson"), &late[1])?;
    site.run_once(&[])?.with(0)?;
    ensure!(waiting_now(&site)?.0.is_empty(), "something waits for nothing");
    site.prove_butler()?;
    site.prove_ledger(Again::Never)
}

/// Takes the last two dimension files out of the recording; gives their lines.
fn hold_back_late_dimension_files(site: &Site) -> Result<Vec<String>> {
    let path = site.path().join("events/0001.ndjson");
    let text = fs::read_to_string(&path)?;
    let mut lines: Vec<&str> = text.lines().collect();
    let mut late = Vec::new();
    while late.len() < 2 {
        let at = lines
            .iter()
            .rposition(|line| line.contains("dim_file"))
            .context("no dimension files")?;
        let line = lines.remove(at);
        // A repeat of one that is held back would bring it all the same.
        lines.retain(|other| *other != line);
        late.insert(0, format!("{line}\n"));
    }
    fs::write(path, lines.join("\n") + "\n")?;
    Ok(late)
}

/// Files that wait, with the time at which they came to stand so.
#[derive(Debug)]
struct Waiting(BTreeSet<(String, i64)>);

impl Waiting {
    fn keys_are(&self, names: &BTreeSet<String>) -> bool {
        self.0.iter().map(|(name, _)| name).eq(names)
    }
}

fn waiting_now(site: &Site) -> Result<Waiting> {
    let path = site.ledger_url().trim_start_matches("sqlite:");
    let connection = rusqlite::Connection::open(path)?;
    let mut statement = connection.prepare(
        "SELECT s.word || ':' || d.name, e.updated_at FROM events e JOIN dids d ON d.id = e.did \
         JOIN words s ON s.id = d.scope WHERE e.outcome = 5",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Waiting(rows.collect::<Result<_, _>>()?))
}

#[test]
fn a_dead_letter_is_ingested_once_its_cause_is_mended() -> Result<()> {
    let faults = "unknown_prefix,missing_file,unmapped,wrong_size,empty_sidecar,no_dimension_record";
    let mut site = site(&format!("--files 12 --faults {faults} --late 0 --zips 0"))?;
    for impatient in ["file_missing_attempts=1", "retry_s=1", "max_wait_s=1"] {
        site.set(format!("repositories.main.patience.{impatient}"));
    }

    site.run_once(&[])?.with(1)?;
    site.prove(Again::Never)?;

    let (status, counts, _) = site.dbb(&["dead-letters", "list"], &["--by", "reason", "--json"])?;
    let counts: Value = serde_json::from_str(&counts)?;
    let reasons: BTreeSet<&str> = counts
        .as_object()
        .context("no counts")?
        .keys()
        .map(String::as_str)
        .collect();
    let wanted = [
        "bad_sidecar",
        "file_missing",
        "size_mismatch",
        "unknown_prefix",
        "unmapped",
        "waited_too_long",
    ];
    ensure!(status == 0 && reasons.into_iter().eq(wanted), "{counts}");
    let (status, letters, _) = site.dbb(&["dead-letters", "list"], &["--json"])?;
    ensure!(status == 0);
    let letters: Vec<Value> = serde_json::from_str(&letters)?;
    let of = |reason: &str| {
        letters
            .iter()
            .find(|letter| letter["reason"] == reason)
            .with_context(|| format!("no {reason} in the list"))
    };
    for letter in &letters {
        ensure!(
            ["detail", "reason", "body", "place"]
                .iter()
                .all(|key| letter[*key].to_string().len() > 4),
            "a dead letter must have a reason, a sentence, its place and its event: {letter}"
        );
    }
    let missing = of("file_missing")?;
    let id = missing["id"].to_string();
    let (_, shown, _) = site.dbb(&["dead-letters", "show"], &[&id])?;
    ensure!(
        shown.contains("file_missing") && shown.contains("transfer-done"),
        "{shown}"
    );
    let (_, exported, _) = site.dbb(&["dead-letters", "export"], &["--events"])?;
    ensure!(exported.lines().count() == letters.len(), "{exported}");

    // The story of one, with the command that goes on; an unknown file is told apart.
    let did = format!("{}:{}", text(missing, "scope"), text(missing, "name"));
    let (status, story, _) = site.dbb(&["explain"], &[&did])?;
    ensure!(
        status == 0 && story.contains(&format!("dead-letters retry {} {id}", site.config().display())),
        "{story}"
    );
    let (status, story, _) = site.dbb(&["explain"], &[&text(missing, "url"), "--json"])?;
    ensure!(
        status == 0 && serde_json::from_str::<Value>(&story)?.is_array(),
        "{story}"
    );
    let (status, _, complaint) = site.dbb(&["explain"], &["raw:never/seen"])?;
    ensure!(status == 1 && complaint.contains("never/seen"), "{complaint}");

    // Mended: a prefix in the configuration, and the file put where it belongs.
    mend_the_prefix(&site)?;
    let body: Value = serde_json::from_str(&text(missing, "body"))?;
    let bytes = body["payload"]["bytes"].as_u64().context("no size")?;
    fs::write(
        text(missing, "uri").trim_start_matches("file://"),
        vec![b' '; bytes as usize],
    )?;
    let away = of("unknown_prefix")?;

    let (status, told, _) = site.dbb(&["dead-letters", "retry"], &["--all"])?;
    ensure!(
        status == 0 && told.starts_with(&format!("{} to be tried again", letters.len())),
        "{told}"
    );
    // What was not mended is refused again.
    site.run_once(&[])?.with(1)?;
    for letter in [missing, away] {
        let did = format!("{}:{}", text(letter, "scope"), text(letter, "name"));
        let (_, story, _) = site.dbb(&["explain"], &[&did, "--json"])?;
        let story: Value = serde_json::from_str(&story)?;
        let events = story[0]["events"].as_array().context("no events")?;
        ensure!(
            events.len() == 1 && events[0]["outcome"] == "ingested",
            "{did} is not ingested, or is there twice: {story}"
        );
    }
    ensure!(
        site.count(|state| state == State::Refused)? == 4,
        "what was not mended is refused again"
    );
    Ok(())
}

/// A record is read again, because offsets were lost, under a configuration that knows more than at first: its dead
/// letter has no target, and its file has its outcome.
#[test]
fn a_dead_letter_of_an_event_that_was_read_again_and_registered_is_over() -> Result<()> {
    let mut site = site("--files 12 --faults unknown_prefix --late 0 --zips 0")?;
    site.set("source.log.follow=false");
    site.run_once(&[])?.with(1)?;
    let path = site.ledger_url().trim_start_matches("sqlite:").to_owned();
    let ledger = || -> Result<rusqlite::Connection> {
        let ledger = rusqlite::Connection::open(&path)?;
        ledger.busy_timeout(std::time::Duration::from_secs(20))?;
        Ok(ledger)
    };
    ledger()?.execute_batch("CREATE TABLE kept AS SELECT * FROM events WHERE outcome = 6")?;
    mend_the_prefix(&site)?;

    ledger()?.execute_batch("UPDATE offsets SET handled_to = NULL")?;
    site.run_once(&[])?.with(0)?;
    let letters = || Ok::<_, anyhow::Error>(site.ledger()?.dead_letter_count()?);
    ensure!(letters()? == 0, "its dead letter has no cause any more");

    // As programs before this one left it: they kept both rows.
    ledger()?.execute_batch("INSERT INTO events SELECT * FROM kept; DROP TABLE kept")?;
    ensure!(letters()? == 1);
    let (status, told, _) = site.dbb(&["dead-letters", "retry"], &["--reason", "unknown_prefix"])?;
    ensure!(status == 0 && told.starts_with("1 to be tried again"), "{told}");
    let ended = site.run_once(&[])?.with(0)?;
    ensure!(!ended.text.contains("again and again"), "{}", ended.text);
    ensure!(
        site.count(|state| !state.is_settled())? == 0,
        "its retry has no end"
    );
    Ok(())
}

/// Adds the prefix that is missing, and puts the file in its place.
fn mend_the_prefix(site: &Site) -> Result<()> {
    site.edit_config(|config| {
        let elsewhere = "davs://elsewhere.example.org:443/rucio/butler_disk/";
        let folder = site.path().join("rse/DEMO_BUTLER_DISK/");
        let more = serde_json::json!({"from": elsewhere, "to": folder}).to_string();
        config.replacen(
            "\"DEMO_BUTLER_DISK\": {\"prefixes\": [",
            &format!("\"DEMO_BUTLER_DISK\": {{\"prefixes\": [{more}, "),
            1,
        )
    })?;
    let letters = site.ledger()?.dead_letters(&Filter::default(), 10)?;
    let away = letters
        .iter()
        .find(|row| row.reason.as_deref() == Some("unknown_prefix"))
        .context("no unknown prefix")?;
    let body: Value = serde_json::from_slice(away.body.as_deref().context("no event")?)?;
    let path = body["payload"]["dst-url"]
        .as_str()
        .and_then(|url| url.split("/butler_disk/").nth(1))
        .context("no path")?;
    let bytes = body["payload"]["bytes"].as_u64().context("no size")?;
    let path = site.path().join("rse/DEMO_BUTLER_DISK").join(path);
    Ok(fs::write(path, vec![b' '; bytes as usize])?)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_run_that_is_to_end_once_does_not_wait_for_ever_for_what_never_comes() -> Result<()> {
    let mut site = site("--files 6 --faults no_dimension_record --late 0 --zips 0")?;
    for soon in ["retry_s=1", "retry_max_s=1"] {
        site.set(format!("repositories.main.patience.{soon}"));
    }
    site.run_once(&[])?.with(0)?;
    ensure!(
        site.count(|state| state == State::Waiting)? == 1,
        "it waits no more"
    );
    site.prove(Again::Never)
}

#[test]
fn check_tells_what_recorded_events_could_not_be_routed() -> Result<()> {
    let site = site("--files 6 --faults unmapped,wrong_topic,unknown_prefix,truncated --zips 0")?;
    let (status, ticks, _) = site.dbb(&["check"], &[])?;
    ensure!(status == 0, "{ticks}");
    let events = site.path().join("events").display().to_string();
    let (status, ticks, _) = site.dbb(&["check"], &[&events])?;
    ensure!(status == 1, "{ticks}");
    for word in [
        "unmapped",
        "wrong_topic",
        "unknown_prefix",
        "unreadable",
        "nowhere",
    ] {
        ensure!(ticks.contains(word), "{word} is not told:\n{ticks}");
    }
    // Nothing has landed there yet.
    fs::create_dir_all(site.path().join("rse/DEMO_COPY_DISK"))?;
    let (status, ticks, _) = site.dbb(&["check"], &["--connect"])?;
    ensure!(status == 0 && ticks.contains("Butler 30."), "{ticks}");
    Ok(())
}

#[test]
fn exit_statuses_say_whether_waiting_helps() -> Result<()> {
    let mut site = Site::unmade(DBB, &[])?;
    site.unset_all();
    let config = |source: &str, more: &str| {
        format!(
            "source: {source}\nrses: {{A: {{prefixes: [{{from: 'davs://h/', to: /none/}}]}}}}\n\
             routes: [{{rse: A, repositories: [main]}}]\nrepositories: {{main: {{butler: /none}}}}\n\
             http: {{listen: null}}\n{more}"
        )
    };
    let log = "{log: {paths: [/none]}}";
    let closed = free_port()?;

    fs::write(site.config(), config(log, "lager: {}\n"))?;
    let ended = site.run_once(&[])?.with(78)?;
    ensure!(
        ended.text.contains("did you mean `ledger`") || ended.text.contains("lager"),
        "{}",
        ended.text
    );
    fs::write(
        site.config(),
        config(
            log,
            &format!("ledger: {{url: 'postgresql://nobody@127.0.0.1:{closed}/x'}}\n"),
        ),
    )?;
    site.run_once(&[])?.with(69)?;
    fs::write(
        site.config(),
        config(
            &format!("{{kafka: {{brokers: ['127.0.0.1:{closed}'], group_id: g, topics: [t]}}}}"),
            "",
        ),
    )?;
    site.run_once(&[])?.with(69)?;
    let (status, _, complaint) = site.dbb(&["run"], &["--no-such-option"])?;
    ensure!(status == 2, "{complaint}");
    let (status, _, complaint) =
        site.dbb(&["dead-letters", "list"], &["--set", "ledger.url=sqlite:/none/x"])?;
    ensure!(status == 78, "{complaint}");
    Ok(())
}
