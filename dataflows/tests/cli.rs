//! The program as a script sees it: exit statuses, what is on standard output, what on standard error.
#![allow(clippy::unwrap_used)]

#[path = "cli/check.rs"]
mod check;
#[path = "cli/letters.rs"]
mod letters;

use dbb_events::{DeadLetter, Did, Entry, EventId, Micros, Place, Reason, Rse};
use dbb_sinks::ledger::{Ledger, LedgerSettings, Process, Who};
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
            process: Process::default(),
            version: "0".into(),
            started_at: Micros(0),
            instance: String::new(),
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
    let kept = "nothing that is kept tells of it: outcomes are kept for ever; ";
    assert!(ended.err.contains(kept), "{}", ended.err);
    assert_eq!(
        site.dbb(&["explain", "site.yaml", "raw:nothing", "--json"]).out,
        "[]\n"
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
