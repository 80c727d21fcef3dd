//! `dbb explain CONFIG WHAT`: the whole story of one file, where its replicas are, and what to do next.

mod kept;
mod published;
mod replicas;

use super::{ConfigFile, Exit, exit::Told, open_ledger, output, rows};
use clap::Args;
use dbb_events::{Did, Micros, decode};
use dbb_sinks::ledger::{Attempt, FileRow, Row, Selector, State, Story};
use published::FoundRecords;
use replicas::Found;
use serde_json::{Value, json};
use std::{fmt::Write as _, path::Path, time::Duration};
use uuid::Uuid;

/// Arguments of `dbb explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The file: SCOPE:NAME, the UUID of a dataset in it, or a URL or path of it
    #[arg(value_name = "SCOPE:NAME|UUID|URL")]
    what: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tells it.
pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let selector = selector(&args.what)?;
    let config = args.file.load()?.config;
    let mut ledger = open_ledger(&config)?;
    let stories = ledger.explain(&selector)?;
    let now = super::now();
    let mut dids: Vec<Did> = stories.iter().map(|story| story.did.clone()).collect();
    if let (Selector::Did(did), true) = (&selector, dids.is_empty()) {
        dids.push(did.clone());
    }
    let published = FoundRecords::find(&config, &selector, &dids);
    let others = published.files().filter(|did| !dids.contains(did));
    dids.extend(others.cloned().collect::<Vec<_>>());
    let replicas: Vec<Found> = dids.iter().map(|did| replicas::find(&config, did)).collect();
    let is_published = published.files().next().is_some();
    let is_nothing = stories.is_empty() && !is_published && replicas.iter().all(Found::is_nothing);
    let kept = kept::kept(&config, &ledger.counts()?);
    if args.json && is_nothing {
        output::json(&Vec::<Value>::new())?;
    } else if args.json {
        let told = dids.iter().zip(&replicas).enumerate().map(|(at, (did, found))| {
            let story = stories.get(at);
            let mut value = story.map_or_else(
                || json!({"scope": did.scope, "name": did.name, "files": [], "events": []}),
                |story| as_json(story, &args.file.config, now),
            );
            published.add_to(did, &mut value);
            found.add_to(&mut value);
            if story.is_none() {
                value["kept"] = json!(kept);
            }
            value
        });
        output::json(&told.collect::<Vec<_>>())?;
    }
    if is_nothing {
        let message = format!("the ledger does not know `{}`", args.what);
        let published = published
            .kept()
            .map(|kept| format!("{kept}; "))
            .unwrap_or_default();
        let hint = format!("nothing that is kept tells of it: {published}{kept}");
        return Err(Told::new(Exit::Problems, message, hint).into());
    }
    if !args.json {
        let texts = dids.iter().zip(&replicas).enumerate().map(|(at, (did, found))| {
            let story = stories.get(at);
            let page = story.map_or_else(
                || {
                    format!(
                        "{}\n\nnot in the ledger: {}\n",
                        rows::shown(&did.to_string()),
                        rows::shown(&kept)
                    )
                },
                |story| text(story, &args.file.config, now),
            );
            let published = published.text(did);
            let between = if published.is_empty() { "" } else { "\n" };
            format!("{page}{between}{published}\n{found}")
        });
        output::print(&texts.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Ok)
}

/// What `what` names.
fn selector(what: &str) -> Result<Selector, Told> {
    if let Ok(uuid) = what.parse::<Uuid>() {
        return Ok(Selector::Uuid(uuid));
    }
    if what.contains("://") || what.starts_with('/') {
        return Ok(Selector::Url(what.to_owned()));
    }
    match what.split_once(':') {
        Some((scope, name)) if !scope.is_empty() && !name.is_empty() => {
            Ok(Selector::Did(Did::new(scope, name)))
        }
        _ => Err(Told::new(
            Exit::Usage,
            format!("`{what}` is neither SCOPE:NAME nor a UUID nor a URL"),
            "write for instance raw:LSSTCam/20260401/file.fits",
        )),
    }
}

/// What an operator can do about an event now; `None` where nothing need be done.
fn next(row: &Row, config: &Path, now: Micros) -> Option<String> {
    let config = config.display();
    match row.outcome {
        State::Refused => Some(format!(
            "mend the cause, then: dbb dead-letters retry {config} {}   (the event: dbb dead-letters show {config} {})",
            row.id, row.id
        )),
        State::Waiting => {
            let due = row.not_before.is_some_and(|at| at <= now);
            Some(match row.waits_for.as_deref() {
                _ if due => "it is due: a running dbb tries it within moments".into(),
                None | Some("time") => "nothing: it is tried again by itself".into(),
                Some("repository") => format!("see what is wrong with it: dbb check {config} --connect"),
                Some("labels" | "released") => {
                    format!("see why Rucio does not answer: dbb check {config} --connect")
                }
                Some("embargo") => format!(
                    "if it may be known there: dbb hub release {config} --did {}",
                    row.did.as_ref().map(ToString::to_string).unwrap_or_default()
                ),
                Some(key) => match key.split_once(':') {
                    Some(("file", uri)) => {
                        format!(
                            "it goes on by itself when that file comes; did it land? dbb explain {config} {uri}"
                        )
                    }
                    _ => "it goes on by itself when a dimension file with that record arrives".into(),
                },
            })
        }
        _ => None,
    }
}

