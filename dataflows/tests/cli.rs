//! The program as a script sees it: exit statuses, what is on standard output, what on standard error.
#![allow(clippy::unwrap_used)]

use dbb_events::{DeadLetter, Did, Entry, EventId, Micros, Place, Reason, Rse};
use dbb_sinks::ledger::{Ledger, LedgerSettings, Who};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

const SITE: &str = r#"
source: {log: {paths: [events]}}
ledger: {url: "sqlite:ledger.sqlite"}
rses:
  T_RAW_DISK: {prefixes: [{from: "davs://dtn.example.org:443/raw_disk/", to: "/"}]}
routes:
  - {rse: T_RAW_DISK, scope: raw, repositories: [main]}
repositories:
  main: {butler: /no/such/repository, worker: {command: [/no/such/python]}}
http: {listen: null}
"#;

const INGESTD: &str = "
brokers: [kafka.example.org:9092]
group_id: ingestd
butler_repo: /repo/main
topics:
  T_RAW_DISK-raw: {rucio_prefix: davs://dtn.example.org:443/raw_disk, fs_prefix: /sps}
";

/// A folder with `site.yaml` and, if given, events; commands run in it.
struct Site {
    folder: TempDir,
}

struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl Site {
    fn new(yaml: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("site.yaml"), yaml).unwrap();
        fs::create_dir(folder.path().join("events")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbb"));
        command.args(arguments).current_dir(self.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DBB_") || name == "CTRL_INGESTD_CONFIG" {
                command.env_remove(name);
            }
        }
        command
    }

    fn dbb(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// A ledger with two dead letters in it.
    fn with_dead_letters(self) -> Self {
        let url = format!("sqlite:{}", self.path().join("ledger.sqlite").display());
        let mut ledger = Ledger::open(&LedgerSettings {
            url,
            ..Default::default()
        })
        .unwrap();
        let who = Who {
            host: "h".into(),
            pid: 1,
            version: "0".into(),
            started_at: Micros(0),
        };
        let generation = ledger.begin_generation(&who).unwrap();
        let letters = [
            letter(
                1,
                "raw",
                "a/good.fits",
                Reason::FileMissing,
                "`/a/good.fits` is not there",
            ),
            letter(
                2,
                "raw",
                "a/bad.fits",
                Reason::BadSidecar,
                "field `id` is missing",
            ),
        ];
        let entries: Vec<_> = letters
            .into_iter()
            .map(|l| Entry::DeadLetter(Box::new(l)))
            .collect();
        ledger.write(generation, &entries).unwrap();
        self
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn letter(id: u128, scope: &str, name: &str, reason: Reason, detail: &str) -> DeadLetter {
    DeadLetter {
        event: EventId(id),
        target: "main".into(),
        place: Place {
            stream: "T_RAW_DISK-raw".into(),
            partition: 0,
            offset: id as u64,
            line: None,
        },
        topic: Some("T_RAW_DISK-raw".into()),
        event_type: Some("transfer-done".into()),
        did: Some(Did::new(scope, name)),
        rse: Some(Rse::new("T_RAW_DISK")),
        created_at: Some(Micros(1_000_000)),
        at: Micros(2_000_000),
        reason,
        detail: detail.into(),
        body: format!("{{\"event_type\": \"transfer-done\", \"n\": {id}}}").into(),
    }
}

fn event(rse: &str, scope: &str, url: &str) -> String {
    let sidecar = r#"{\"id\": \"01890a5d-ac96-774b-bcce-b302099a8057\", \"datasetType\": {\"name\": \"raw\", \"storageClass\": \"X\", \"dimensions\": [\"instrument\"]}, \"dataId\": {\"dataId\": {\"instrument\": \"I\"}}, \"run\": \"r\"}"#;
    format!(
        r#"{{"event_type": "transfer-done", "created_at": "2026-04-01 00:00:00.000000", "payload": {{"scope": "{scope}", "name": "x.fits", "dst-rse": "{rse}", "dst-url": "{url}", "rubin_butler": "raw_file", "rubin_sidecar": "{sidecar}"}}}}"#
    )
}

#[test]
fn no_command_or_an_unknown_one_is_usage() {
    let site = Site::new(SITE);
    assert_eq!(site.dbb(&[]).status, 2);
    let ended = site.dbb(&["chek"]);
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("check"), "{}", ended.err);
}

#[test]
fn a_wrong_configuration_ends_with_78_and_says_where() {
    let site = Site::new(&SITE.replace("routes:", "rutes:"));
    for command in ["run", "check"] {
        let ended = site.dbb(&[command, "site.yaml"]);
        assert_eq!((ended.status, ended.out.as_str()), (78, ""));
        assert_eq!(
            ended.err,
            "error: site.yaml:6:1: `rutes`: unknown key\nhint: did you mean `routes`?\n"
        );
    }
    let ended = site.dbb(&["check", "none.yaml"]);
    assert_eq!(ended.status, 78);
    assert_eq!(
        ended.err,
        "error: none.yaml: could not be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_wrong_override_names_the_variable() {
    let site = Site::new(SITE);
    let ended = ended(
        site.command(&["check", "site.yaml"])
            .env("DBB_BATCHING__MAX_DATASETS", "0"),
    );
    assert_eq!(ended.status, 78);
    assert_eq!(
        ended.err,
        "error: environment variable DBB_BATCHING__MAX_DATASETS: `batching.max_datasets`: must be 1 to 10000, not 0\n"
    );
    let ended = site.dbb(&["run", "site.yaml", "--workers", "0"]);
    assert_eq!(
        (ended.status, ended.err.as_str()),
        (78, "error: --set workers: `workers`: must be 1 to 64, not 0\n")
    );
}

#[test]
fn check_ticks_what_a_good_file_says() {
    let ended = Site::new(SITE).dbb(&["check", "site.yaml"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "\
✓ configuration site.yaml
✓ source: files events
✓ ledger: sqlite:ledger.sqlite
✓ route: T_RAW_DISK-raw to main
✓ repository main: /no/such/repository
"
    );
}

#[test]
fn check_accepts_a_ctrl_ingestd_file_named_by_its_variable() {
    let site = Site::new(INGESTD);
    let ended = ended(site.command(&["check"]).env("CTRL_INGESTD_CONFIG", "site.yaml"));
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "\
✓ configuration site.yaml, a file of ctrl_ingestd
✓ source: Kafka at kafka.example.org:9092 as group ingestd, topics T_RAW_DISK-raw
✓ ledger: sqlite:dbb-ledger.sqlite
✓ route: T_RAW_DISK-raw to main
✓ repository main: /repo/main
"
    );
}

#[test]
fn check_of_recorded_events_lists_what_could_not_be_routed_with_a_place() {
    let site = Site::new(SITE);
    let url = "davs://dtn.example.org:443/raw_disk/raw/x.fits";
    let events = [
        event("T_RAW_DISK", "raw", url),
        event("T_RAW_DISK", "other", url),
        event("T_RAW_DISK", "other", url),
        event("T_RAW_DISK", "raw", "davs://elsewhere/x.fits"),
        "not an event".into(),
        r#"{"event_type": "deletion-done", "created_at": "2026-04-01 00:00:00", "payload": {}}"#.into(),
    ];
    fs::write(site.path().join("events/a.ndjson"), events.join("\n")).unwrap();
    let ended = site.dbb(&["check", "site.yaml", "events/a.ndjson"]);
    assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
    let lines: Vec<_> = ended.out.lines().skip(5).collect();
    assert_eq!(
        lines[..3],
        [
            "✓ 6 recorded events read",
            "✓ 1 go to main",
            "  1 not for us: other_event_type"
        ]
    );
    assert!(
        lines[3].starts_with("✗ 1 unreadable, as at events/a.ndjson:5: "),
        "{lines:?}"
    );
    let unmapped =
        "✗ 2 unmapped, as at events/a.ndjson:2: no route for files of scope `other` on RSE `T_RAW_DISK`";
    assert_eq!(lines[4], unmapped);
    assert!(
        lines[5].starts_with("✗ 1 unknown_prefix, as at events/a.ndjson:4: "),
        "{lines:?}"
    );
}

#[test]
fn check_of_what_does_not_answer_ends_with_69() {
    let site = Site::new(&SITE.replace("sqlite:ledger.sqlite", "postgres://me@127.0.0.1:1/ledger"));
    let ended = site.dbb(&["check", "site.yaml", "--connect"]);
    assert_eq!(ended.status, 69, "{}{}", ended.out, ended.err);
    assert!(
        ended
            .out
            .contains("✗ ledger postgres://me@127.0.0.1:1/ledger: the ledger"),
        "{}",
        ended.out
    );
    // It goes on after what is wrong.
    assert!(
        ended
            .out
            .contains("✗ repository main: could not start the Butler worker"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("hint: set worker.command of the repository"),
        "{}",
        ended.out
    );
}

#[test]
fn check_of_what_someone_must_change_ends_with_1() {
    let ended = Site::new(SITE).dbb(&["check", "site.yaml", "--connect"]);
    assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
    assert!(
        ended
            .out
            .contains("✓ ledger sqlite:ledger.sqlite is to be made at the first run\n"),
        "{}",
        ended.out
    );
}

#[test]
fn a_port_in_use_is_named_and_ends_with_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Site::new(&SITE.replace("listen: null", &format!("listen: \"{address}\"")));
    let ended = site.dbb(&["run", "site.yaml", "--run-once"]);
    assert_eq!(ended.status, 69, "{}", ended.err);
    assert!(
        ended.err.contains(&format!(
            "error: could not listen on `{address}` for health and metrics\n"
        )),
        "{}",
        ended.err
    );
}

#[test]
fn explain_without_a_ledger_or_with_a_word_that_means_nothing_says_so() {
    let site = Site::new(SITE);
    let ended = site.dbb(&["explain", "site.yaml", "raw:x.fits"]);
    assert_eq!(ended.status, 78);
    assert!(
        ended
            .err
            .starts_with("error: there is no ledger at `ledger.sqlite`\nhint: "),
        "{}",
        ended.err
    );
    let ended = site.dbb(&["explain", "site.yaml", "x.fits"]);
    assert_eq!(ended.status, 2);
    assert_eq!(
        ended.err,
        "error: `x.fits` is neither SCOPE:NAME nor a UUID nor a URL\n\
         hint: write for instance raw:LSSTCam/20260401/file.fits\n"
    );
}

#[test]
fn explain_tells_the_story_and_the_next_command() {
    let site = Site::new(SITE).with_dead_letters();
    let ended = site.dbb(&["explain", "site.yaml", "raw:a/good.fits"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    for line in [
        "raw:a/good.fits\n",
        "  refused (file_missing): `/a/good.fits` is not there\n",
        "then: dbb dead-letters retry site.yaml 1 ",
    ] {
        assert!(ended.out.contains(line), "{line} is not in\n{}", ended.out);
    }
    let ended = site.dbb(&["explain", "site.yaml", "raw:a/good.fits", "--json"]);
    let stories: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(stories[0]["events"][0]["reason"], "file_missing");
    assert_eq!(
        stories[0]["events"][0]["updated_at"],
        "1970-01-01T00:00:02.000000Z"
    );
}

#[test]
fn a_file_that_nobody_heard_of_is_a_problem_with_a_reason() {
    let site = Site::new(SITE).with_dead_letters();
    let ended = site.dbb(&["explain", "site.yaml", "raw:nothing"]);
    assert_eq!((ended.status, ended.out.as_str()), (1, ""));
    assert!(
        ended
            .err
            .starts_with("error: the ledger does not know `raw:nothing`\nhint: "),
        "{}",
        ended.err
    );
    assert_eq!(
        site.dbb(&["explain", "site.yaml", "raw:nothing", "--json"]).out,
        "[]\n"
    );
}

#[test]
fn dead_letters_are_listed_counted_and_shown() {
    let site = Site::new(SITE).with_dead_letters();
    let ended = site.dbb(&["dead-letters", "list", "site.yaml"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "\
id  at                    repository  reason        file             why
 2  1970-01-01T00:00:02Z  main        bad_sidecar   raw:a/bad.fits   field `id` is missing
 1  1970-01-01T00:00:02Z  main        file_missing  raw:a/good.fits  `/a/good.fits` is not there
"
    );
    let ended = site.dbb(&["dead-letters", "list", "site.yaml", "--by", "reason"]);
    assert_eq!(
        ended.out,
        "reason        dead letters\nbad_sidecar              1\nfile_missing             1\n"
    );
    let ended = site.dbb(&[
        "dead-letters",
        "list",
        "site.yaml",
        "--reason",
        "bad_sidecar",
        "--json",
    ]);
    let letters: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (letters.as_array().unwrap().len(), &letters[0]["id"]),
        (1, &2.into())
    );
    let ended = site.dbb(&["dead-letters", "show", "site.yaml", "1"]);
    assert!(
        ended
            .out
            .contains("{\"event_type\": \"transfer-done\", \"n\": 1}"),
        "{}",
        ended.out
    );
    assert_eq!(site.dbb(&["dead-letters", "show", "site.yaml", "99"]).status, 1);
    let ended = site.dbb(&["dead-letters", "list", "site.yaml", "--reason", "bad_sidcar"]);
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("did you mean `bad_sidecar`?"), "{}", ended.err);
}

#[test]
fn dead_letters_are_retried_by_number_reason_or_all() {
    let site = Site::new(SITE).with_dead_letters();
    assert_eq!(site.dbb(&["dead-letters", "retry", "site.yaml"]).status, 2);
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "1"]);
    assert!(
        ended.out.starts_with("1 to be tried again"),
        "{}{}",
        ended.out,
        ended.err
    );
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "1"]);
    assert_eq!(ended.status, 1);
    assert!(
        ended
            .err
            .starts_with("error: 1 of the numbers given are no dead letters"),
        "{}",
        ended.err
    );
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "--reason", "bad_sidecar"]);
    assert!(ended.out.starts_with("1 to be tried again"), "{}", ended.out);
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "--all"]);
    assert!(ended.out.starts_with("0 to be tried again"), "{}", ended.out);
    let ended = site.dbb(&["ledger", "summary", "site.yaml", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let expected = serde_json::json!([
        {"rse": "T_RAW_DISK", "repository": "main", "outcome": "waiting", "events": 2}
    ]);
    assert_eq!(summary["outcomes"], expected);
}

#[test]
fn exported_events_can_be_read_as_recorded_ones() {
    let site = Site::new(SITE).with_dead_letters();
    let ended = site.dbb(&["dead-letters", "export", "site.yaml", "--events"]);
    let line: serde_json::Value = serde_json::from_str(ended.out.lines().next().unwrap()).unwrap();
    assert_eq!(line["topic"], "T_RAW_DISK-raw");
    assert_eq!(line["value"], "{\"event_type\": \"transfer-done\", \"n\": 2}");
    fs::write(site.path().join("events/again.ndjson"), &ended.out).unwrap();
    let ended = site.dbb(&["check", "site.yaml", "events/again.ndjson"]);
    assert!(ended.out.contains("2 recorded events read"), "{}", ended.out);
    assert_eq!(
        site.dbb(&["dead-letters", "export", "site.yaml"])
            .out
            .lines()
            .count(),
        2
    );
}

#[test]
fn migrate_makes_a_ledger_and_then_has_nothing_to_do() {
    let site = Site::new(SITE);
    let ended = site.dbb(&["ledger", "migrate", "site.yaml"]);
    assert!(
        ended
            .out
            .starts_with("ledger sqlite:ledger.sqlite made with schema "),
        "{}{}",
        ended.out,
        ended.err
    );
    let ended = site.dbb(&["ledger", "migrate", "site.yaml"]);
    assert!(ended.out.ends_with(" already\n"), "{}", ended.out);
}

#[test]
fn schema_reference_and_completions_are_data() {
    let site = Site::new(SITE);
    let schema: serde_json::Value = serde_json::from_str(&site.dbb(&["config", "schema"]).out).unwrap();
    assert_eq!(schema["title"], "dbb configuration");
    assert!(
        site.dbb(&["config", "reference"])
            .out
            .starts_with("# Configuration\n")
    );
    assert!(site.dbb(&["completions", "bash"]).out.contains("dead-letters"));
}