fn as_json(story: &Story, config: &Path, now: Micros) -> Value {
    let events = story.events.iter().map(|(row, history)| {
        let mut value = rows::row(row);
        value["history"] = history.iter().map(rows::attempt).collect();
        value["landed_at"] = json!(landed_at(row).map(|at| at.to_string()));
        value["next"] = json!(next(row, config, now));
        value
    });
    json!({
        "scope": story.did.scope,
        "name": story.did.name,
        "files": story.files.iter().map(rows::file).collect::<Vec<_>>(),
        "events": events.collect::<Vec<_>>(),
    })
}

fn text(story: &Story, config: &Path, now: Micros) -> String {
    let mut page = format!("{}\n", rows::shown(&story.did.to_string()));
    for file in &story.files {
        page.push('\n');
        push_file(&mut page, file);
    }
    for (row, history) in &story.events {
        page.push('\n');
        push_event(&mut page, row, history, now);
        if let Some(next) = next(row, config, now) {
            // A string cannot fail to take more.
            let _ = writeln!(page, "  next: {}", rows::shown(&next));
        }
    }
    page
}

fn push_file(page: &mut String, file: &FileRow) {
    let _ = writeln!(
        page,
        "in {}: {} since {}",
        file.target, file.state, file.updated_at
    );
    if let Some(uri) = &file.uri {
        let _ = writeln!(page, "  known as  {}", rows::shown(uri));
    }
    for (i, uuid) in file.uuids.iter().enumerate() {
        // A zip may hold thousands.
        if i == 10 {
            let _ = writeln!(
                page,
                "            and {} more (--json has all)",
                file.uuids.len() - i
            );
            break;
        }
        let _ = writeln!(page, "  {}  {uuid}", if i == 0 { "dataset " } else { "        " });
    }
}

fn push_event(page: &mut String, row: &Row, history: &[Attempt], now: Micros) {
    let word = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or("event").to_owned();
    let target = if row.target.is_empty() {
        "(not routed)"
    } else {
        &row.target
    };
    let _ = writeln!(page, "{} {} for {target}", word(&row.event_type), row.event);
    let mut line = |at: Option<Micros>, what: String| {
        if let Some(at) = at {
            let _ = writeln!(page, "  {at}  {}", rows::shown(&what));
        }
    };
    line(landed_at(row), "landed".into());
    if let Some(rse) = &row.rse {
        let url = row
            .url
            .as_deref()
            .map(|url| format!(" as {url}"))
            .unwrap_or_default();
        line(row.created_at, format!("announced at {rse}{url}"));
    }
    line(row.appended_at, format!("appended to {}", row.place.stream));
    line(Some(row.first_seen_at), format!("read from {}", row.place));
    for attempt in history {
        let why = sentence(
            attempt.reason.as_deref(),
            attempt.waits_for.as_deref(),
            attempt.detail.as_deref(),
        );
        line(
            Some(attempt.at),
            format!("{}{why}{}", attempt.outcome, took(attempt.took)),
        );
    }
    let why = sentence(
        row.reason.as_deref(),
        row.waits_for.as_deref(),
        row.detail.as_deref(),
    );
    let verified = row.verified.as_deref().filter(|_| row.outcome.is_registered());
    let verified = verified.map(|v| format!(" (verified: {v})")).unwrap_or_default();
    let took = took(row.took);
    line(
        Some(row.updated_at),
        format!("{}{why}{verified}{took}", row.outcome),
    );
    if row.outcome == State::Waiting {
        let tries = match row.attempts {
            0 => "no attempt has counted yet".into(),
            n => format!("attempts that count: {n}"),
        };
        match row.not_before {
            Some(at) if at > now => line(Some(at), format!("next try, if not before; {tries}")),
            Some(at) => line(Some(at), format!("due since; {tries}")),
            None => {}
        }
    }
    if row.tries > 1 {
        let _ = writeln!(page, "  attempts made: {}", row.tries);
    }
}

/// How long an attempt took, if one was made.
fn took(took: Option<Duration>) -> String {
    took.map(|took| format!(", took {:.3} s", took.as_secs_f64()))
        .unwrap_or_default()
}

/// When the file landed; known while its event is kept, which is as long as something may still be done.
fn landed_at(row: &Row) -> Option<Micros> {
    decode(row.body.as_deref()?).ok()?.payload.landed_at()
}

fn sentence(reason: Option<&str>, waits_for: Option<&str>, detail: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(reason) = reason {
        let _ = write!(text, " ({reason})");
    }
    if let Some(waits_for) = waits_for {
        let _ = write!(text, " for {waits_for}");
    }
    if let Some(detail) = detail.filter(|detail| !detail.is_empty()) {
        let _ = write!(text, ": {detail}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_events::{EventId, Kind, Place, Rse};

    fn row(outcome: State) -> Row {
        Row {
            id: 17,
            event: EventId(0xabc),
            target: "main".into(),
            place: Place {
                stream: "T-raw".into(),
                partition: 2,
                offset: 40,
                line: None,
            },
            topic: Some("T-raw".into()),
            event_type: Some("transfer-done".into()),
            did: Some(Did::new("raw", "a/b.fits")),
            rse: Some(Rse::new("T")),
            kind: Some(Kind::RawFile),
            created_at: Some(Micros(1_000_000)),
            url: Some("davs://h/raw/a/b.fits".into()),
            uri: Some("/sps/raw/a/b.fits".into()),
            outcome,
            reason: None,
            detail: None,
            verified: Some("size".into()),
            attempts: 1,
            waits_for: None,
            not_before: None,
            waiting_since: None,
            first_seen_at: Micros(3_000_000),
            updated_at: Micros(5_000_000),
            took: Some(Duration::from_millis(1250)),
            tries: 2,
            generation: 1,
            appended_at: Some(Micros(2_000_000)),
            body: None,
        }
    }

    fn story(row: Row, history: Vec<Attempt>) -> String {
        let story = Story {
            did: Did::new("raw", "a/b.fits"),
            files: Vec::new(),
            events: vec![(row, history)],
        };
        text(&story, Path::new("site.yaml"), Micros(9_000_000))
    }

    #[test]
    fn the_word_given_is_a_did_a_uuid_or_a_url() {
        assert_eq!(
            selector("raw:a/b:c").unwrap(),
            Selector::Did(Did::new("raw", "a/b:c"))
        );
        assert!(matches!(
            selector("01890a5d-ac96-774b-bcce-b302099a8057").unwrap(),
            Selector::Uuid(_)
        ));
        assert!(matches!(
            selector("root://h:1094//raw/x").unwrap(),
            Selector::Url(_)
        ));
        assert!(matches!(selector("/sps/raw/x").unwrap(), Selector::Url(_)));
        assert_eq!(Exit::of(&selector("x.fits").unwrap_err().into()), Exit::Usage);
    }

    #[test]
    fn a_file_that_waits_tells_what_for_until_when_and_what_to_do() {
        let mut waiting = row(State::Waiting);
        waiting.waits_for = Some("dimension:exposure/LSSTCam/1".into());
        waiting.detail = Some("no record of exposure 1".into());
        waiting.not_before = Some(Micros(60_000_000));
        let body = r#"{"event_type": "transfer-done", "created_at": "1970-01-01 00:00:01",
            "payload": {"transferred_at": "1970-01-01 00:00:00.5"}}"#;
        waiting.body = Some(body.into());
        let earlier = Attempt {
            at: Micros(4_000_000),
            generation: 1,
            outcome: State::Waiting,
            reason: None,
            waits_for: Some("repository".into()),
            detail: Some("connection refused".into()),
            took: Some(Duration::from_millis(20)),
        };
        assert_eq!(
            story(waiting, vec![earlier]),
            "\
raw:a/b.fits

transfer-done 00000000000000000000000000000abc for main
  1970-01-01T00:00:00.500000Z  landed
  1970-01-01T00:00:01.000000Z  announced at T as davs://h/raw/a/b.fits
  1970-01-01T00:00:02.000000Z  appended to T-raw
  1970-01-01T00:00:03.000000Z  read from T-raw[2]@40
  1970-01-01T00:00:04.000000Z  waiting for repository: connection refused, took 0.020 s
  1970-01-01T00:00:05.000000Z  waiting for dimension:exposure/LSSTCam/1: no record of exposure 1, took 1.250 s
  1970-01-01T00:01:00.000000Z  next try, if not before; attempts that count: 1
  attempts made: 2
  next: it goes on by itself when a dimension file with that record arrives
"
        );
    }

    #[test]
    fn a_dead_letter_ends_with_the_command_that_retries_it() {
        let mut refused = row(State::Refused);
        refused.reason = Some("size_mismatch".into());
        refused.detail = Some("the file has 3 bytes, Rucio believes 4".into());
        let story = story(refused, Vec::new());
        assert!(
            story.contains(
                "  refused (size_mismatch): the file has 3 bytes, Rucio believes 4, took 1.250 s\n"
            ),
            "{story}"
        );
        assert!(
            story.contains("then: dbb dead-letters retry site.yaml 17 "),
            "{story}"
        );
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal_as_it_likes() {
        let mut nasty = row(State::Refused);
        nasty.detail = Some("\u{1b}[2J".into());
        assert!(!story(nasty, Vec::new()).contains('\u{1b}'));
    }

    #[test]
    fn what_is_well_needs_nothing() {
        assert!(!story(row(State::Ingested), Vec::new()).contains("next:"));
    }
}
